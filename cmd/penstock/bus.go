package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"penstock/internal/cli"
	"penstock/internal/config"
	"penstock/internal/gateway"
)

// busCommands are about a serial line and its pumps. With -port they open the line
// themselves: a laptop, an adapter and a pump are all that they need. Those that
// can do without ask the gateway that runs here.
var busCommands = []cli.Command{
	{Name: "scan", Help: "find the devices on a line\n\n" +
		"It listens for ten seconds before it asks, and stops where another master is at work.\n" +
		"Without -speed, -parity or -stop all the usual ones are tried, the factory settings\n" +
		"first: those take half a minute, everything ten.", Setup: scan},
	{Name: "address", Args: "OLD NEW", Help: "give a GENIbus unit another address\n\n" +
		"Addresses are 32 to 231: the number on the pump's display and 31; 231 is the factory's.\n" +
		"Nobody may have the new one, and the unit is asked at it before this is called done.", Setup: setAddress},
	{Name: "read", Args: "REGISTER [COUNT]", Help: "read registers, coils or inputs of a device\n\n" +
		"REGISTER is the number as documents print it: 304 is speed.", Setup: read},
	{Name: "write", Args: "COMMAND [VALUE] | REGISTER VALUE", Help: "ask a pump for a change, and see that it follows\n\n" +
		"COMMAND is one of the pump's family: setpoint 55, running off, control_mode \"constant\n" +
		"pressure\", access remote, reset_alarm. A number is a register, as documents print it,\n" +
		"and -port is required. With -pump, the gateway that runs here is asked.", Setup: write},
	{Name: "watch", Help: "show the live values of a pump\n\n" +
		"Of the line at -port, or, with -pump, of the gateway that runs here.", Setup: watch},
	{Name: "bus", Help: "show how a bus spends its time, planned and measured\n\n" +
		"Of the gateway that runs here, or, with -port, of one pump on that line.", Setup: showBus},
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

// pacedLineFlags declares, besides, what is known of the pace of the devices there.
func pacedLineFlags(fs *flag.FlagSet) func() (gateway.LineOptions, error) {
	line := lineFlags(fs)
	delay := fs.Duration("reply-delay", 0, "what a device on Modbus waits before each answer, such as 300ms, at most 10s (default: what its family says, and what is learnt)")
	pause := fs.Duration("pause", 0, "how long a device on Modbus has to be left alone after each answer, such as 50ms, at most 1s (default: as above)")
	return func() (gateway.LineOptions, error) {
		o, err := line()
		if err != nil {
			return o, err
		}
		if *delay < 0 || *delay > config.LongestReplyDelay {
			return o, cli.Usagef("-reply-delay %v; allowed: 0s to %v", *delay, config.LongestReplyDelay)
		}
		if *pause < 0 || *pause > config.LongestPause {
			return o, cli.Usagef("-pause %v; allowed: 0s to %v", *pause, config.LongestPause)
		}
		o.ReplyDelay, o.Pause = *delay, *pause
		return o, nil
	}
}

func scan(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := pacedLineFlags(fs)
	protocol := fs.String("protocol", "both", "modbus, genibus, or both")
	verbose := fs.Bool("v", false, "say what is read, what is not certain, and how each fact is known")
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		wanted := gateway.ScanOptions{LineOptions: o, Verbose: *verbose}
		fs.Visit(func(f *flag.Flag) {
			wanted.OneMode = wanted.OneMode || f.Name == "speed" || f.Name == "parity" || f.Name == "stop"
		})
		switch *protocol {
		case "modbus":
			return gateway.Scan(ctx, wanted, env.Stdout)
		case "genibus":
			return gateway.ScanGenibus(ctx, o, *verbose, env.Stdout)
		case "both":
			return gateway.ScanBoth(ctx, wanted, env.Stdout)
		}
		return cli.Usagef("-protocol %q; allowed: modbus, genibus, both", *protocol)
	}
}

func setAddress(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := lineFlags(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		o, err := line()
		if err != nil {
			return err
		}
		if len(args) != 2 {
			return cli.Usagef("which addresses? penstock address -port DEVICE OLD NEW")
		}
		var at [2]int
		for i, name := range []string{"OLD", "NEW"} {
			if at[i], err = number(name, args[i], 32, 231); err != nil {
				return err
			}
		}
		return gateway.SetAddress(ctx, o, byte(at[0]), byte(at[1]), env.Stdout)
	}
}

func read(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	line := pacedLineFlags(fs)
	address := fs.Int("address", 1, "the device's address, 1 to 247")
	function := fs.Int("function", 0, "1 reads coils, 2 discrete inputs, 3 holding registers, 4 input registers (default: 3, and 4 where the device does not know 3)")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if *function < 0 || *function > 4 {
			return cli.Usagef("-function %d; allowed: 1, 2, 3, 4", *function)
		}
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
		return gateway.Read(ctx, o, *address, *function, register, count, env.Stdout)
	}
}

func number(what, text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, cli.Usagef("%s is %q; allowed: a whole number from %d to %d", what, text, low, high)
	}
	return n, nil
}
