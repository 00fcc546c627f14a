package pumpsim

import (
	"context"
	"errors"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/physics"
)

// Simulator is one line with its virtual pumps.
type Simulator struct{ o Options }

// New returns a line without pumps. The serial port exists from here on, and
// answers once Run is called.
func New(o Options) (*Simulator, error) { return nil, errors.ErrUnsupported }

// AddPump puts a pump on the line, before or while it runs.
func (s *Simulator) AddPump(o PumpOptions) (*Pump, error) { return nil, errors.ErrUnsupported }

// Path is the serial port to open: Options.Link, or the pseudo-terminal itself.
func (s *Simulator) Path() string { return "" }

// Run answers until ctx ends. Everything that was served is in the log when it
// returns. It closes the serial port and removes the link.
func (s *Simulator) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Open is a fieldbus.Opener for a line that exists only in memory. The clock
// handed in must be one that can be moved (AdvanceTo), as linetest.Clock: time
// passes while the master reads. Such a line needs no Run.
func (s *Simulator) Open(path string, mode fieldbus.Mode) (fieldbus.Port, error) {
	return nil, errors.ErrUnsupported
}

// Stats are figures of a line since it was made.
type Stats struct {
	Requests int // frames heard
	Unheard  int // frames that were damaged, at another speed, or for nobody here
	Served   int // frames that a pump acted on
	Lateness Lateness
}

// Lateness is how much later than on a wire the last bytes of answers were
// released: the simulator's own error. It is never early.
type Lateness struct {
	Answers            int
	P50, P90, P99, Max time.Duration
}

// Stats may be called from any goroutine.
func (s *Simulator) Stats() Stats { return Stats{} }

// Pump is one virtual pump. Its methods may be called from any goroutine.
type Pump struct{}

// State is what the pump does at this moment.
func (p *Pump) State() physics.State { return physics.State{} }

// SetCause brings about, or ends, the cause of an alarm.
func (p *Pump) SetCause(c physics.Cause, on bool) {}

// SetStale makes the pump's module lose its pump: it goes on serving the values
// it had, and its receive counter stands still.
func (p *Pump) SetStale(on bool) {}
