package physics

import (
	"math"
	"time"
)

// Grid is the step of the model. Between two steps nothing changes, so what a
// pump is asked does not depend on how often it is asked.
const Grid = 50 * time.Millisecond

// Plant is a pump, or a booster set of several alike, in its pipe system, with
// the controller that a bus talks to. It belongs to one goroutine.
type Plant struct {
	m      Model
	drives []*drive
	around weather
	now    time.Duration

	bus, panel     Settings
	remote, forced bool
	tuning         Tuning
	maxFlow        CubicMetresPerHour // 0: no limit
	feedTrouble    bool               // the feedback sensor is broken

	want      float64 // the frequency that the controller wants
	lastError float64
	flowLimit float64 // the highest frequency that the flow limit allows
	on        []bool  // which drives the controller uses
	staged    time.Duration

	speeds, flows              []float64
	head, target, feedback     float64
	liquid, returned, ambient  float64
	heat, heatEnergy, pressure float64
}

// Tuning is the controller's: gain, integral time, and whether more speed
// lowers the feedback.
type Tuning struct {
	Gain     float64
	Integral time.Duration
	Inverse  bool
}

// New returns a plant of so many pumps of a model, in remote and switched on.
// The seed decides its age and the weather.
func New(m Model, pumps int, seed uint64) *Plant {
	p := &Plant{
		m: m, around: newWeather(seed), remote: true,
		panel:  Settings{On: true, Control: ConstantHead, Setpoint: 0.5},
		tuning: Tuning{Gain: 0.5, Integral: 500 * time.Millisecond},
		on:     make([]bool, pumps), speeds: make([]float64, pumps), flows: make([]float64, pumps),
		flowLimit: m.MaxFrequency,
	}
	p.bus = p.panel
	for range pumps {
		d := newDrive(&p.m)
		d.powered = time.Duration(2000+p.around.r.IntN(16000)) * time.Hour
		share := 0.6 + 0.3*p.around.r.Float64()
		d.running = time.Duration(share * float64(d.powered))
		d.energy = 0.6 * float64(m.RatedPower) * d.running.Seconds()
		d.volume = 0.6 * float64(m.BestFlow) * d.running.Hours()
		d.starts = 50 + p.around.r.IntN(900)
		p.drives = append(p.drives, d)
	}
	p.heatEnergy = float64(m.HeatLoad) * 0.4 * p.drives[0].running.Seconds()
	p.sense()
	return p
}

// Model is the plate of the plant's pumps.
func (p *Plant) Model() *Model { return &p.m }

// Pumps is how many pumps the plant has.
func (p *Plant) Pumps() int { return len(p.drives) }

// Now is how far the plant has been advanced.
func (p *Plant) Now() time.Duration { return p.now }

// Advance lets time pass, in steps of Grid, up to the last one not after t.
func (p *Plant) Advance(t time.Duration) {
	for p.now+Grid <= t {
		p.step()
	}
}

// Bus is what the bus has told the plant. It is in force while the plant is in
// remote.
func (p *Plant) Bus() Settings { return p.bus }

// SetBus tells the plant something by the bus.
func (p *Plant) SetBus(s Settings) { p.bus = s }

// Panel is what the plant was told at its panel, in force while in local.
func (p *Plant) Panel() Settings { return p.panel }

// SetPanel turns the knobs of the panel.
func (p *Plant) SetPanel(s Settings) { p.panel = s }

// SetRemote gives command to the bus or takes it back.
func (p *Plant) SetRemote(on bool) { p.remote = on }

// Force holds the plant in local, as a stop button at the panel does.
func (p *Plant) Force(on bool) { p.forced = on }

// Remote tells whether the bus commands the plant.
func (p *Plant) Remote() bool { return p.remote && !p.forced }

// Forced tells whether the plant is held in local.
func (p *Plant) Forced() bool { return p.forced }

// SetMaxFlow sets the flow that is not exceeded, 0 for no limit.
func (p *Plant) SetMaxFlow(q CubicMetresPerHour) { p.maxFlow = max(q, 0) }

// Tuning is the controller's tuning.
func (p *Plant) Tuning() Tuning { return p.tuning }

// SetTuning changes the controller's tuning. An integral time below Grid is
// taken as Grid.
func (p *Plant) SetTuning(t Tuning) {
	t.Integral = max(t.Integral, Grid)
	p.tuning = t
}

// Reset acknowledges alarms, of all pumps.
func (p *Plant) Reset() {
	for _, d := range p.drives {
		d.reset()
	}
}

// SetCause brings about or ends the cause of an alarm, at pump i (from 0). A
// broken feedback sensor concerns the plant, missing water all of its pumps.
func (p *Plant) SetCause(i int, c Cause, on bool) {
	for j, d := range p.drives {
		if j == i || c == DryRunning || c == SensorBroken {
			d.caused[c] = on
		}
	}
	if c == SensorBroken {
		p.feedTrouble = on
	}
}

func (p *Plant) inForce() Settings {
	if p.Remote() {
		return p.bus
	}
	return p.panel
}

// step lets Grid pass.
func (p *Plant) step() {
	p.now += Grid
	seconds := Grid.Seconds()
	p.around.step(seconds)
	p.sense()
	s := p.inForce()
	p.control(s, seconds)
	p.stage(s)
	for i, d := range p.drives {
		d.mains = p.mains(d)
		d.turn(p.on[i], p.want, Grid)
		p.speeds[i] = d.wet()
	}
	o := p.around.opening()
	p.head = duty(p.drives[0].c, p.speeds, system{float64(p.m.StaticHead), p.m.Resistance / (o * o) / float64(len(p.drives)*len(p.drives))}, p.flows)
	for i, d := range p.drives {
		d.load(p.flows[i], p.head, p.liquid, p.ambient, Grid)
		d.protect(Grid)
	}
	p.warm(seconds)
}

func (p *Plant) mains(d *drive) float64 {
	u := float64(p.m.Mains) * (1 + p.around.mains.x)
	switch {
	case d.caused[Undervoltage]:
		u *= 0.74
	case d.caused[Overvoltage]:
		u *= 1.24
	}
	return u
}

// sense reads the surroundings.
func (p *Plant) sense() {
	p.liquid = float64(p.m.Liquid) + p.around.liquid.x
	p.ambient = float64(p.m.Ambient) + p.around.ambient.x
	p.pressure = float64(p.m.Inlet) + p.around.inlet.x
	if p.drives[0].caused[DryRunning] {
		p.pressure = 0
	}
	if p.returned == 0 {
		p.returned = p.liquid
	}
}

func (p *Plant) flow() (sum float64) {
	for _, q := range p.flows {
		sum += q
	}
	return sum
}

// warm works out the heat that the liquid carries: what the consumers take
// cools it the more, the slower it comes round.
func (p *Plant) warm(seconds float64) {
	perKelvin := density * heatWater * p.flow() / hour
	cold := p.ambient
	switch {
	case p.m.HeatLoad == 0:
		cold = p.liquid
	case perKelvin > 0:
		cold = max(p.ambient, p.liquid-float64(p.m.HeatLoad)/perKelvin)
	}
	p.returned = approach(p.returned, cold, seconds/20)
	p.heat = max(0, perKelvin*(p.liquid-p.returned))
	p.heatEnergy += p.heat * seconds
}

// State is what the plant does as a whole.
func (p *Plant) State() State {
	s := p.PumpState(0)
	s.Settings = p.inForce()
	s.Remote, s.Forced = p.Remote(), p.forced
	s.Flow, s.FlowLimited = CubicMetresPerHour(p.flow()), p.flowLimited()
	s.Target, s.Feedback = p.target, p.feedback
	s.Inlet, s.LiquidTemperature, s.ReturnTemperature = Bar(p.pressure), Celsius(p.liquid), Celsius(p.returned)
	s.Heat, s.HeatEnergy = Watts(p.heat), Joules(p.heatEnergy)
	for i := 1; i < len(p.drives); i++ {
		o := p.PumpState(i)
		s.Power += o.Power
		s.Shaft += o.Shaft
		s.Energy += o.Energy
		s.Volume += o.Volume
		s.Current += o.Current
		s.Starts += o.Starts
		s.Running, s.Powered = max(s.Running, o.Running), max(s.Powered, o.Powered)
		if o.Speed > s.Speed {
			s.Speed, s.Frequency, s.Drive, s.Motor = o.Speed, o.Frequency, o.Drive, o.Motor
			s.AtMaxPower, s.AtMaxSpeed, s.AtMinSpeed = o.AtMaxPower, o.AtMaxSpeed, o.AtMinSpeed
		}
		if s.Alarm == 0 {
			s.Alarm = o.Alarm
		}
		if s.Warning == 0 {
			s.Warning = o.Warning
		}
	}
	if len(p.drives) > 1 && s.Alarm != 0 && p.available() > 0 {
		// The set goes on without the pump that failed.
		s.Warning, s.Alarm = s.Alarm, 0
	}
	return s
}

// PumpState is what one pump of the plant does, from 0. What concerns the plant
// as a whole is left out.
func (p *Plant) PumpState(i int) State {
	d, m := p.drives[i], &p.m
	s := State{
		Settings: Settings{On: p.on[i]},
		Drive:    d.state, Alarm: d.struck, Warning: d.warning,
		AtMaxPower: d.frequency > 0 && d.limit < m.MaxFrequency && d.frequency >= d.limit-0.005,
		AtMaxSpeed: d.frequency >= m.MaxFrequency-0.001,
		AtMinSpeed: d.frequency > 0 && d.frequency <= m.MinFrequency+0.001,
		Head:       Metres(p.head), Flow: CubicMetresPerHour(p.flows[i]), Volume: CubicMetres(d.volume),
		Speed:     RPM(d.speed) * m.nominalSpeed(),
		Frequency: Hertz(d.frequency) * m.NominalFrequency,
		Torque:    NewtonMetres(d.torque), Shaft: Watts(d.shaft), Power: Watts(d.power), Energy: Joules(d.energy),
		Mains:            Volts(d.mains),
		Link:             Volts(d.mains * math.Sqrt2),
		MotorTemperature: Celsius(d.motorTemp), ConverterTemperature: Celsius(d.converterTemp),
		Running: d.running, Powered: d.powered, Starts: d.starts,
	}
	s.Motor = Volts(d.mains * min(d.frequency, 1))
	if d.frequency > 0 {
		root := 1.0
		if m.Phases == 3 {
			root = math.Sqrt(3)
		}
		s.Current = Amperes(d.power / (root * d.mains * m.PowerFactor))
	}
	return s
}
