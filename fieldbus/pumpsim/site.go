package pumpsim

import (
	"errors"
	"fmt"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
)

// LineConfig is a line as it is written in YAML or assembled from flags.
//
//	link: /tmp/ttyPUMPS
//	mode: 19200 8E1
//	faults: late=0.01:300ms,silence.2=0.05
//	pumps:
//	  - {address: 1, model: magna3}
//	  - {address: 2, model: epump}
//	scenario:
//	  - {at: 20s, pump: 1, cause: dry_running, for: 15s, every: 2m}
type LineConfig struct {
	Link       string        `yaml:"link"`
	Mode       string        `yaml:"mode"`
	Turnaround time.Duration `yaml:"turnaround"`
	Seed       int64         `yaml:"seed"`
	Faults     string        `yaml:"faults"`
	Pumps      []PumpConfig  `yaml:"pumps"`
	Scenario   []Step        `yaml:"scenario"`
}

// PumpConfig is one pump of a LineConfig.
type PumpConfig struct {
	Address int    `yaml:"address"`
	Model   string `yaml:"model"`
	Local   bool   `yaml:"local"`
}

// Step brings about the cause of an alarm, or makes a module stale, some time
// after the start, for a while, perhaps again and again.
type Step struct {
	At    time.Duration `yaml:"at"`
	Pump  int           `yaml:"pump"`  // address
	Cause string        `yaml:"cause"` // one of physics.Causes, or "stale"
	For   time.Duration `yaml:"for"`   // zero: for ever
	Every time.Duration `yaml:"every"` // zero: once
}

// NewLine makes the simulator that a configuration describes. What the
// configuration says replaces what deps says (Link, Mode, Turnaround, Seed,
// Faults).
func NewLine(c LineConfig, deps Options) (*Simulator, error) {
	if len(c.Scenario) > 0 {
		return nil, errors.ErrUnsupported
	}
	o := deps
	o.Link, o.Seed = c.Link, c.Seed
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
		if _, err := s.AddPump(PumpOptions{Address: p.Address, Model: p.Model, Local: p.Local}); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}
