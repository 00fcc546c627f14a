package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"time"

	"penstock/internal/cli"
	"penstock/internal/gateway"
	"penstock/internal/local"
	"penstock/internal/status"
)

// pumpFlags declare which pump is meant: an address and a family on a line of
// one's own, or a pump of the gateway that runs here.
type pumpFlags struct {
	address      *int
	family       *string
	pump, socket *string
	line         func() (gateway.LineOptions, error)
	flags        *flag.FlagSet
}

func declarePump(fs *flag.FlagSet) pumpFlags {
	return pumpFlags{
		line:    pacedLineFlags(fs),
		address: fs.Int("address", 1, "the device's address, 1 to 247"),
		family:  fs.String("profile", "cim-epump", "the pump's family; a name that does not exist lists them"),
		pump:    fs.String("pump", "", "a pump of the gateway that runs here, by its `ID` as `penstock status` shows it"),
		socket:  fs.String("socket", local.DefaultSocket, "the local socket's `PATH`"),
		flags:   fs,
	}
}

// onOwnLine tells whether -port was given.
func (p pumpFlags) onOwnLine() bool { return p.flags.Lookup("port").Value.String() != "" }

func (p pumpFlags) check() error {
	if p.onOwnLine() == (*p.pump != "") {
		return cli.Usagef("which pump? give -port DEVICE and -address N, or -pump ID of the gateway that runs here")
	}
	return nil
}

func write(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	p := declarePump(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return cli.Usagef("write what? penstock write COMMAND [VALUE], or REGISTER VALUE")
		}
		if err := p.check(); err != nil {
			return err
		}
		value := ""
		if len(args) == 2 {
			value = args[1]
		}
		if !p.onOwnLine() {
			text, err := local.Command(ctx, *p.socket, *p.pump, args[0], value)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Stdout, "%s: %s shows %s\n", args[0], *p.pump, text)
			return nil
		}
		o, err := p.line()
		if err != nil {
			return err
		}
		if _, err := strconv.Atoi(args[0]); err != nil {
			return gateway.Command(ctx, o, *p.address, *p.family, args[0], value, env.Stdout)
		}
		register, err := number("REGISTER", args[0], 1, 65536)
		if err != nil {
			return err
		}
		raw, err := number("VALUE", value, 0, 65535)
		if err != nil {
			return err
		}
		return gateway.Write(ctx, o, *p.address, register, uint16(raw), env.Stdout)
	}
}

func watch(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	p := declarePump(fs)
	length := fs.Duration("for", 0, "end after `DURATION` (default: until Ctrl-C)")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		if err := p.check(); err != nil {
			return err
		}
		if *length > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, *length)
			defer cancel()
		}
		if !p.onOwnLine() {
			return watchGateway(ctx, env, *p.socket, *p.pump)
		}
		o, err := p.line()
		if err != nil {
			return err
		}
		return gateway.Watch(ctx, o, *p.address, *p.family, env.Stdout, time.Second)
	}
}

// watchGateway shows a pump of the gateway that runs here, once a second until ctx
// ends.
func watchGateway(ctx context.Context, env cli.Env, socket, pump string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := local.Status(ctx, socket)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := status.WritePump(env.Stdout, s, pump); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func showBus(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	p := declarePump(fs)
	length := fs.Duration("for", 10*time.Second, "with -port: poll for `DURATION`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		if p.onOwnLine() {
			o, err := p.line()
			if err != nil {
				return err
			}
			return gateway.Occupancy(ctx, o, *p.address, *p.family, env.Stdout, *length)
		}
		s, err := local.Status(ctx, *p.socket)
		if err != nil {
			return err
		}
		if len(s.Buses) == 0 {
			fmt.Fprintln(env.Stdout, "no bus is configured")
		}
		for i, b := range s.Buses {
			if i > 0 {
				fmt.Fprintln(env.Stdout)
			}
			if err := status.WriteBus(env.Stdout, b, s.Time); err != nil {
				return err
			}
		}
		return nil
	}
}
