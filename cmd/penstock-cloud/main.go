// Command penstock-cloud is the backend: authorities, auth service, endpoint and
// web page in one process, on one SQLite file.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"penstock/backend"
	"penstock/backend/access"
	"penstock/backend/store"
	"penstock/internal/cli"
)

var version = "dev"

const defaultState = "/var/lib/penstock-cloud"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := cli.Program{
		Name:    "penstock-cloud",
		Version: version,
		Help:    "The backend of Penstock: authorities, auth service, endpoint, web page.",
		Commands: slices.Concat([]cli.Command{
			{Name: "serve", Help: "serve gateways and people", Setup: serve},
		}, caCommands, []cli.Command{
			{Name: "command", Args: "SERIAL PUMP COMMAND [VALUE]", Help: "ask a gateway for a change on a pump, and wait for what becomes of it\n\n" +
				"For example: penstock-cloud command PSK-0001 bus1-1 setpoint 55%. The result is what the\n" +
				"pump showed when it was read again. A gateway that is away gets the command when it comes\n" +
				"back, unless -for has passed by then.", Setup: command},
			{Name: "command list", Args: "SERIAL", Help: "list the latest commands of a gateway", Setup: listCommands},
			{Name: "time confirm", Help: "say that this machine's clock is right\n\n" +
				"The backend signs no time for gateways after its clock has jumped, or where it is a week\n" +
				"ahead of the last time that it signed. Set the clock right first: a gateway never goes\n" +
				"back behind a time that was signed.", Setup: confirmTime},
			{Name: "user add", Args: "EMAIL", Help: "make an account; the password is read from standard input", Setup: addUser},
			{Name: "user password", Args: "EMAIL", Help: "give an account another password, read from standard input", Setup: setPassword},
		}),
	}
	os.Exit(program.Run(ctx, cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
}

func stateFlag(fs *flag.FlagSet) *string {
	return fs.String("state", defaultState, "keep what must survive in `DIR`")
}

func serve(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	cfg := backend.Config{}
	state := stateFlag(fs)
	hosts := fs.String("hosts", "localhost,127.0.0.1", "`NAMES` and addresses that the backend is called by, separated by commas; gateways get the first as their endpoint")
	fs.StringVar(&cfg.Auth, "auth", ":8443", "`ADDRESS` of the auth service")
	fs.StringVar(&cfg.Endpoint, "endpoint", ":8883", "`ADDRESS` of the endpoint")
	fs.StringVar(&cfg.Web, "web", ":8444", "`ADDRESS` of the web page")
	fs.DurationVar(&cfg.CertificateLife, "certificate-life", backend.CertificateLife, "how long a gateway's operational certificate is good; gateways renew it from 60 % of that on")
	fs.StringVar(&cfg.Ready, "ready", "", "write the addresses to `FILE` once all of them listen")
	level := slog.LevelInfo
	fs.TextVar(&level, "log", slog.LevelInfo, "log `LEVEL`: debug, info, warn or error")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		for h := range strings.SplitSeq(*hosts, ",") {
			if h = strings.TrimSpace(h); h != "" {
				cfg.Hosts = append(cfg.Hosts, h)
			}
		}
		if len(cfg.Hosts) == 0 {
			return cli.Usagef("-hosts is empty; name what the backend is called by")
		}
		if cfg.CertificateLife < shortestLife {
			return cli.Usagef("-certificate-life %v is too short to renew anything; allowed: %v and more", cfg.CertificateLife, shortestLife)
		}
		cfg.State = *state
		cfg.Log = slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
		return backend.Serve(ctx, cfg)
	}
}

// shortestLife is that of a certificate which somebody wants to see renewed.
const shortestLife = 10 * time.Second

// quiet is the log of a command whose output a person reads.
var quiet = slog.New(slog.DiscardHandler)

// withStore runs f on the backend's database, while a server may be using it.
func withStore(ctx context.Context, state string, f func(db *store.Store) error) error {
	db, err := backend.OpenStore(ctx, state, quiet)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

func addUser(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	role := fs.String("role", string(access.Administrator), "what the account may do: administrator or viewer")
	return account(state, func(ctx context.Context, a *access.Accounts, email, password string) error {
		_, err := a.Add(ctx, email, password, access.Role(*role))
		return err
	})
}

func confirmTime(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(_ context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		now := time.Now()
		if err := backend.ConfirmTime(*state, now); err != nil {
			return err
		}
		_, err := fmt.Fprintf(env.Stdout, "confirmed: it is %s\n", now.UTC().Format("2006-01-02 15:04:05 UTC"))
		return err
	}
}

func setPassword(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	return account(stateFlag(fs), func(ctx context.Context, a *access.Accounts, email, password string) error {
		return a.SetPassword(ctx, email, password)
	})
}

// account is a command about one account, with a password.
func account(state *string, do func(ctx context.Context, a *access.Accounts, email, password string) error) func(context.Context, cli.Env, []string) error {
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which account? give its email")
		}
		password, err := bufio.NewReader(env.Stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the password: %w", err)
		}
		password = strings.TrimRight(password, "\r\n")
		if password == "" {
			return cli.Usagef("the password is read from standard input, and there was none")
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			a, err := backend.OpenAccounts(db, quiet)
			if err != nil {
				return err
			}
			if err := do(ctx, a, args[0], password); err != nil {
				return err
			}
			fmt.Fprintf(env.Stdout, "%s may sign in\n", args[0])
			return nil
		})
	}
}
