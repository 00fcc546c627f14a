package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"penstock/backend/store"
	"penstock/internal/cli"
)

// askEvery is how often the table is looked at for a result.
const askEvery = 100 * time.Millisecond

func command(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	life := fs.Duration("for", time.Minute, "the command is good for `DURATION`, and then never carried out")
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) < 3 || len(args) > 4 {
			return cli.Usagef("penstock-cloud command SERIAL PUMP COMMAND [VALUE]")
		}
		value := ""
		if len(args) == 4 {
			value = args[3]
		}
		if *life <= 0 {
			return cli.Usagef("-for %v; a command is good for some time", *life)
		}
		by := "operator"
		if name := os.Getenv("USER"); name != "" {
			by += " " + name
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			c, err := db.AddCommand(ctx, args[0], args[1], args[2], value, by, *life)
			if err != nil {
				return err
			}
			return await(ctx, env, db, c)
		})
	}
}

// await waits for the result, until the command has expired and a while beyond:
// the result of the last moment has a way to go.
func await(ctx context.Context, env cli.Env, db *store.Store, c store.Command) error {
	ctx, cancel := context.WithDeadline(ctx, c.Expires.Add(10*time.Second))
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("command %v: %s; penstock-cloud command list %s shows what becomes of it", c.ID, fate(c, time.Now()), c.Gateway)
		}
		now, err := db.Command(ctx, c.ID)
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			return err
		}
		c = now
		if c.Result == nil && c.Sent.IsZero() && time.Now().After(c.Expires) {
			return fmt.Errorf("%s", fate(c, time.Now()))
		}
		if c.Result != nil {
			if !c.Result.OK() {
				return fmt.Errorf("%s", fate(c, time.Now()))
			}
			fmt.Fprintln(env.Stdout, fate(c, time.Now()))
			return nil
		}
	}
}

// fate says in words what has become of a command.
func fate(c store.Command, now time.Time) string {
	switch {
	case c.Result != nil && c.Result.Text != "":
		return fmt.Sprintf("%v: %s", c.Result.Outcome, c.Result.Text)
	case c.Result != nil:
		return c.Result.Outcome.String()
	case c.Sent.IsZero() && now.After(c.Expires):
		return fmt.Sprintf("expired: %s was not connected, and was never told", c.Gateway)
	case c.Sent.IsZero():
		return fmt.Sprintf("waiting: %s is not connected", c.Gateway)
	}
	return fmt.Sprintf("%s was told at %s and has not answered yet", c.Gateway, c.Sent.Format(time.TimeOnly))
}

func listCommands(fs *flag.FlagSet) func(context.Context, cli.Env, []string) error {
	state := stateFlag(fs)
	return func(ctx context.Context, env cli.Env, args []string) error {
		if len(args) != 1 {
			return cli.Usagef("whose commands? penstock-cloud command list SERIAL")
		}
		return withStore(ctx, *state, func(db *store.Store) error {
			if _, err := db.Gateway(ctx, args[0]); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			const most = 50
			all, err := db.Commands(ctx, args[0], most)
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(env.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(t, "TIME\tPUMP\tCOMMAND\tVALUE\tBY\tWHAT BECAME OF IT")
			for _, c := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Created.Format(time.DateTime), c.Pump, c.Name, c.Value, c.By, fate(c, time.Now()))
			}
			return t.Flush()
		})
	}
}
