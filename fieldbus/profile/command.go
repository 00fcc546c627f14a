package profile

import (
	"time"

	"penstock/internal/telemetry"
)

// Command says how to change something on the pump, and how to see that it
// changed. The names are the same for every family: setpoint, control_mode,
// operation_mode, running (start and stop), access (remote and local),
// reset_alarm.
type Command struct {
	Name     string
	Register int
	Bit      int           // the bit to change, or -1 for the whole register
	Keep     []int         // bits that are set with every write of this command
	Pulse    bool          // the bit is set and then cleared: only the edge counts
	Value    Value         // what may be asked for; the zero Value for a pulse
	Remote   bool          // the pump must be commanded by the bus
	ReadBack string        // the point that shows the result; "" for the register itself
	Settle   time.Duration // the pump may take this long to follow
}

// Value is the range of a command's argument, in raw steps of its register.
type Value struct {
	Enum     string          // the argument is a word of this enumeration, or its number
	Allowed  []int64         // the numbers of Enum that the family takes
	Scale    telemetry.Scale // otherwise: raw to Unit
	Unit     string
	Min, Max int64 // raw, both included
}
