package physics

import (
	"slices"
	"time"
)

// Code is an alarm or warning code of the Modbus profile, 0 for none.
type Code uint16

// The codes that the model raises.
const (
	CodeMissingPhase  Code = 2
	CodeBearings      Code = 30
	CodeOvervoltage   Code = 32
	CodeUndervoltage  Code = 40
	CodeOverload      Code = 48
	CodeBlocked       Code = 51
	CodeDryRunning    Code = 57
	CodeTemperature   Code = 64
	CodeSensor        Code = 88
	CodeTwinHeadComms Code = 77
)

// Cause is something wrong in the world of a pump, from which an alarm or a
// warning follows.
type Cause uint8

// The causes.
const (
	DryRunning   Cause = iota // there is no water at the inlet
	BlockedRotor              // something holds the shaft
	Overheating               // the motor is not cooled
	PhaseLoss                 // one phase of the mains is missing
	Undervoltage
	Overvoltage
	Overload     // the shaft turns hard: sediment, a worn bearing ring
	SensorBroken // the feedback sensor gives no signal
	BearingsWorn // service is due
	causes
)

// Causes are the names of the causes, in their order.
var Causes = []string{
	"dry_running", "blocked_rotor", "overheating", "phase_loss", "undervoltage", "overvoltage",
	"overload", "sensor_broken", "bearings_worn",
}

// String is the cause's name.
func (c Cause) String() string {
	if int(c) < len(Causes) {
		return Causes[c]
	}
	return "unknown cause"
}

// ParseCause finds a cause by its name.
func ParseCause(name string) (Cause, bool) {
	i := slices.Index(Causes, name)
	return Cause(max(i, 0)), i >= 0
}

// protection is one thing that a pump's electronics watch: what they see, how
// long they put up with it, and what they say then.
type protection struct {
	code  Code
	delay time.Duration
	warn  bool // the pump goes on
	latch bool // only a reset lets the pump start again
	sees  func(d *drive) bool
}

// restart is how long after an alarm's cause has gone the pump tries again by
// itself.
const restart = 10 * time.Second

// protections in order of importance: the first that has struck is shown.
var protections = []protection{
	{code: CodeBlocked, delay: 3 * time.Second, latch: true, sees: func(d *drive) bool { return d.frequency > 0 && d.speed == 0 }},
	{code: CodeMissingPhase, delay: 2 * time.Second, sees: func(d *drive) bool { return d.caused[PhaseLoss] }},
	{code: CodeDryRunning, delay: 8 * time.Second, sees: func(d *drive) bool {
		// Under load the shaft takes little power although it turns. At rest,
		// the wet sensor tells whether water is back.
		return d.caused[DryRunning] && (d.speed > 0 || d.struck == CodeDryRunning)
	}},
	{code: CodeUndervoltage, delay: time.Second, sees: func(d *drive) bool { return d.mains < 0.85*float64(d.m.Mains) }},
	{code: CodeOvervoltage, delay: time.Second, sees: func(d *drive) bool { return d.mains > 1.15*float64(d.m.Mains) }},
	{code: CodeTemperature, delay: time.Second, sees: func(d *drive) bool {
		limit := float64(d.m.MotorTrip)
		if d.struck == CodeTemperature {
			limit -= 15 // it has to cool down before it may start
		}
		return d.motorTemp > limit
	}},
	{code: CodeOverload, delay: 20 * time.Second, latch: true, sees: func(d *drive) bool { return d.torque > 1.35*d.m.ratedTorque() && d.speed > 0 }},
	{code: CodeTemperature, delay: time.Second, warn: true, sees: func(d *drive) bool { return d.motorTemp > float64(d.m.MotorTrip)-10 }},
	{code: CodeSensor, delay: time.Second, warn: true, sees: func(d *drive) bool { return d.caused[SensorBroken] }},
	{code: CodeBearings, warn: true, sees: func(d *drive) bool { return d.caused[BearingsWorn] }},
}

// protect lets the electronics look for dt at what the motor does.
func (d *drive) protect(dt time.Duration) {
	d.warning = 0
	seen := false // the cause of the alarm that has struck
	for i := range protections {
		p := &protections[i]
		if !p.sees(d) {
			d.seen[i] = 0
			continue
		}
		d.seen[i] += dt
		switch {
		case p.warn && d.seen[i] >= p.delay:
			if d.warning == 0 {
				d.warning = p.code
			}
		case !p.warn && p.code == d.struck:
			seen = true
		case !p.warn && d.struck == 0 && d.seen[i] >= p.delay:
			d.struck, d.latched, d.clear = p.code, p.latch, 0
			seen = true
		}
	}
	if d.struck == 0 {
		return
	}
	if d.clear += dt; seen {
		d.clear = 0
	}
	if !d.latched && d.clear >= restart {
		d.struck = 0
	}
}

// reset is the acknowledgement of an alarm by a person or the bus. An alarm
// whose cause is still there comes back after its delay.
func (d *drive) reset() {
	d.struck, d.latched, d.clear = 0, false, 0
	clear(d.seen[:])
}
