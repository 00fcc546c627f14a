package physics

import (
	"math"
	"testing"
	"time"
)

// settled is a pump that has run long enough, with a demand that stands still.
func settled(d Design, mode Mode, setpoint float64) *Pump {
	p := New(d, 1)
	p.On, p.Mode, p.Setpoint = true, mode, setpoint
	p.Step(10 * time.Minute)
	p.demand = 1
	p.step(1e-9)
	return p
}

func near(a, b, share float64) bool { return math.Abs(a-b) <= share*math.Max(math.Abs(a), math.Abs(b)) }

func TestAffinityLawsHoldWithoutStaticHead(t *testing.T) {
	full := settled(Circulator, ConstantSpeed, 1)
	for _, n := range []float64{0.3, 0.5, 0.8} {
		p := settled(Circulator, ConstantSpeed, n)
		if !near(p.Flow, full.Flow*n, 1e-3) || !near(p.Head, full.Head*n*n, 1e-3) || !near(p.ShaftPower, full.ShaftPower*n*n*n, 1e-3) {
			t.Errorf("at speed %v: Q %v H %v P %v; full speed: Q %v H %v P %v", n, p.Flow, p.Head, p.ShaftPower, full.Flow, full.Head, full.ShaftPower)
		}
	}
}

func TestDutyPointLiesOnBothCurves(t *testing.T) {
	for _, d := range []Design{Circulator, Booster} {
		p := settled(d, ConstantSpeed, 0.9)
		own := p.Speed*p.Speed*d.ShutOffHead - d.Steepness*p.Flow*p.Flow
		plant := d.StaticHead + d.Resistance*p.Flow*p.Flow
		if !near(p.Head, own, 1e-6) || !near(p.Head, plant, 1e-6) {
			t.Errorf("head %v, pump's curve %v, plant's curve %v", p.Head, own, plant)
		}
	}
}

func TestASetPointOfHeadIsReached(t *testing.T) {
	p := settled(Circulator, ConstantHead, 0.5)
	if !near(p.Head, 5.5, 0.1) {
		t.Errorf("head %v m, asked for 5.5", p.Head)
	}
}

func TestEnergyIsPowerOverTimeAndNothingComesFromNothing(t *testing.T) {
	p := New(Booster, 3)
	p.On = true
	p.Setpoint = 0.95
	var sum, last float64
	for range 72000 { // an hour
		p.step(0.05)
		sum += p.Power * 0.05 / 3.6e6
		if p.Energy < last {
			t.Fatal("energy went down")
		}
		last = p.Energy
		if hydraulic := density * gravity * p.Flow / 3600 * p.Head; hydraulic > p.ShaftPower || p.ShaftPower > p.Power {
			t.Fatalf("hydraulic power %v, shaft %v, mains %v", hydraulic, p.ShaftPower, p.Power)
		}
	}
	if !near(sum, p.Energy, 1e-9) || p.Energy < 0.5 {
		t.Errorf("energy %v kWh, integral of power %v", p.Energy, sum)
	}
	if p.Motor < p.Design.Ambient+10 || p.Motor > 120 {
		t.Errorf("motor at %v °C after an hour", p.Motor)
	}
}

func TestAPumpThatIsOffStandsStill(t *testing.T) {
	p := settled(Booster, ConstantSpeed, 0.9)
	p.On = false
	p.Step(time.Minute)
	if p.Speed != 0 || p.Flow != 0 || p.ShaftPower != 0 || p.Power > 0.2*p.Design.MotorLoss {
		t.Errorf("off: %+v", p)
	}
	p.On = true
	p.Step(time.Minute)
	if p.Starts != 2 {
		t.Errorf("%d starts counted of 2", p.Starts)
	}
}
