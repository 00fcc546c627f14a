package physics

import (
	"math"
	"time"
)

// drive is one impeller with its motor and frequency converter: what turns.
type drive struct {
	m *Model
	c curve

	frequency float64 // share of the nominal one
	speed     float64 // share of the nominal one
	torque    float64 // N·m
	shaft     float64 // W
	power     float64 // W
	mains     float64 // V
	limit     float64 // the highest frequency that the power limit allows
	state     DriveState

	motorTemp, converterTemp float64

	energy, volume   float64 // J, m³
	running, powered time.Duration
	starts           int

	caused  [causes]bool
	seen    [16]time.Duration // by protection
	struck  Code              // the alarm
	latched bool
	clear   time.Duration // since the alarm's cause has gone
	warning Code
}

func newDrive(m *Model) *drive {
	return &drive{
		m: m, c: m.curve(), mains: float64(m.Mains), limit: m.MaxFrequency,
		motorTemp: float64(m.Ambient), converterTemp: float64(m.Ambient),
	}
}

// turn moves the frequency towards what the controller wants, as fast as the
// ramp allows, and lets the shaft follow.
func (d *drive) turn(on bool, want float64, dt time.Duration) {
	want = min(max(want, d.m.MinFrequency), d.m.MaxFrequency, d.limit)
	if !on || d.struck != 0 {
		want = 0
	}
	if d.struck != 0 {
		d.frequency = 0 // the converter opens at once
	}
	if want > 0 && d.frequency == 0 {
		d.starts++
	}
	step := dt.Seconds() / d.m.Ramp.Seconds()
	was := d.frequency
	d.frequency += min(max(want-d.frequency, -step), step)
	switch moved := d.frequency - was; {
	case d.frequency == 0:
		d.state = Stopped
	case moved > step/4:
		d.state = Accelerating
	case moved < -step/4:
		d.state = SlowingDown
	default:
		d.state = Steady
	}
	slip := d.m.Slip * d.torque / d.m.ratedTorque()
	d.speed = max(0, (d.frequency-slip)/(1-d.m.Slip))
	if d.caused[BlockedRotor] || d.frequency == 0 {
		d.speed = 0
	}
}

// wet is the speed that counts for the water: a dry impeller moves none.
func (d *drive) wet() float64 {
	if d.caused[DryRunning] {
		return 0
	}
	return d.speed
}

// load works out what the motor takes at a duty point, and what that does to
// its temperatures and counters.
func (d *drive) load(flow, head, liquid, ambient float64, dt time.Duration) {
	m := d.m
	seconds := dt.Seconds()
	omega := radians(d.speed * float64(m.nominalSpeed()))
	rated := m.ratedTorque()
	switch {
	case d.frequency == 0:
		d.shaft, d.torque = 0, 0
	case d.speed == 0: // held: the converter pushes as hard as it may
		d.shaft, d.torque = 0, 1.5*rated
	default:
		d.shaft = d.c.shaft(flow, head, d.wet())
		if d.caused[DryRunning] {
			d.shaft = 0.12 * float64(m.RatedPower) * math.Pow(d.speed, 3)
		}
		d.torque = d.shaft / omega
		if d.caused[Overload] {
			d.torque += 1.2 * rated
			d.shaft = d.torque * omega
		}
	}
	// Copper losses go with the square of the torque, iron and windage with the
	// speed. A missing phase leaves its current to the other two.
	losses := 0.0
	if d.frequency > 0 {
		copper := 0.6 * m.ratedLosses() * math.Pow(d.torque/rated, 2)
		if d.caused[PhaseLoss] {
			copper *= 2
		}
		losses = copper + 0.4*m.ratedLosses()*math.Pow(d.frequency, 1.5)
	}
	d.power = float64(m.Standby) + d.shaft + losses
	d.limitPower(seconds)

	rise, tau := float64(m.MotorRise), m.MotorTau.Seconds()
	if d.caused[DryRunning] {
		rise *= 2.5 // the liquid cooled it
	}
	if d.caused[Overheating] {
		rise, tau = 260+rise*4, tau/12
	}
	around := (liquid + ambient) / 2
	d.motorTemp = approach(d.motorTemp, around+rise*losses/m.ratedLosses(), seconds/tau)
	d.converterTemp = approach(d.converterTemp, ambient+float64(m.ConverterRise)*(losses+float64(m.Standby))/m.ratedLosses(), seconds/m.ConverterTau.Seconds())

	d.energy += d.power * seconds
	d.volume += flow / hour * seconds
	d.powered += dt
	if d.frequency > 0 {
		d.running += dt
	}
}

// limitPower lowers the highest frequency while the mains give more than they
// may, and lets it rise again slowly.
func (d *drive) limitPower(seconds float64) {
	excess := d.power/float64(d.m.MaxPower) - 1
	if excess > 0 && d.frequency > 0 {
		d.limit = min(d.limit, d.frequency) - 0.5*excess*seconds
	} else if d.limit < d.m.MaxFrequency {
		d.limit += min(-0.5*excess, 0.1) * seconds
	}
	d.limit = min(max(d.limit, d.m.MinFrequency), d.m.MaxFrequency)
}

// approach moves x towards its end value by steps of the time constant.
func approach(x, end, steps float64) float64 {
	return end + (x-end)*math.Exp(-steps)
}
