package poll

import (
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/telemetry"
)

// energyOf sets a fake pump's energy counter.
func energyOf(p *fakePump, register int, value uint32) {
	p.regs[uint16(register-1)], p.regs[uint16(register)] = uint16(value>>16), uint16(value)
}

func TestACounterThatFallsIsInDoubtUntilItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		it, ok := epump(t).Item("energy")
		if !ok || it.Width != 32 {
			t.Fatalf("energy: %+v", it)
		}
		p := r.m.pumps[1]
		energyOf(p, it.Register, 3223)
		set := func(v uint32) { r.m.set(func() { energyOf(p, it.Register, v) }) }
		r.run(30*time.Minute, func() {
			time.Sleep(5 * time.Minute)
			set(0) // a slip
			time.Sleep(2 * time.Minute)
			set(3224)
			time.Sleep(5 * time.Minute)
			set(7) // a reset
		})
		doubtful, good := map[int64]int{}, map[int64]int{}
		for _, x := range r.of("bus1-1", "energy") {
			switch x.Quality {
			case telemetry.Good:
				good[x.Raw]++
			case telemetry.Doubtful:
				doubtful[x.Raw]++
			case telemetry.NotAvailable, telemetry.Stale, telemetry.Missing:
			}
		}
		if good[0] > 0 || doubtful[0] == 0 || good[3223] == 0 || good[3224] == 0 || doubtful[3224] > 0 {
			t.Errorf("good %v, in doubt %v", good, doubtful)
		}
		if good[7] == 0 || doubtful[7] == 0 {
			t.Errorf("the reset: good %v, in doubt %v", good, doubtful)
		}
	})
}
