package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
		"Where the backend cannot be reached, -csr instead writes the record, and later -install\n" +
		"takes over the bundle that `penstock-cloud ca issue` made of it.\n\n" +
		"The gateway is the board that this runs on, or with -image FILE the one that the image\n" +
		"will be flashed to, or with -batch MANIFEST many: a CSV file with the columns serial,\n" +
		"model, board, auth, image, partition and state, where a column that is missing is as the\n" +
		"flag of its name. Then -csr and -install are folders.\n\n" +
		"Running it again is safe, whatever interrupted it: the key stays, and a complete identity\n" +
		"is never overwritten without -replace.",
	Setup: provision,
}

// provisioning is what the flags say.
type provisioning struct {
	gateway.Provisioning
	bench               gateway.Bench
	issue, csr, install string
	batch               string
	patience            time.Duration
}

func provision(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	var p provisioning
	fs.StringVar(&p.State, "state", defaultState, "the gateway's state `DIR`; with -image, inside the image")
	fs.StringVar(&p.Serial, "serial", "", "serial number: 4 to 32 of A-Z, 0-9 and -")
	fs.StringVar(&p.Model, "model", "", "cim280 (4G) or cim550 (ethernet)")
	fs.StringVar(&p.Board, "board", "", "the board that this is, such as imx6ul or rpi")
	fs.StringVar(&p.AuthURL, "auth", "", "`URL` of the auth service, such as https://auth.example.com:8443")
	fs.StringVar(&p.Keys, "keys", "", "keep keys in `WHERE`: file, or tpm and nowhere else (default: the TPM if it works)")
	fs.StringVar(&p.Image, "image", "", "make the identity inside an unmounted disk image, `FILE`")
	fs.IntVar(&p.Partition, "partition", 0, "partition `N` of the image (default: the only one with a file system)")
	fs.BoolVar(&p.Replace, "replace", false, "replace an identity that is already there, for ever")
	fs.BoolVar(&p.Relabel, "relabel", false, "make a new claim code for a gateway that is provisioned; its old label is void")
	fs.StringVar(&p.batch, "batch", "", "provision every gateway of a `MANIFEST`")
	fs.StringVar(&p.issue, "issue", "", "have the record certified by `COMMAND`")
	fs.DurationVar(&p.patience, "timeout", issuePatience, "give the command so much `TIME`")
	fs.StringVar(&p.csr, "csr", "", "without -issue: write the record to `FILE` (- for standard output)")
	fs.StringVar(&p.bench.Labels, "label", "", "draw the label into `DIR`, as SERIAL.svg and SERIAL.png")
	fs.StringVar(&p.install, "install", "", "take over the bundle in `FILE`")
	return func(ctx context.Context, env cli.Env, args []string) error {
		ways := 0
		for _, way := range []string{p.issue, p.csr, p.install} {
			if way != "" {
				ways++
			}
		}
		switch {
		case len(args) > 0:
			return cli.Usagef("unexpected argument %q", args[0])
		case ways != 1:
			return cli.Usagef("who certifies it? Give -issue COMMAND; or -csr FILE to have it done elsewhere, and then -install FILE")
		case p.Keys != "" && p.Keys != "file" && p.Keys != "tpm":
			return cli.Usagef("-keys %q is not allowed; allowed: file, tpm", p.Keys)
		case p.Image != "" && p.Keys == "tpm":
			return cli.Usagef("-keys tpm: the TPM of the board is not where the image is; provision on the board instead")
		case p.Partition < 0 || p.Partition > 0 && p.Image == "":
			return cli.Usagef("-partition %d: give the number of a partition of -image", p.Partition)
		case p.Image != "" && !filepath.IsAbs(p.State):
			return cli.Usagef("-state %q: the folder inside an image begins with /", p.State)
		case p.patience <= 0:
			return cli.Usagef("-timeout %v; a command takes some time", p.patience)
		}
		if p.issue != "" {
			p.bench.Issue = gateway.IssueBy(p.issue, p.patience, env.Stderr)
		}
		if p.batch != "" {
			return p.all(ctx, env)
		}
		return p.one(ctx, env)
	}
}

// one provisions one gateway.
func (p *provisioning) one(ctx context.Context, env cli.Env) error {
	if p.install != "" {
		return gateway.Install(ctx, p.Provisioning, p.install)
	}
	if p.Serial == "" || p.Model == "" || p.Board == "" || p.AuthURL == "" {
		return cli.Usagef("-serial, -model, -board and -auth are required, or -install FILE for the second step")
	}
	record, err := gateway.Provision(ctx, p.Provisioning, p.bench)
	where := "in a file of the image"
	if p.Image == "" {
		where = gateway.KeysOf(p.State)
	}
	switch {
	case gateway.IsProvisioned(err):
		fmt.Fprintln(env.Stdout, err)
		return nil
	case err != nil:
		return err
	case p.issue != "":
		fmt.Fprintf(env.Stdout, "%s is provisioned; its key is %s\n", p.Serial, where)
		return nil
	}
	fmt.Fprintf(env.Stderr, "the key of %s is %s\n", p.Serial, where)
	return writeRecord(env, p.csr, record)
}

// all provisions a batch. One that fails keeps none of the others back; an authority
// that does not answer keeps back all that are left.
func (p *provisioning) all(ctx context.Context, env cli.Env) error {
	switch {
	case p.Serial != "" || p.Image != "":
		return cli.Usagef("-serial and -image are for one gateway; in a batch they stand in the manifest")
	case p.Replace || p.Relabel:
		return cli.Usagef("-replace and -relabel are for one gateway")
	case p.csr == "-":
		return cli.Usagef("-csr - is for one gateway; give a folder")
	}
	boards, err := gateway.ReadManifest(p.batch, p.Provisioning)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	p.bench.Records = p.csr
	done, skipped, failed := 0, 0, 0
	for i, b := range boards {
		var err error
		if p.install != "" {
			err = gateway.Install(ctx, b, filepath.Join(p.install, b.Serial+".bundle"))
		} else {
			_, err = gateway.Provision(ctx, b, p.bench)
		}
		switch {
		case gateway.IsProvisioned(err):
			skipped++
			fmt.Fprintf(env.Stdout, "%s: skipped, it is provisioned already\n", b.Serial)
		case err != nil:
			failed++
			fmt.Fprintf(env.Stderr, "%s: %v\n", b.Serial, err)
		default:
			done++
			fmt.Fprintf(env.Stdout, "%s: done\n", b.Serial)
		}
		if ctx.Err() != nil || errors.Is(err, gateway.ErrNoAnswer) {
			fmt.Fprintf(env.Stderr, "%d were not tried\n", len(boards)-i-1)
			break
		}
	}
	fmt.Fprintf(env.Stdout, "%d of %d done, %d skipped, %d failed\n", done, len(boards), skipped, failed)
	if done+skipped < len(boards) {
		return errors.New("not every gateway is provisioned; run the same again")
	}
	return nil
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
