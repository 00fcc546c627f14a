package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"penstock/internal/cli"
	"penstock/internal/config"
	"penstock/internal/gateway"
)

// busCommands open a serial line themselves: a laptop, an adapter and a pump
// are all that they need.
var busCommands = []cli.Command{
	{Name: "scan", Help: "find the devices on a line", Setup: scan},
	{Name: "read", Args: "REGISTER [COUNT]", Help: "read holding registers of a device\n\n" +
		"REGISTER is the number as documents print it: 304 is speed.", Setup: read},
	{Name: "write", Args: "REGISTER VALUE", Help: "write a register of a device and read it back", Setup: write},
	{Name: "watch", Help: "show the live values of a pump", Setup: watch},
}

// lineFlags declares the flags that say which line and how it is set.
func lineFlags(fs *flag.FlagSet) func() (gateway.LineOptions, error) {
	var o gateway.LineOptions
	fs.StringVar(&o.Port, "port", "", "the serial `DEVICE`, such as /dev/ttyUSB0")
	fs.IntVar(&o.Speed, "speed", 19200, "bit rate: "+strings.Trim(fmt.Sprint(config.Speeds), "[]"))
	fs.StringVar(&o.Parity, "parity", "even", "none, even or odd")
	fs.IntVar(&o.StopBits, "stop", 1, "stop bits: 1 or 2")
	profiles := familiesFlag(fs)
	return func() (gateway.LineOptions, error) {
		if o.Port == "" {
			return o, cli.Usagef("-port is required, such as -port /dev/ttyUSB0")
		}
		var err error
		if o.Families, err = gateway.Families(*profiles); err != nil {
			return o, &cli.UsageError{Err: err}
		}
		return o, nil
	}
}

func scan(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := lineFlags(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		return gateway.Scan(ctx, o, env.Stdout)
	}
}

func read(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := lineFlags(fs)
	address := fs.Int("address", 1, "the device's address, 1 to 247")
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) < 1 || len(args) > 2 {
			return cli.Usagef("which register? penstock read -port DEVICE REGISTER [COUNT]")
		}
		register, err := number("REGISTER", args[0], 1, 65536)
		if err != nil {
			return err
		}
		count := 1
		if len(args) == 2 {
			if count, err = number("COUNT", args[1], 1, 125); err != nil {
				return err
			}
		}
		return gateway.Read(ctx, o, *address, register, count, env.Stdout)
	}
}

func write(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := lineFlags(fs)
	address := fs.Int("address", 1, "the device's address, 1 to 247")
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) != 2 {
			return cli.Usagef("penstock write -port DEVICE REGISTER VALUE")
		}
		register, err := number("REGISTER", args[0], 1, 65536)
		if err != nil {
			return err
		}
		value, err := number("VALUE", args[1], 0, 65535)
		if err != nil {
			return err
		}
		return gateway.Write(ctx, o, *address, register, uint16(value), env.Stdout)
	}
}

func watch(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := lineFlags(fs)
	address := fs.Int("address", 1, "the device's address, 1 to 247")
	profile := fs.String("profile", "cim-epump", "the pump's family; a name that does not exist lists them")
	length := fs.Duration("for", 0, "end after `DURATION` (default: until Ctrl-C)")
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		if *length > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, *length)
			defer cancel()
		}
		return gateway.Watch(ctx, o, *address, *profile, env.Stdout, time.Second)
	}
}

func number(what, text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, cli.Usagef("%s is %q; allowed: a whole number from %d to %d", what, text, low, high)
	}
	return n, nil
}
