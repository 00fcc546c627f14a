// Package physics is a small model of a pump in a plant: enough of one that a
// set-point does something, and that numbers which belong together stay
// together.
//
// A centrifugal pump of speed n delivers flow Q against head H where its own
// curve meets the plant's. By the affinity laws its curve at another speed is
//
//	H = n²·H0 − a·Q²      (n relative to nominal)
//
// and a plant that circulates or lifts water asks for H = Hs + k·Q². The power
// at the shaft follows from the hydraulic power ρ·g·Q·H and the efficiency,
// which is best at one flow and falls off on both sides; that flow moves with
// the speed. The motor adds its losses, which warm it, and energy is power over
// time. The plant's resistance k wanders, as users open and close their taps.
//
// The model knows no clock: it is stepped.
package physics

import (
	"math"
	"math/rand/v2"
	"time"
)

// Physical constants of water at 20 °C.
const (
	density = 998.2   // kg/m³
	gravity = 9.80665 // m/s²
)

// Mode is what the controller keeps constant.
type Mode int

// The modes of the model; a pump that is asked for another keeps its speed.
const (
	ConstantSpeed Mode = iota
	ConstantHead
	ProportionalHead
)

// Design is a pump and the plant around it.
type Design struct {
	ShutOffHead  float64       // m, at nominal speed and no flow
	BestFlow     float64       // m³/h, where efficiency is best at nominal speed
	Steepness    float64       // a, m/(m³/h)²
	Resistance   float64       // k, m/(m³/h)²
	StaticHead   float64       // Hs, m
	Efficiency   float64       // the best of the hydraulics, 0 to 1
	MotorLoss    float64       // W at nominal speed, and a tenth of it at rest
	NominalSpeed float64       // 1/min
	Ramp         time.Duration // from rest to nominal speed
	Ambient      float64       // °C
	Liquid       float64       // °C
}

// Circulator is a mid-sized wet-rotor circulator in a heating plant.
var Circulator = Design{ShutOffHead: 11, BestFlow: 18, Steepness: 0.0125, Resistance: 0.018, Efficiency: 0.68,
	MotorLoss: 70, NominalSpeed: 2900, Ramp: 4 * time.Second, Ambient: 22, Liquid: 58}

// Booster is a multistage pump that lifts water into a building.
var Booster = Design{ShutOffHead: 62, BestFlow: 14, Steepness: 0.085, Resistance: 0.06, StaticHead: 22, Efficiency: 0.71,
	MotorLoss: 260, NominalSpeed: 3400, Ramp: 6 * time.Second, Ambient: 18, Liquid: 12}

// Pump is the state of the model. It belongs to one goroutine.
type Pump struct {
	Design Design

	On       bool
	Mode     Mode
	Setpoint float64 // 0 to 1: of nominal speed, or of the shut-off head

	Speed       float64 // relative to nominal
	Head        float64 // m
	Flow        float64 // m³/h
	ShaftPower  float64 // W
	Power       float64 // W from the mains
	Motor       float64 // °C
	Electronics float64 // °C
	Energy      float64 // kWh
	Volume      float64 // m³
	Running     time.Duration
	Powered     time.Duration
	Starts      int

	rng    *rand.Rand
	demand float64 // factor on the plant's resistance
}

// New is a pump at rest at ambient temperature.
func New(d Design, seed uint64) *Pump {
	return &Pump{Design: d, Motor: d.Ambient, Electronics: d.Ambient, Setpoint: 0.6, demand: 1,
		rng: rand.New(rand.NewPCG(seed, 0x70756d70))}
}

// Step moves the model on by dt, in small pieces.
func (p *Pump) Step(dt time.Duration) {
	const piece = 50 * time.Millisecond
	for dt > 0 {
		d := min(dt, piece)
		p.step(d.Seconds())
		p.Powered += d
		if p.Speed > 0 {
			p.Running += d
		}
		dt -= d
	}
}

func (p *Pump) step(s float64) {
	// A resistance that wanders but comes back (Ornstein-Uhlenbeck, 20 s).
	p.demand += (1-p.demand)*s/20 + 0.05*math.Sqrt(s)*p.rng.NormFloat64()
	p.demand = min(max(p.demand, 0.5), 2)

	p.turn(s)
	d, n := p.Design, p.Speed
	k := d.Resistance * p.demand
	p.Flow, p.Head = 0, n*n*d.ShutOffHead
	if p.Head > d.StaticHead {
		p.Flow = math.Sqrt((p.Head - d.StaticHead) / (d.Steepness + k))
		p.Head = d.StaticHead + k*p.Flow*p.Flow
	}
	hydraulic := density * gravity * p.Flow / 3600 * p.Head
	p.ShaftPower = 0
	if n > 0 {
		// At shut-off the water is churned: a third of the power at best flow.
		churn := 0.33 * density * gravity * d.BestFlow / 3600 * d.ShutOffHead * 0.75 * n * n * n
		p.ShaftPower = max(churn, hydraulic/p.efficiency())
	}
	loss := 0.1 * d.MotorLoss
	if n > 0 {
		loss += 0.9*d.MotorLoss*n*n + 0.06*p.ShaftPower
	}
	p.Power = p.ShaftPower + loss
	p.Energy += p.Power * s / 3.6e6
	p.Volume += p.Flow * s / 3600
	p.Motor += ((d.Ambient + 0.35*(d.Liquid-d.Ambient)*boolean(p.Flow > 0) + 0.12*loss) - p.Motor) * s / 300
	p.Electronics += ((d.Ambient + 8 + 0.06*loss) - p.Electronics) * s / 120
}

// efficiency of the hydraulics at the duty point.
func (p *Pump) efficiency() float64 {
	off := p.Flow/(p.Design.BestFlow*p.Speed) - 1
	return max(p.Design.Efficiency*(1-off*off), 0.05)
}

// turn moves the speed towards what the controller wants, no faster than the ramp.
func (p *Pump) turn(s float64) {
	want := 0.0
	if p.On {
		want = p.wanted(s)
	}
	if p.Speed == 0 && want > 0 {
		p.Starts++
	}
	most := s / p.Design.Ramp.Seconds()
	p.Speed += min(max(want-p.Speed, -most), most)
	if p.Speed < 1e-6 {
		p.Speed = 0
	}
}

func (p *Pump) wanted(s float64) float64 {
	const slowest = 0.12 // a motor with electronics does not creep
	target := 0.0
	switch p.Mode {
	case ConstantHead:
		target = p.Setpoint * p.Design.ShutOffHead
	case ProportionalHead: // half of it at no flow
		target = p.Setpoint * p.Design.ShutOffHead * (0.5 + 0.5*min(p.Flow/p.Design.BestFlow, 1))
	default:
		return min(max(p.Setpoint, slowest), 1)
	}
	err := (target - p.Head) / p.Design.ShutOffHead
	return min(max(p.Speed+2*err*s+0.5*err*s, slowest), 1)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
