// Command penstock-cloud is the backend: authorities, auth service, endpoint and
// web page in one process, on one SQLite file.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
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
		Commands: []cli.Command{
			{Name: "serve", Help: "serve gateways and people", Setup: serve},
			{Name: "ca issue", Args: "REQUEST", Help: "sign a gateway's certificate request\n\n" +
				"REQUEST is the file that `penstock provision` wrote. The certificate and the roots\n" +
				"go into -out, for `penstock provision -install`.", Setup: issue},
			{Name: "ca list", Help: "list authorities, gateways and their certificates", Setup: list},
			{Name: "ca revoke", Args: "SERIAL", Help: "shut a gateway out, on every route and at once", Setup: revoke},
			{Name: "ca rotate", Args: "AUTHORITY", Help: "replace an authority by one with a new key\n\n" +
				"AUTHORITY is root, factory, operational or servers. The root's key must be there. What\n" +
				"was issued before stays valid; a running server follows by itself. A rotated root takes\n" +
				"the others along, and is vouched for by the earlier one until that expires; gateways\n" +
				"learn of it by a file that tuf-targets.key signs. AUTHORITY signing replaces that key,\n" +
				"and takes tuf-root.key.", Setup: rotate},
			{Name: "ca withdraw", Args: "ROOT", Help: "have gateways trust an earlier root no more\n\n" +
				"ROOT is the name of its file, such as root or root-2. It takes tuf-targets.key. Gateways\n" +
				"whose factory identity comes from that root must be provisioned anew.", Setup: withdraw},
			{Name: "ca unrevoke", Args: "SERIAL", Help: "let a revoked gateway in again\n\n" +
				"Its factory identity opens enrolment again; the operational keys that it had stay\n" +
				"revoked, so it comes back with a new one.", Setup: unrevoke},
			{Name: "command", Args: "SERIAL PUMP COMMAND [VALUE]", Help: "ask a gateway for a change on a pump, and wait for what becomes of it\n\n" +
				"For example: penstock-cloud command PSK-0001 bus1-1 setpoint 55%. The result is what the\n" +
				"pump showed when it was read again. A gateway that is away gets the command when it comes\n" +
				"back, unless -for has passed by then.", Setup: command},
			{Name: "command list", Args: "SERIAL", Help: "list the latest commands of a gateway", Setup: listCommands},
			{Name: "user add", Args: "EMAIL", Help: "make an account; the password is read from standard input", Setup: addUser},
			{Name: "user password", Args: "EMAIL", Help: "give an account another password, read from standard input", Setup: setPassword},
		},
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
		cfg.State = *state
		cfg.Log = slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
		return backend.Serve(ctx, cfg)
	}
}

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

func issue(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	model := fs.String("model", "cim550", "the gateway's model: cim280 or cim550")
	board := fs.String("board", "", "the gateway's board")
	out := fs.String("out", ".", "write cert.pem, roots.pem and tuf-root.json into `DIR`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which request? penstock-cloud ca issue REQUEST")
		}
		request, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		ca, err := backend.OpenCA(*state)
		if err != nil {
			return err
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			leaf, err := backend.Issue(ctx, ca, db, request, *model, *board, *out)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(env.Stdout, "%s may come in until %s\n", leaf.Subject.CommonName, leaf.NotAfter.Format(time.DateOnly))
			return nil
		})
	}
}

func list(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		ca, err := backend.OpenCA(*state)
		if err != nil {
			return err
		}
		listAuthorities(env.Stdout, ca.Authorities())
		fmt.Fprintln(env.Stdout)
		return withStore(ctx, *state, func(db *store.Store) error {
			gws, err := db.Gateways(ctx)
			if err != nil {
				return err
			}
			certs, err := db.Certificates(ctx, "")
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(env.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(t, "GATEWAY\tMODEL\tBOARD\tCERTIFICATE\tUNTIL\tREVOKED")
			for _, g := range gws {
				revoked := ""
				if !g.Revoked.IsZero() {
					revoked = g.Revoked.Format(time.DateOnly) + " " + g.Reason
				}
				for _, c := range certs {
					if c.Gateway == g.Serial {
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Serial, g.Model, g.Board, c.Number, c.NotAfter.Format(time.DateOnly), revoked)
					}
				}
			}
			return t.Flush()
		})
	}
}

func revoke(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	return standing(fs, "revoke", "is shut out", (*store.Store).Revoke)
}

func rotate(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(_ context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which authority? root, factory, operational, servers or signing")
		}
		ca, err := backend.OpenCA(*state)
		if err != nil {
			return err
		}
		if err := ca.Rotate(args[0]); err != nil {
			return err
		}
		listAuthorities(env.Stdout, ca.Authorities())
		return nil
	}
}

func withdraw(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(_ context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which root? penstock-cloud ca withdraw ROOT")
		}
		ca, err := backend.OpenCA(*state)
		if err != nil {
			return err
		}
		if err := ca.Withdraw(args[0]); err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "gateways will trust %s no more, once they have heard of it\n", args[0])
		return nil
	}
}

// listAuthorities prints the authorities, earlier generations too.
func listAuthorities(w io.Writer, all []*x509.Certificate) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "AUTHORITY\tISSUED BY\tUNTIL\tCERTIFICATE")
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%032x\n", c.Subject.CommonName, c.Issuer.CommonName, c.NotAfter.Format(time.DateOnly), c.SerialNumber)
	}
	t.Flush() //nolint:errcheck // standard output
}

func unrevoke(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	return standing(fs, "unrevoke", "may enrol again, with a new operational key", (*store.Store).Unrevoke)
}

// standing is a command that changes whether a gateway may come in, for a reason.
func standing(fs *flag.FlagSet, verb, now string, change func(s *store.Store, ctx context.Context, serial, reason string) error) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	reason := fs.String("reason", "", "`WHY`; it is kept")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which gateway? penstock-cloud ca %s SERIAL -reason WHY", verb)
		}
		if *reason == "" {
			return cli.Usagef("why? give a -reason; it is kept")
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			if err := change(db, ctx, args[0], *reason); err != nil {
				return err
			}
			fmt.Fprintf(env.Stdout, "%s %s\n", args[0], now)
			return nil
		})
	}
}

func addUser(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	role := fs.String("role", string(access.Administrator), "what the account may do: administrator or viewer")
	return account(state, func(ctx context.Context, a *access.Accounts, email, password string) error {
		_, err := a.Add(ctx, email, password, access.Role(*role))
		return err
	})
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
