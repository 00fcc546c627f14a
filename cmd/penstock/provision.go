package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"penstock/internal/cli"
	"penstock/internal/gateway"
)

// issuePatience is how long the authority may take, a person who types a
// passphrase included.
const issuePatience = 2 * time.Minute

var provisionCommand = cli.Command{
	Name: "provision", Help: "give a gateway its identity\n\n" +
		"Makes the key, which never leaves the gateway, and has it certified by -issue, a command\n" +
		"that gets the record on its standard input and answers with the bundle, such as\n" +
		"'penstock-cloud ca issue -' or 'ssh backend penstock-cloud ca issue -'.\n\n" +
		"Where the backend cannot be reached, -csr FILE instead writes the record, and later\n" +
		"-install FILE takes over the bundle that `penstock-cloud ca issue` made of it.\n\n" +
		"Running it again is safe, whatever interrupted it: the key stays, and a complete identity\n" +
		"is never overwritten without -replace.",
	Setup: provision,
}

func provision(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	var p gateway.Provisioning
	var b gateway.Bench
	fs.StringVar(&p.State, "state", defaultState, "the gateway's state `DIR`")
	fs.StringVar(&p.Serial, "serial", "", "serial number: 4 to 32 of A-Z, 0-9 and -")
	fs.StringVar(&p.Model, "model", "", "cim280 (4G) or cim550 (ethernet)")
	fs.StringVar(&p.Board, "board", "", "the board that this is, such as imx6ul or rpi")
	fs.StringVar(&p.AuthURL, "auth", "", "`URL` of the auth service, such as https://auth.example.com:8443")
	fs.StringVar(&p.Keys, "keys", "", "keep keys in `WHERE`: file, or tpm and nowhere else (default: the TPM if it works)")
	fs.BoolVar(&p.Replace, "replace", false, "replace an identity that is already there, for ever")
	fs.BoolVar(&p.Relabel, "relabel", false, "make a new claim code for a gateway that is provisioned; its old label is void")
	issue := fs.String("issue", "", "have the record certified by `COMMAND`")
	patience := fs.Duration("timeout", issuePatience, "give the command so much `TIME`")
	csr := fs.String("csr", "", "without -issue: write the record to `FILE` (- for standard output)")
	fs.StringVar(&b.Labels, "label", "", "draw the label into `DIR`, as SERIAL.svg and SERIAL.png")
	install := fs.String("install", "", "take over the bundle in `FILE`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		switch {
		case len(args) > 0:
			return cli.Usagef("unexpected argument %q", args[0])
		case *install != "":
			return gateway.Install(p.State, *install)
		case p.Serial == "" || p.Model == "" || p.Board == "" || p.AuthURL == "":
			return cli.Usagef("-serial, -model, -board and -auth are required, or -install FILE for the second step")
		case (*issue == "") == (*csr == ""):
			return cli.Usagef("who certifies it? Give -issue COMMAND, or -csr FILE to have it done elsewhere")
		case p.Keys != "" && p.Keys != "file" && p.Keys != "tpm":
			return cli.Usagef("-keys %q is not allowed; allowed: file, tpm", p.Keys)
		case *patience <= 0:
			return cli.Usagef("-timeout %v; a command takes some time", *patience)
		}
		if *issue != "" {
			b.Issue = gateway.IssueBy(*issue, *patience, env.Stderr)
		}
		record, err := gateway.Provision(ctx, p, b)
		switch {
		case gateway.IsProvisioned(err):
			fmt.Fprintln(env.Stdout, err)
			return nil
		case err != nil:
			return err
		case *issue != "":
			fmt.Fprintf(env.Stdout, "%s is provisioned; its key is %s\n", p.Serial, gateway.KeysOf(p.State))
			return nil
		}
		fmt.Fprintf(env.Stderr, "the key of %s is %s\n", p.Serial, gateway.KeysOf(p.State))
		return writeRecord(env, *csr, record)
	}
}

func writeRecord(env cli.Env, file string, record []byte) error {
	if file == "-" {
		_, err := env.Stdout.Write(record)
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(record)
	return errors.Join(err, f.Close())
}
