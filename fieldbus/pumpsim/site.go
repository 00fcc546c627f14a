package pumpsim

import (
	"fmt"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
)

// LineConfig is a line as it is written in YAML (see ParseLine) or assembled
// from flags.
//
//	link: /tmp/ttyPUMPS
//	mode: 19200 8E1
//	faults: late=0.01:300ms,silence.2=0.05
//	pumps:
//	  - {address: 1, model: magna3}
//	  - {address: 2, model: epump}
//	scenario:
//	  - {at: 20s, pump: 1, cause: dry_running, for: 15s, every: 2m}
//	  - {at: 5m, pump: 2, cause: exchange, for: 1m}
//
// A pump that is exchanged has the model of its replacement under other
// ({address: 2, model: magna3, other: epump}).
type LineConfig struct {
	Link       string
	Protocol   Protocol // Modbus if empty
	Mode       string
	Turnaround time.Duration // zero: DefaultTurnaround
	Seed       int64
	Faults     string // as fault.Parse reads them
	Pumps      []PumpConfig
	Scenario   []Step
}

// PumpConfig is one pump of a LineConfig.
type PumpConfig struct {
	Address int
	Model   string
	Other   string // see PumpOptions
	Local   bool
}

// NewLine makes the simulator that a configuration describes. What the
// configuration says replaces what deps says.
func NewLine(c LineConfig, deps Options) (*Simulator, error) {
	o := deps
	if c.Link != "" {
		o.Link = c.Link
	}
	if c.Seed != 0 {
		o.Seed = c.Seed
	}
	if c.Protocol != "" {
		o.Protocol = c.Protocol
	}
	if c.Mode != "" {
		var err error
		if o.Mode, err = fieldbus.ParseMode(c.Mode); err != nil {
			return nil, fmt.Errorf("mode: %w", err)
		}
	}
	if c.Turnaround != 0 {
		o.Turnaround = c.Turnaround
	}
	if c.Faults != "" {
		var err error
		if o.Faults, err = fault.Parse(c.Faults); err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
	}
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	for _, p := range c.Pumps {
		if _, err := s.AddPump(PumpOptions{Address: p.Address, Model: p.Model, Other: p.Other, Local: p.Local}); err != nil {
			s.Close()
			return nil, err
		}
	}
	for i, step := range c.Scenario {
		if err := s.AddStep(step); err != nil {
			s.Close()
			return nil, fmt.Errorf("scenario[%d]: %w", i, err)
		}
	}
	return s, nil
}
