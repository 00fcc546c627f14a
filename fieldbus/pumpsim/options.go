package pumpsim

import (
	"io"
	"log/slog"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/internal/clock"
)

// DefaultTurnaround is how long a pump thinks before it answers.
const DefaultTurnaround = 5 * time.Millisecond

// Options describe one line. The zero value is a working line of 19200 8E1.
type Options struct {
	// Link is where the serial port appears: a symbolic link to the
	// pseudo-terminal, which keeps its name when the adapter is "unplugged" and
	// comes back as another one. Empty: no link, only Path.
	Link string

	// Protocol is what the pumps speak: Modbus if empty.
	Protocol Protocol

	// Mode is speed and format of the pumps. If zero it is fieldbus.Default, or
	// 9600 8N1 on GENIbus, which knows no other.
	Mode fieldbus.Mode

	// Turnaround is the time between the end of a request and the first bit of
	// its answer. The end of a Modbus request is recognised by 3.5 characters of
	// silence after its last bit, and the turnaround counts from there. Zero
	// means DefaultTurnaround, a negative value none.
	Turnaround time.Duration

	// FromLastBit makes the turnaround count from the last bit of the request
	// itself, so that recognising its end is part of the turnaround. (The answer
	// still never comes before 3.5 characters have passed.) A transaction then
	// takes at best wire time + turnaround + the master's own silence. On GENIbus it
	// is always so.
	FromLastBit bool

	// Seed makes noise and faults repeatable.
	Seed int64

	// Faults are what goes wrong on the line; see fault.Parse. A rule may be
	// bound to one address.
	Faults []fault.Rule

	// Served, if set, receives a JSON line for every answer. OnServed, if set,
	// is called with it, in order: on a goroutine of its own, or, of a line in
	// memory, on the one that uses the port, before the call returns that
	// brought the answer's last byte.
	Served   io.Writer
	OnServed func(Served)

	// Clock tells the time; clock.System if nil. One that can be moved (a
	// MovableClock) makes a line in memory, to be opened with Simulator.Open. Any
	// other must run at the pace of the world.
	Clock clock.Clock

	// Log hears of the line's events: opened, closed, unplugged. Nil: nobody.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Protocol == "" {
		o.Protocol = Modbus
	}
	if o.Mode == (fieldbus.Mode{}) {
		o.Mode = fieldbus.Default
		if o.Protocol == GENIbus {
			o.Mode = geniMode
		}
	}
	switch {
	case o.Turnaround == 0:
		o.Turnaround = DefaultTurnaround
	case o.Turnaround < 0:
		o.Turnaround = 0
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// PumpOptions describe one pump on a line.
type PumpOptions struct {
	// Address is the pump's on the line, 1 to 247; on GENIbus 32 to 231.
	Address int

	// Model is what kind of pump it is, one of Models; "magna3" if empty.
	Model string

	// Seed tells this pump's noise from another's. Zero: made from the line's
	// seed and the address.
	Seed int64

	// Local starts the pump commanded from its own panel, as delivered. Without
	// it the pump starts in remote and running.
	Local bool

	// Other is the model of the unit that takes this pump's place when it is
	// exchanged (the fault and the scenario's cause exchange, Pump.Exchange). The
	// pump's own model is another pump of its kind. Empty: one of another family.
	Other string

	// Marked replaces what the pump measures by numbers of which each tells a judge
	// what it is: every register from 201 on, and every scaled item on GENIbus, has
	// another number in every answer. What the pump says of itself stays: identity,
	// configuration, control mode, bits, and what is not available.
	Marked bool
}
