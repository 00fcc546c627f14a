package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim"
)

// PumpsOptions describe a line of virtual pumps.
type PumpsOptions struct {
	Link   string // where the serial port appears
	Served string // file of what was served, "" for none
	Pumps  int    // at the addresses 1, 2, …
	Speed  int
	Seed   int64
	Faults string // see package pumpsim/fault
}

// RunPumps serves until ctx ends.
func RunPumps(ctx context.Context, o PumpsOptions, out io.Writer) (err error) {
	mode := fieldbus.Default
	mode.Baud = o.Speed
	deps := pumpsim.Options{Seed: o.Seed}
	if o.Served != "" {
		f, err := os.OpenFile(o.Served, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		deps.Served = f
	}
	line := pumpsim.LineConfig{Link: o.Link, Mode: mode.String(), Seed: o.Seed, Faults: o.Faults}
	for i := range o.Pumps {
		line.Pumps = append(line.Pumps, pumpsim.PumpConfig{Address: i + 1, Model: []string{"magna3", "epump"}[i%2]})
	}
	sim, err := pumpsim.NewLine(line, deps)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d virtual pumps at %s, %s\n", o.Pumps, sim.Path(), mode)
	if err := sim.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
