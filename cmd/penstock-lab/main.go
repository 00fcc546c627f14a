// Command penstock-lab is the laboratory: virtual pumps on virtual serial
// ports, the demo, and the benchmarks.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"penstock/internal/cli"
	"penstock/internal/lab"
	"penstock/internal/lab/bench"
)

var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := cli.Program{
		Name:    "penstock-lab",
		Version: version,
		Help:    "The laboratory of Penstock: virtual pumps, the demo, the benchmarks.",
		Commands: []cli.Command{
			{Name: "demo", Help: "bring up a living plant on this machine and say where to look", Setup: demo},
			{Name: "pumps", Help: "run virtual pumps on a virtual serial port\n\nThe port is a link to a pty; every answer is written to the served log.", Setup: pumps},
			{Name: "bench list", Help: "name the benchmarks", Setup: benchList},
			{Name: "bench", Args: "NAME", Help: "measure; -json prints one object a line", Setup: benchRun},
		},
	}
	os.Exit(program.Run(ctx, cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
}

func demo(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	o := lab.DemoOptions{}
	fs.StringVar(&o.Dir, "state", "", "keep everything in `DIR` (default: a temporary folder that goes at the end)")
	fs.DurationVar(&o.ExitAfter, "exit-after", 0, "end by itself after `DURATION`")
	fs.BoolVar(&o.JSON, "json", false, "print only the summary, as one JSON object")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		o.Out = env.Stdout
		sum, err := lab.Demo(ctx, o)
		if err != nil {
			return err
		}
		if !sum.OK() {
			fmt.Fprintln(env.Stderr, "penstock-lab demo: the run did not keep its promises; see the summary above")
			return cli.ErrSilent
		}
		return nil
	}
}

func pumps(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	var o lab.PumpsOptions
	fs.StringVar(&o.Link, "link", "", "make the serial port appear as `PATH`")
	fs.StringVar(&o.Served, "served", "", "write what was served to `FILE`, one JSON object a line")
	fs.StringVar(&o.File, "line", "", "describe the line in the YAML `FILE`: mode, pumps, faults, scenario")
	fs.StringVar(&o.Pumps, "pumps", "", "`NUMBER` of pumps, or MODEL[@ADDRESS][:local] with commas between (models: "+strings.Join(lab.PumpModels(), ", ")+"); 2 if nothing is said")
	fs.StringVar(&o.Protocol, "protocol", "", "what the pumps speak: `modbus` (as if nothing is said) or genibus")
	fs.StringVar(&o.Mode, "speed", "", "`SPEED` and format of the line, such as 9600 or \"38400 8N2\"")
	fs.DurationVar(&o.Turnaround, "turnaround", 0, "`TIME` that a pump thinks before it answers (default 5ms)")
	fs.Int64Var(&o.Seed, "seed", 0, "seed of noise and faults")
	fs.StringVar(&o.Faults, "faults", "", "faults on demand, such as late=0.01:300ms,flip.2=0.02,unplug=@500:2s")
	fs.StringVar(&o.Scenario, "scenario", "", "what happens, as ADDRESS:CAUSE:AT[:FOR[:EVERY]] with commas between, such as 1:dry_running:20s:15s:2m (causes: "+strings.Join(lab.PumpCauses(), ", ")+")")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		if o.Link == "" && o.File == "" {
			return cli.Usagef("-link is required: where the serial port shall appear; or -line FILE")
		}
		return lab.RunPumps(ctx, o, env.Stdout)
	}
}

func benchList(*flag.FlagSet) func(context.Context, cli.Env, []string) error {
	return func(_ context.Context, env cli.Env, _ []string) error {
		for _, b := range bench.List() {
			fmt.Fprintf(env.Stdout, "%-14s %s\n", b.Name, b.Summary)
		}
		return nil
	}
}

func benchRun(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	asJSON := fs.Bool("json", false, "one JSON object a line")
	limit := fs.Duration("limit", 30*time.Minute, "give up after `DURATION`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which benchmark? penstock-lab bench list names them")
		}
		b, ok := bench.Find(args[0])
		if !ok {
			return cli.Usagef("there is no benchmark %q; penstock-lab bench list names them", args[0])
		}
		ctx, cancel := context.WithTimeout(ctx, *limit)
		defer cancel()
		return b.Write(ctx, env.Stdout, *asJSON)
	}
}
