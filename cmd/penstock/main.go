// Command penstock is the firmware of a pump gateway: one static binary that
// polls pumps, keeps their readings on disk and sends them to its endpoint.
//
// The same binary is the technician's tool: scan, read, write and watch work
// from a laptop with an adapter, with no identity, configuration or backend.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"penstock/internal/cli"
	"penstock/internal/config"
	"penstock/internal/gateway"
	"penstock/internal/local"
	"penstock/internal/status"
)

var version = "dev"

// defaultState is where the gateway keeps what must survive.
const defaultState = "/var/lib/penstock"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := cli.Program{
		Name:    "penstock",
		Version: version,
		Help:    "Penstock, the firmware of a pump gateway.",
		Commands: append([]cli.Command{
			{Name: "run", Help: "run the gateway", Setup: run},
			{Name: "status", Help: "show the running gateway on one screen", Setup: showStatus},
			provisionCommand,
		}, busCommands...),
	}
	os.Exit(program.Run(ctx, cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
}

func run(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := fs.String("state", defaultState, "keep what must survive in `DIR`")
	file := fs.String("config", config.DefaultFile, "the configuration `FILE`; optional at its usual place")
	profiles := familiesFlag(fs)
	socket := fs.String("socket", local.DefaultSocket, "the local socket's `PATH`")
	level := slog.LevelInfo
	fs.TextVar(&level, "log", slog.LevelInfo, "log `LEVEL`: debug, info, warn or error")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		named := false
		fs.Visit(func(f *flag.Flag) { named = named || f.Name == "config" })
		known, err := gateway.Families(*profiles)
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		cfg, err := config.Load(*file, named, known.Names())
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
		for {
			g, err := gateway.New(gateway.Options{State: *state, Config: cfg, Families: known, Version: version, Log: log})
			if err != nil {
				return err
			}
			if err := g.Run(ctx, *socket); !errors.Is(err, gateway.ErrFound) {
				return err
			}
		}
	}
}

func familiesFlag(fs *flag.FlagSet) *string {
	return fs.String("profiles", gateway.DefaultFamilies, "the folder `DIR` of pump families of your own")
}

func showStatus(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	socket := fs.String("socket", local.DefaultSocket, "the local socket's `PATH`")
	asJSON := fs.Bool("json", false, "the whole snapshot as JSON")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		s, err := local.Status(ctx, *socket)
		if err != nil {
			return err
		}
		if *asJSON {
			enc := json.NewEncoder(env.Stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(s)
		}
		return status.Write(env.Stdout, s)
	}
}
