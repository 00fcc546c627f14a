package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim"
)

// PumpsOptions describe a line of virtual pumps.
type PumpsOptions struct {
	Link   string // where the serial port appears
	Served string // file of what was served, "" for none

	// File describes the line in YAML (pumpsim.ParseLine). What follows replaces
	// or adds to what it says; a zero value leaves it.
	File       string
	Protocol   string // "modbus" or "genibus"
	Pumps      string // "2", or MODEL[@ADDRESS][:local] and so on: see ParsePumps
	Mode       string // "19200 8E1", or a speed
	Turnaround time.Duration
	Seed       int64
	Faults     string // see package pumpsim/fault
	Scenario   string // steps of pumpsim.ParseStep, with commas between
}

// line puts the options together.
func (o PumpsOptions) line() (c pumpsim.LineConfig, err error) {
	if o.File != "" {
		text, err := os.ReadFile(o.File)
		if err != nil {
			return c, err
		}
		if c, err = pumpsim.ParseLine(o.File, text); err != nil {
			return c, err
		}
	}
	if o.Link != "" {
		c.Link = o.Link
	}
	if c.Link == "" {
		return c, errors.New("where shall the serial port appear? say so with -link PATH")
	}
	if o.Protocol != "" {
		c.Protocol = pumpsim.Protocol(o.Protocol)
	}
	if o.Pumps != "" {
		if c.Pumps, err = ParsePumps(o.Pumps, c.Protocol); err != nil {
			return c, err
		}
	}
	if len(c.Pumps) == 0 {
		if c.Pumps, err = ParsePumps("2", c.Protocol); err != nil {
			return c, err
		}
	}
	if o.Mode != "" {
		c.Mode = o.Mode
	}
	if o.Turnaround != 0 {
		c.Turnaround = o.Turnaround
	}
	if o.Seed != 0 {
		c.Seed = o.Seed
	}
	if o.Faults != "" {
		c.Faults = o.Faults
	}
	for text := range strings.SplitSeq(o.Scenario, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		step, err := pumpsim.ParseStep(text)
		if err != nil {
			return c, err
		}
		c.Scenario = append(c.Scenario, step)
	}
	return c, nil
}

// PumpModels are the models that a line can have.
func PumpModels() []string { return pumpsim.Models() }

// PumpCauses are what a scenario can bring about.
func PumpCauses() []string { return pumpsim.StepCauses() }

// ParsePumps reads the pumps of a line as they are written on a command line: a
// number of pumps, circulators and multistage pumps in turn, or a list of
// MODEL[@ADDRESS][:local], such as "magna3,booster@7,epump:local". A pump
// without an address has the one after the pump before it; the first has 1, or 32 on
// GENIbus.
func ParsePumps(s string, p pumpsim.Protocol) (pumps []pumpsim.PumpConfig, err error) {
	next := 1
	if p == pumpsim.GENIbus {
		next = 32
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 247 {
			return nil, fmt.Errorf("%d pumps: a line has 1 to 247", n)
		}
		for i := range n {
			pumps = append(pumps, pumpsim.PumpConfig{Address: next + i, Model: []string{"magna3", "epump"}[i%2]})
		}
		return pumps, nil
	}
	for text := range strings.SplitSeq(s, ",") {
		var p pumpsim.PumpConfig
		text = strings.TrimSpace(text)
		name, local := strings.CutSuffix(text, ":local")
		p.Local, p.Address = local, next
		model, address, placed := strings.Cut(name, "@")
		p.Model = model
		if placed {
			if p.Address, err = strconv.Atoi(address); err != nil {
				return nil, fmt.Errorf("pump %q: write MODEL[@ADDRESS][:local], such as booster@7", text)
			}
		}
		next = p.Address + 1
		pumps = append(pumps, p)
	}
	return pumps, nil
}

// RunPumps serves until ctx ends, and says then how late the line was.
func RunPumps(ctx context.Context, o PumpsOptions, out io.Writer) (err error) {
	line, err := o.line()
	if err != nil {
		return err
	}
	var deps pumpsim.Options
	if o.Served != "" {
		f, err := os.OpenFile(o.Served, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		deps.Served = f
	}
	sim, err := pumpsim.NewLine(line, deps)
	if err != nil {
		return err
	}
	switch {
	case line.Protocol == pumpsim.GENIbus:
		line.Mode = "GENIbus, 9600 8N1"
	case line.Mode == "":
		line.Mode = fieldbus.Default.String()
	}
	fmt.Fprintf(out, "%d virtual pumps at %s, %s\n", len(line.Pumps), sim.Path(), line.Mode)
	if err := sim.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if st := sim.Stats(); st.Lateness.Answers > 0 {
		fmt.Fprintf(out, "%d requests, %d answers; the simulator was late by %v (median), %v (99 %%), %v at most\n",
			st.Requests, st.Served, st.Lateness.P50, st.Lateness.P99, st.Lateness.Max)
	}
	return nil
}
