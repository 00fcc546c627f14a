package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"penstock/internal/cli"
)

func program() *cli.Program {
	echo := func(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
		port := fs.String("port", "none", "the serial `DEVICE`")
		n := fs.Int("n", 1, "how many")
		return func(_ context.Context, env cli.Env, args []string) error {
			fmt.Fprintf(env.Stdout, "port=%s n=%d args=%v", *port, *n, args)
			switch {
			case len(args) > 0 && args[0] == "bad":
				return cli.Usagef("bad is not allowed")
			case len(args) > 0 && args[0] == "fail":
				return errors.New("it failed")
			case len(args) > 0 && args[0] == "silent":
				return cli.ErrSilent
			}
			return nil
		}
	}
	return &cli.Program{Name: "prog", Version: "1.2", Help: "Prog does things.", Commands: []cli.Command{
		{Name: "read", Args: "REGISTER", Help: "read registers\n\nMore about it.", Setup: echo},
		{Name: "ca issue", Help: "issue a certificate", Setup: echo},
		{Name: "ca list", Help: "list certificates", Setup: echo},
	}}
}

func TestFlagsStandAnywhereWithOneDashOrTwo(t *testing.T) {
	for _, tc := range []struct {
		args   string
		status int
		out    string // on stdout and stderr together
	}{
		{"read 304 2", 0, "port=none n=1 args=[304 2]"},
		{"read -port /dev/a 304", 0, "port=/dev/a n=1 args=[304]"},
		{"read 304 --port /dev/a 2 -n=3", 0, "port=/dev/a n=3 args=[304 2]"},
		{"read 304 -- -port x", 0, "port=none n=1 args=[304 -port x]"},
		{"read setpoint -5", 0, "port=none n=1 args=[setpoint -5]"},
		{"read setpoint -0.5 -port /dev/a", 0, "port=/dev/a n=1 args=[setpoint -0.5]"},
		{"read -n -5 setpoint -.5", 0, "port=none n=-5 args=[setpoint -.5]"},
		{"read -- -5 -port", 0, "port=none n=1 args=[-5 -port]"},
		{"read setpoint -5 -- -port", 0, "port=none n=1 args=[setpoint -5 -port]"},
		{"read -port=/dev/a -5", 0, "port=/dev/a n=1 args=[-5]"},
		{"ca issue x -n 2", 0, "port=none n=2 args=[x]"},
		{"version", 0, "prog 1.2"},
		{"--version", 0, "prog 1.2"},
		{"help", 0, "ca issue"},
		{"read -help", 0, "More about it."},
		{"read -help", 0, "serial DEVICE"},
		{"", 2, "Usage: prog"},
		{"ca", 2, "issue a certificate"},
		{"nonsense", 2, `no command "nonsense"`},
		{"read -speed 3", 2, "not defined: -speed"},
		{"read -n many", 2, `invalid value "many"`},
		{"read bad", 2, "prog read: bad is not allowed"},
		{"read fail", 1, "prog read: it failed"},
		{"read silent", 1, "args=[silent]"},
	} {
		var out bytes.Buffer
		status := program().Run(t.Context(), cli.Env{Stdout: &out, Stderr: &out}, strings.Fields(tc.args))
		if status != tc.status || !strings.Contains(out.String(), tc.out) {
			t.Errorf("prog %s: status %d, want %d; output %q, want %q in it", tc.args, status, tc.status, out.String(), tc.out)
		}
	}
}
