// Package cli runs a program's commands on the standard library's flag
// package.
//
// Flags may stand before or after the arguments and with one dash or two:
// `penstock scan -port /dev/ttyUSB0` and `penstock read 304 --port /dev/ttyUSB0`
// are the same to it. A command-line framework would be the firmware's largest
// dependency; this is the part of one that Penstock uses.
//
// Exit statuses: 0 done, 1 failed, 2 the command line or a configuration file
// was wrong.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Env is what a command sees of the world.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Command is one verb. A Name of two words ("ca issue") is a verb of a group.
type Command struct {
	Name string
	Args string // shown in the usage line, e.g. "REGISTER [COUNT]"
	Help string // the first line is the summary
	// Setup declares flags and returns what runs once they are parsed.
	Setup func(fs *flag.FlagSet) func(ctx context.Context, env Env, args []string) error
}

// Program is a named set of commands.
type Program struct {
	Name     string
	Help     string
	Version  string
	Commands []Command
}

// UsageError is a mistake of the caller: exit status 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// ErrSilent is an error whose message has been shown already; only the exit
// status is left of it.
var ErrSilent = errors.New("failed")

// Run executes the command line args (without the program's name) and returns
// the exit status.
func (p *Program) Run(ctx context.Context, env Env, args []string) int {
	if len(args) == 0 || isHelp(args[0]) {
		p.usage(env.Stdout, args)
		if len(args) == 0 {
			return 2
		}
		return 0
	}
	if v := strings.TrimLeft(args[0], "-"); v == "version" {
		fmt.Fprintln(env.Stdout, p.Name, p.Version)
		return 0
	}
	cmd, rest := p.find(args)
	if cmd == nil {
		if p.isGroup(args[0]) {
			p.usage(env.Stderr, args)
			return 2
		}
		fmt.Fprintf(env.Stderr, "%s: there is no command %q; see %s help\n", p.Name, args[0], p.Name)
		return 2
	}
	fs := flag.NewFlagSet(p.Name+" "+cmd.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	run := cmd.Setup(fs)
	pos, err := parse(fs, rest)
	if errors.Is(err, flag.ErrHelp) {
		cmd.usage(env.Stdout, fs)
		return 0
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v; see %s -help\n", fs.Name(), err, fs.Name())
		return 2
	}
	switch err := run(ctx, env, pos); {
	case err == nil:
		return 0
	case errors.Is(err, ErrSilent):
		return 1
	default:
		fmt.Fprintf(env.Stderr, "%s: %v\n", fs.Name(), err)
		var usage *UsageError
		if errors.As(err, &usage) {
			return 2
		}
		return 1
	}
}

// parse lets flags stand anywhere among the arguments; "--" ends them. A negative
// number is an argument and no flag.
func parse(fs *flag.FlagSet, args []string) (pos []string, err error) {
	for {
		number := negative(fs, args)
		if err := fs.Parse(args[:number]); err != nil {
			return nil, err
		}
		rest := args[number-fs.NArg():]
		if used := len(args) - len(rest); used > 0 && args[used-1] == "--" {
			return append(pos, rest...), nil
		}
		if len(rest) == 0 {
			return pos, nil
		}
		pos = append(pos, rest[0])
		args = rest[1:]
	}
}

// negative returns the place of the first negative number that is not the value of
// a flag, or else the number of arguments.
func negative(fs *flag.FlagSet, args []string) int {
	for i, a := range args {
		if len(a) < 2 || a[0] != '-' || strings.Trim(a[1:2], "0123456789.") != "" {
			continue
		}
		if i == 0 || !takesValue(fs, args[i-1]) {
			return i
		}
	}
	return len(args)
}

// takesValue tells whether an argument is a flag whose value is the next one.
func takesValue(fs *flag.FlagSet, arg string) bool {
	name, dashed := strings.CutPrefix(arg, "-")
	f := fs.Lookup(strings.TrimPrefix(name, "-"))
	if !dashed || f == nil {
		return false
	}
	yes, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !yes.IsBoolFlag()
}

func (p *Program) find(args []string) (*Command, []string) {
	for n := min(2, len(args)); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		if i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == name }); i >= 0 {
			return &p.Commands[i], args[n:]
		}
	}
	return nil, nil
}

func (p *Program) isGroup(word string) bool {
	return slices.ContainsFunc(p.Commands, func(c Command) bool { return strings.HasPrefix(c.Name, word+" ") })
}

func (p *Program) usage(w io.Writer, args []string) {
	group := ""
	if len(args) > 0 && !isHelp(args[0]) {
		group = args[0] + " "
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s COMMAND [flags] [arguments]\n\n", strings.TrimSpace(p.Help), p.Name)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, c := range p.Commands {
		if strings.HasPrefix(c.Name, group) {
			fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(c.Name+" "+c.Args), c.summary())
		}
	}
	t.Flush()
	fmt.Fprintf(w, "\n%s COMMAND -help tells more.\n", p.Name)
}

func (c *Command) summary() string {
	s, _, _ := strings.Cut(c.Help, "\n")
	return s
}

func (c *Command) usage(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nUsage: %s\n", strings.TrimSpace(c.Help), strings.TrimSpace(fs.Name()+" [flags] "+c.Args))
	any := false
	fs.VisitAll(func(*flag.Flag) { any = true })
	if any {
		fmt.Fprintln(w, "\nFlags:")
		fs.SetOutput(w)
		fs.PrintDefaults()
	}
}

func isHelp(s string) bool {
	switch s {
	case "help", "-h", "-help", "--help":
		return true
	}
	return false
}
