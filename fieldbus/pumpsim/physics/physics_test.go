package physics

import (
	"math"
	"testing"
	"time"
)

// at runs a pump open loop for a while and returns its state.
func at(m Model, share float64, d time.Duration) (*Plant, State) {
	p := New(m, 1, 1)
	p.SetBus(Settings{On: true, Control: ConstantFrequency, Setpoint: share})
	p.Advance(d)
	return p, p.State()
}

func TestHeadCurveFollowsTheAffinityLaws(t *testing.T) {
	m := Multistage()
	c := m.curve()
	if h := c.head(float64(m.BestFlow), 1); math.Abs(h-float64(m.BestHead)) > 1e-9 {
		t.Errorf("head at best flow %v; the plate says %v", h, m.BestHead)
	}
	for _, n := range []float64{0.4, 0.7, 1} {
		for _, q := range []float64{0, 3, 8} {
			h, p := c.head(q, 1), c.shaft(q, c.head(q, 1), 1)
			// Flow with the speed, head with its square, power with its cube.
			if got, want := c.head(q*n, n), h*n*n; math.Abs(got-want) > 1e-9 {
				t.Errorf("head at speed %v, flow %v: %v; want %v", n, q*n, got, want)
			}
			if got, want := c.shaft(q*n, h*n*n, n), p*n*n*n; math.Abs(got-want) > 1e-9*p {
				t.Errorf("power at speed %v, flow %v: %v; want %v", n, q*n, got, want)
			}
		}
	}
}

func TestDutyPointIsOnBothCurves(t *testing.T) {
	m := Multistage()
	c, s := m.curve(), system{float64(m.StaticHead), m.Resistance}
	for _, speeds := range [][]float64{{1}, {0.8}, {1, 1, 1}, {1, 0, 0.9}} {
		flows := make([]float64, len(speeds))
		h := duty(c, speeds, s, flows)
		sum := 0.0
		for i, q := range flows {
			sum += q
			if q > 0 && math.Abs(c.head(q, speeds[i])-h) > 1e-6 {
				t.Errorf("%v: impeller %d gives %v m at its flow; the head is %v", speeds, i, c.head(q, speeds[i]), h)
			}
		}
		if want := s.static + s.resistance*sum*sum; math.Abs(h-want) > 1e-6 {
			t.Errorf("%v: the pipes ask for %v m at %v m³/h; the head is %v", speeds, want, sum, h)
		}
	}
}

func TestASetPointMovesSpeedHeadFlowPowerAndEnergy(t *testing.T) {
	slowPlant, slow := at(Circulator(), 0.5, time.Minute)
	fastPlant, fast := at(Circulator(), 0.9, time.Minute)
	if !(fast.Speed > 1.7*slow.Speed && fast.Head > 2.5*slow.Head && fast.Flow > 1.5*slow.Flow && fast.Power > 3*slow.Power) {
		t.Errorf("at 50 %%: %+v\nat 90 %%: %+v", slow, fast)
	}
	used := func(p *Plant, from State) Joules {
		p.Advance(time.Minute + time.Hour)
		return p.State().Energy - from.Energy
	}
	if e, f := used(slowPlant, slow), used(fastPlant, fast); f < 3*e || e <= 0 {
		t.Errorf("energy of an hour %v at 50 %%, %v at 90 %%", e, f)
	}
}

func TestTheMotorTakesMoreThanItGives(t *testing.T) {
	for _, m := range []Model{Circulator(), Multistage(), Borehole()} {
		_, s := at(m, 0.95, time.Minute)
		if hydraulic := density * gravity * float64(s.Flow) / hour * float64(s.Head); hydraulic <= 0 || hydraulic >= float64(s.Shaft) || s.Shaft >= s.Power {
			t.Errorf("water %v W, shaft %v, mains %v: each has to be less than the next", hydraulic, s.Shaft, s.Power)
		}
	}
}

func TestTheMotorWarmsUpAndCountersCount(t *testing.T) {
	p, cold := at(Multistage(), 0.95, 10*time.Second)
	p.Advance(time.Hour + 10*time.Second)
	warm := p.State()
	if warm.MotorTemperature < cold.MotorTemperature+15 || warm.MotorTemperature > p.Model().MotorTrip {
		t.Errorf("the motor went from %v to %v °C in an hour", cold.MotorTemperature, warm.MotorTemperature)
	}
	if warm.Running-cold.Running != time.Hour || warm.Powered-cold.Powered != time.Hour {
		t.Errorf("an hour counted as %v running, %v powered", warm.Running-cold.Running, warm.Powered-cold.Powered)
	}
	p.SetBus(Settings{})
	p.Advance(2 * time.Hour)
	rest := p.State()
	p.Advance(3 * time.Hour)
	if s := p.State(); s.Running != rest.Running || s.Powered-rest.Powered != time.Hour || s.Speed != 0 {
		t.Errorf("a pump that stands still counts %v running and turns at %v", s.Running-rest.Running, s.Speed)
	}
}

func TestEveryCauseHasItsAlarmAndItsCure(t *testing.T) {
	for _, c := range []struct {
		cause   Cause
		code    Code
		warning bool
		within  time.Duration
		latched bool // needs a reset
	}{
		{DryRunning, CodeDryRunning, false, 15 * time.Second, false},
		{BlockedRotor, CodeBlocked, false, 10 * time.Second, true},
		{Overheating, CodeTemperature, false, 10 * time.Minute, false},
		{PhaseLoss, CodeMissingPhase, false, 5 * time.Second, false},
		{Undervoltage, CodeUndervoltage, false, 5 * time.Second, false},
		{Overvoltage, CodeOvervoltage, false, 5 * time.Second, false},
		{Overload, CodeOverload, false, time.Minute, true},
		{SensorBroken, CodeSensor, true, 5 * time.Second, false},
		{BearingsWorn, CodeBearings, true, time.Second, false},
	} {
		p, _ := at(Multistage(), 0.9, time.Minute)
		shown := func() Code {
			s := p.State()
			if c.warning {
				return s.Warning
			}
			return s.Alarm
		}
		if got := shown(); got != 0 {
			t.Errorf("%v: code %d before its time", c.cause, got)
		}
		p.SetCause(0, c.cause, true)
		for end := p.Now() + c.within; shown() != c.code && p.Now() < end; {
			p.Advance(p.Now() + time.Second)
		}
		if got := shown(); got != c.code {
			t.Errorf("%v: code %d after %v; want %d", c.cause, got, c.within, c.code)
		}
		p.Advance(p.Now() + time.Second)
		if s := p.State(); (s.Frequency == 0) == c.warning {
			t.Errorf("%v: the motor's frequency is %v; an alarm stops it and a warning does not", c.cause, s.Frequency)
		}
		p.SetCause(0, c.cause, false)
		p.Advance(p.Now() + 30*time.Minute)
		if got := shown(); (got != 0) != c.latched {
			t.Errorf("%v: code %d half an hour after the cause has gone; a reset is needed: %v", c.cause, got, c.latched)
		}
		p.Reset()
		p.Advance(p.Now() + time.Minute)
		if s := p.State(); shown() != 0 || s.Speed == 0 {
			t.Errorf("%v: after the reset code %d, speed %v", c.cause, shown(), s.Speed)
		}
	}
}

func TestHowOftenAPumpIsAskedChangesNothing(t *testing.T) {
	one, often := New(Multistage(), 3, 7), New(Multistage(), 3, 7)
	one.Advance(10 * time.Minute)
	for d := time.Duration(0); d <= 10*time.Minute; d += 13 * time.Millisecond {
		often.Advance(d)
	}
	often.Advance(10 * time.Minute)
	if a, b := one.State(), often.State(); a != b {
		t.Errorf("asked once:  %+v\nasked often: %+v", a, b)
	}
}

func TestABoosterGoesOnWithoutThePumpThatFailed(t *testing.T) {
	p := New(Multistage(), 3, 1)
	p.SetBus(Settings{On: true, Control: ConstantHead, Setpoint: 0.6})
	p.Advance(2 * time.Minute)
	p.SetCause(0, BlockedRotor, true)
	p.Advance(5 * time.Minute)
	if s := p.State(); s.Alarm != 0 || s.Flow <= 0 {
		t.Errorf("with one pump blocked: alarm %d, flow %v; the set shall go on", s.Alarm, s.Flow)
	}
}
