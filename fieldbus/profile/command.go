package profile

import (
	"math/big"
	"time"

	"penstock/internal/telemetry"
)

// Command says how to change something on the pump, and how to see that it
// changed. Its name is one of CommandNames, whatever the family.
type Command struct {
	Name      string
	Register  int            // printed number; see IsCoil
	Bit       int            // the bit to change, or -1 for the whole register
	Keep      []int          // bits of the register that every write of this command sets
	Copy      map[int]string // bits of the register that are written as these points show them
	Pulse     bool           // the bit is set, then cleared: the device acts on the edge
	Value     Value          // what may be asked for; the zero Value for a pulse
	Remote    bool           // only while the bus commands the pump
	ReadBack  string         // the point that shows the result; "" is the register itself
	Tolerance int64          // raw steps by which the result may differ from what was asked for
	Settle    time.Duration  // the pump may take this long to follow
	Uncertain string         // why the entry may be wrong; "" when it is not in doubt

	Geni *GeniCommand // how it is sent on GENIbus, instead of Register and Bit
}

// Value is what a command may be given.
type Value struct {
	Enum     string          // a word of this enumeration, or its number …
	Allowed  []int64         // … among these
	Unit     string          // otherwise: a number in this unit …
	Scale    telemetry.Scale // … which is Scale of the register's raw value …
	Min, Max int64           // … within these raw values, both included
}

// CommandNames lists the commands that a family may have. Each is named after
// the point that it changes, and takes values as that point shows them;
// reset_alarm takes none, and has succeeded when the point that it is read back
// by shows 0.
var CommandNames = []string{"access", "running", "setpoint", "control_mode", "operation_mode", "max_flow_limit", "reset_alarm"}

// Command finds a command of the family.
func (p *Profile) Command(name string) (Command, bool) {
	for _, c := range p.Commands {
		if c.Name == name {
			return c, true
		}
	}
	return Command{}, false
}

// Followed tells whether a value that was read back, by an item of this scale,
// is what the command's raw value asked for.
func (c Command) Followed(asked, shown int64, scale telemetry.Scale) bool {
	switch {
	case c.Pulse:
		return shown == 0
	case c.Value.Enum != "":
		return asked == shown
	}
	raw, _ := c.Value.Scale.Raw(scale.Exact(shown))
	diff := raw.Sub(raw, big.NewInt(asked))
	return diff.CmpAbs(big.NewInt(c.Tolerance)) <= 0
}
