package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"penstock/backend"
	"penstock/backend/store"
	"penstock/internal/cli"
)

var caCommands = []cli.Command{
	{Name: "ca issue", Args: "RECORD...", Help: "certify gateways\n\n" +
		"RECORD is what `penstock provision` made of a gateway, - standard input. The answer, a\n" +
		"bundle, goes to standard output, or with -out to DIR/SERIAL.bundle, for\n" +
		"`penstock provision -install`. The same record gets the same answer again.", Setup: issue},
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
	{Name: "ca backup", Args: "FILE", Help: "write authorities and registry into one file\n\n" +
		"FILE (- for standard output) is a tar with the authorities, their keys as far as they are\n" +
		"here, and which gateways there are, what was issued to them and what was revoked. Keep it\n" +
		"as you keep the keys. A server may be running.", Setup: backup},
	{Name: "ca restore", Args: "FILE", Help: "bring authorities and registry of a backup back\n\n" +
		"What is here stays: a restore adds what is missing, undoes no revocation, and refuses a\n" +
		"backup of other authorities. Where it makes gateways known again, nobody here can know\n" +
		"which of them were revoked after the backup was made: -revoked-since says it.", Setup: restore},
	{Name: "ca unrevoke", Args: "SERIAL", Help: "let a revoked gateway in again\n\n" +
		"Its factory identity opens enrolment again; the operational keys that it had stay\n" +
		"revoked, so it comes back with a new one.", Setup: unrevoke},
}

func issue(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	var order backend.Order
	fs.StringVar(&order.Model, "model", "", "`MODEL` of a gateway whose record is a bare certificate request")
	fs.StringVar(&order.Board, "board", "", "`BOARD` of a gateway whose record is a bare certificate request")
	fs.StringVar(&order.Replaced, "replaced", "", "`WHY` the gateway has got another board; the certificates of the old one are revoked")
	out := fs.String("out", "", "write bundles into `DIR`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		switch {
		case len(args) == 0:
			return cli.Usagef("which record? penstock-cloud ca issue RECORD, or - for standard input")
		case len(args) > 1 && *out == "":
			return cli.Usagef("%d records, and one standard output; give -out DIR", len(args))
		}
		ca, err := backend.LoadCA(*state)
		if err != nil {
			return err
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			failed := 0
			for _, name := range args {
				record, err := readRecord(env, name)
				var issued backend.Issued
				if err == nil {
					issued, err = backend.Issue(ctx, ca, db, record, order)
				}
				if err == nil {
					err = answer(env, issued, *out)
				}
				if err != nil {
					fmt.Fprintf(env.Stderr, "%s: %v\n", name, err)
					failed++
				}
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d gateways were not certified", failed, len(args))
			}
			return nil
		})
	}
}

func readRecord(env cli.Env, name string) ([]byte, error) {
	if name == "-" {
		return backend.ReadRecord(env.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return backend.ReadRecord(f)
}

func answer(env cli.Env, issued backend.Issued, out string) error {
	if out != "" {
		if err := issued.WriteFile(out); err != nil {
			return err
		}
	} else if text, err := issued.Bundle.Encode(); err != nil {
		return err
	} else if _, err := env.Stdout.Write(text); err != nil {
		return err
	}
	c := issued.Certificate // on standard error, since standard output may be the bundle
	fmt.Fprintf(env.Stderr, "%s may come in until %s\n", c.Subject.CommonName, c.NotAfter.Format(time.DateOnly))
	return nil
}

func list(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("unexpected argument %q", args[0])
		}
		ca, err := backend.LoadCA(*state)
		if err != nil {
			return err
		}
		listAuthorities(env.Stdout, ca)
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

func backup(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("into which file? penstock-cloud ca backup FILE")
		}
		if _, err := backend.LoadCA(*state); err != nil {
			return err
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			if args[0] == "-" {
				return backend.Backup(ctx, *state, db, env.Stdout)
			}
			return backend.BackupFile(ctx, *state, db, args[0])
		})
	}
}

func restore(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	since := fs.String("revoked-since", "", "`SERIALS` that were revoked after the backup was made, separated by commas; or none; or unknown, which shuts all of them out until you let them in one by one")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("from which file? penstock-cloud ca restore FILE")
		}
		source := env.Stdin
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			source = f
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			r, err := backend.Restore(ctx, *state, db, source, revokedSince(*since))
			var unknown *store.UnknownGatewaysError
			if errors.As(err, &unknown) {
				return fmt.Errorf("%s: %w: %s. Revocations after %s are in no backup: say which with -revoked-since SERIALS, or none, or unknown",
					args[0], err, some(unknown.Serials), r.Made.Format(time.DateTime+" UTC"))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(env.Stdout, "of the backup of %s: %d files of authorities, %d gateways, %d certificates, %d revocations, %d labels\n",
				r.Made.Format(time.DateTime+" UTC"), len(r.Authorities), r.Gateways, r.Certificates, r.Revocations, r.Claims)
			return nil
		})
	}
}

// revokedSince reads the flag of that name; nil: it was not given.
func revokedSince(s string) *store.Since {
	const reason = "revoked after the backup that was restored"
	switch s {
	case "":
		return nil
	case "none":
		return &store.Since{}
	case "unknown":
		return &store.Since{All: true, Reason: "restored from a backup: nobody knows whether it was revoked since"}
	}
	return &store.Since{Revoked: strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }), Reason: reason}
}

// some lists a few of many.
func some(serials []string) string {
	if n := len(serials); n > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(serials[:5], ", "), n-5)
	}
	return strings.Join(serials, ", ")
}

func rotate(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(_ context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which authority? root, factory, operational, servers or signing")
		}
		ca, err := backend.LoadCA(*state)
		if err != nil {
			return err
		}
		if err := ca.Rotate(args[0]); err != nil {
			return err
		}
		listAuthorities(env.Stdout, ca)
		return nil
	}
}

func withdraw(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(_ context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("which root? penstock-cloud ca withdraw ROOT")
		}
		ca, err := backend.LoadCA(*state)
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

// listAuthorities prints the authorities, earlier generations too, and which of the
// roots gateways shall trust.
func listAuthorities(w io.Writer, ca interface {
	Authorities() []*x509.Certificate
	Trusted() (version int64, roots []*x509.Certificate)
}) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "AUTHORITY\tISSUED BY\tUNTIL\tCERTIFICATE")
	for _, c := range ca.Authorities() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%032x\n", c.Subject.CommonName, c.Issuer.CommonName, c.NotAfter.Format(time.DateOnly), c.SerialNumber)
	}
	t.Flush() //nolint:errcheck // standard output
	version, roots := ca.Trusted()
	if version == 0 {
		fmt.Fprintln(w, "gateways keep the roots of the bench: none are signed for them")
		return
	}
	var names []string
	for _, r := range roots {
		names = append(names, r.Subject.CommonName)
	}
	fmt.Fprintf(w, "gateways shall trust: %s (signed, version %d)\n", strings.Join(names, ", "), version)
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
