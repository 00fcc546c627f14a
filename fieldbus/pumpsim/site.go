package pumpsim

import (
	"errors"
	"time"
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

// ParseLine reads a LineConfig. The name is used in errors.
func ParseLine(name string, yaml []byte) (LineConfig, error) {
	return LineConfig{}, errors.ErrUnsupported
}

// NewLine makes the simulator that a configuration describes. What the
// configuration says replaces what deps says (Link, Mode, Turnaround, Seed,
// Faults).
func NewLine(c LineConfig, deps Options) (*Simulator, error) { return nil, errors.ErrUnsupported }
