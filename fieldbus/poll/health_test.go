package poll

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

func TestDeadPumpsKeepToTheirShare(t *testing.T) {
	for _, tc := range []struct{ pumps, dead int }{{1, 1}, {8, 1}, {8, 8}, {8, 7}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, epump(t), tc.pumps)
			for i := range tc.dead {
				r.m.pumps[byte(i+1)].dead = true
			}
			const run = 2 * time.Minute
			r.run(run)
			var spent time.Duration
			for _, d := range r.m.spent {
				spent += d
			}
			if share := spent.Seconds() / run.Seconds(); share > defaultDeadShare+0.005 {
				t.Errorf("%d of %d dead: they took %.3f of the bus", tc.dead, tc.pumps, share)
			}
			for i, d := range r.Status().Devices {
				want := OK
				if i < tc.dead {
					want = Dead
				}
				if d.State != want {
					t.Errorf("%d of %d dead: %s is %s", tc.dead, tc.pumps, d.ID, d.State)
				}
			}
			// Each of the living is read in every slot but for the first moments.
			for i := tc.dead; i < tc.pumps; i++ {
				lost := 0
				for _, x := range r.of(r.devices[i].ID, "head") {
					if x.Quality == telemetry.Missing && x.Slot.Sub(r.readings[0].Slot) > 10*time.Second {
						lost++
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d dead: a living pump lost %d slots", tc.dead, tc.pumps, lost)
				}
			}
			for i := range tc.dead {
				if got := r.of(r.devices[i].ID, "head"); len(got) < 100 || got[50].Quality != telemetry.Missing {
					t.Errorf("a dead pump has %d readings", len(got))
				}
			}
		})
	}
}

func TestAPumpThatReturnsIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 2)
		r.run(5*time.Minute, func() {
			time.Sleep(30 * time.Second)
			r.m.set(func() { r.m.pumps[1].dead = true })
			time.Sleep(2 * time.Minute)
			if d := r.Status().Devices[0]; d.State != Dead || d.Problem == "" || d.Failures < deadAfter {
				t.Errorf("%+v", d)
			}
			r.m.set(func() { r.m.pumps[1].dead = false })
			time.Sleep(penaltyMost + 5*time.Second)
			if d := r.Status().Devices[0]; d.State != OK || d.Problem != "" || d.Failures != 0 {
				t.Errorf("%+v", d)
			}
		})
	})
}

func TestOneReturningPumpBringsTheOthersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 8)
		r.run(4*time.Minute, func() {
			time.Sleep(time.Second)
			all := func(dead bool) {
				r.m.set(func() {
					for _, p := range r.m.pumps {
						p.dead = dead
					}
				})
			}
			all(true)
			time.Sleep(2 * time.Minute)
			all(false) // the cable is plugged in again
			for r.healthy() == 0 {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			if n := r.healthy(); n != 8 {
				t.Errorf("3 s after the first pump came back, %d of 8 are read", n)
			}
		})
	})
}

func (r *rig) healthy() (n int) {
	for _, d := range r.Status().Devices {
		if d.State == OK {
			n++
		}
	}
	return n
}

func TestALostFrameIsAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		var lostAt time.Time
		r.run(20*time.Second, func() {
			time.Sleep(15*time.Second + 300*time.Millisecond)
			r.m.set(func() { r.m.pumps[1].lose = 1 })
			lostAt = time.Now()
		})
		for _, x := range r.readings {
			if x.Quality == telemetry.Missing {
				t.Fatalf("a slot is missing: %+v", x)
			}
		}
		// The value carries the time of the attempt that was answered: the answer to
		// the first fits no other.
		for i, read := range r.m.reads {
			if read.err == nil {
				continue
			}
			if !asksIdentity(r.m.reads[i+1].Request) {
				t.Fatal("after a lost frame the pump was not asked who it is")
			}
			if again := r.m.reads[i+2]; !same(again.Request, read.Request) || again.err != nil {
				t.Fatalf("after the lost frame came %+v", again)
			}
			for _, x := range r.readings {
				if x.Slot.Add(x.Off).Equal(r.m.reads[i+2].at) {
					return
				}
			}
		}
		t.Errorf("no reading carries the time of the frame lost at %v", lostAt)
	})
}

// TestALostFirstFrameDoesNotCostASlowPoint: what is read at once when a bus comes up
// is read as soon as the pump answers, and does not wait for its next slot.
func TestALostFirstFrameDoesNotCostASlowPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(2 * time.Second) // the slots of 10 s begin a second before
		r := newRig(t, epump(t), 1)
		for _, p := range r.m.pumps {
			p.lose = 1
		}
		r.run(7 * time.Second)
		for _, it := range epump(t).Items {
			good := func(x telemetry.Reading) bool { return x.Quality != telemetry.Missing }
			if !slices.ContainsFunc(r.of(r.devices[0].ID, it.Point.Name), good) {
				t.Errorf("%s, which has a period of %v, was not read in 7 s", it.Point.Name, it.Period)
			}
		}
	})
}

func TestAFlakyPumpKeepsToTheShareToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 4)
		rng := rand.New(rand.NewPCG(5, 6))
		r.each = func(telemetry.Reading) {
			if rng.IntN(4) == 0 {
				r.m.pumps[1].lose = 1
			}
		}
		r.run(2 * time.Minute)
		if share := r.m.spent[1].Seconds() / 120; share > defaultDeadShare+0.01 {
			t.Errorf("it took %.3f of the bus", share)
		}
	})
}

func TestAModuleThatLostItsPumpIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.run(90*time.Second, func() {
			time.Sleep(30 * time.Second)
			if d := r.Status().Devices[0]; d.State != OK {
				t.Errorf("%+v", d)
			}
			r.m.set(func() { r.m.pumps[1].lost = true })
			time.Sleep(25 * time.Second)
			if d := r.Status().Devices[0]; d.State != Stale || d.Problem == "" {
				t.Errorf("%s, %q", d.State, d.Problem)
			}
			if _, err := r.Write(t.Context(), Command{"bus1-1", "setpoint", "40"}); err == nil || !strings.Contains(err.Error(), "lost its pump") {
				t.Errorf("a command to it: %v", err)
			}
			r.m.set(func() { r.m.pumps[1].lost = false })
			time.Sleep(10 * time.Second)
			if d := r.Status().Devices[0]; d.State != OK {
				t.Errorf("%+v", d)
			}
		})
		stale := 0
		for _, x := range r.of("bus1-1", "head") {
			if x.Quality == telemetry.Stale {
				stale++
				if x.Raw != 301 {
					t.Errorf("a stale reading without its value: %+v", x)
				}
			}
		}
		// Three unchanged polls of the counter, each 5 s, from second 30 to 55.
		if stale < 5 || stale > 15 {
			t.Errorf("%d stale readings of head", stale)
		}
	})
}

func TestPointsThatAPumpRefusesAreFoundAndLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		for _, register := range []int{311, 312, 321, 338} { // power and two more, as they travel
			r.m.pumps[1].refused[uint16(register)] = true
		}
		r.run(time.Minute)
		bad := map[string]bool{"power": true, "liquid_temperature": true, "differential_pressure": true}
		for _, v := range r.Status().Devices[0].Values {
			want := telemetry.Good
			if bad[v.Point] {
				want = telemetry.Missing
			}
			if v.Quality != want {
				t.Errorf("%s is %v", v.Point, v.Quality)
			}
		}
		if d := r.Status().Devices[0]; d.Refused != len(bad) || d.RefusedSince.IsZero() {
			t.Errorf("status says %d refused since %v; want %d", d.Refused, d.RefusedSince, len(bad))
		}
		asked := map[int]bool{} // the ten seconds in which it was asked
		for _, read := range r.m.reads {
			if read.err != nil {
				asked[int(read.at.Sub(r.begun)/(10*time.Second))] = true
			}
		}
		if n := len(asked); n < 2 || n > 4 {
			t.Errorf("in %d of 6 times 10 s it was asked for what it refuses: %v", n, asked)
		}
	})
}

func TestAFullBusReadsLessOftenInsteadOfLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 32)
		s := r.Status()
		if s.Stretched <= 1 || s.Planned > fullest {
			t.Fatalf("32 pumps at 19200: periods × %v, planned %.2f", s.Stretched, s.Planned)
		}
		begun := time.Now()
		r.run(2 * time.Minute)
		missing := 0
		for _, x := range r.readings { // at first every pump says who it is
			if x.Quality == telemetry.Missing && x.Slot.Sub(begun) > 10*time.Second {
				missing++
			}
		}
		if share := float64(missing) / float64(len(r.readings)); share > 0.001 {
			t.Errorf("%.4f of the readings are missing", share)
		}
	})
}

func TestOverloadDropsWholeCyclesAndShareIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 8)
		r.m.turnaround = 200 * time.Millisecond // far slower than the plan assumed
		r.run(2 * time.Minute)
		var least, most int
		for _, d := range r.devices {
			good := 0
			for _, x := range r.of(d.ID, "head") {
				if x.Quality == telemetry.Good {
					good++
					if x.Off > time.Second {
						t.Fatalf("a reading is %v late", x.Off)
					}
				}
			}
			if least == 0 || good < least {
				least = good
			}
			most = max(most, good)
		}
		if least == 0 || most > 2*least {
			t.Errorf("of 120 slots one pump was read in %d, another in %d", least, most)
		}
		if d := r.Status().Devices[0]; d.Dropped == 0 {
			t.Error("nothing was counted as dropped")
		}
	})
}

func TestAClockThatIsSetDoesNotStopThePolls(t *testing.T) {
	r := newRig(t, epump(t), 1)
	now := time.Now()
	r.begin(now)
	r.sink = func(telemetry.Reading) {}
	for _, step := range []time.Duration{-3 * time.Hour, 5 * time.Hour} {
		set := now.Round(0).Add(step)
		r.devices[0].groups[0].next = now
		r.clockSet(step, set)
		g := r.devices[0].groups[0]
		if d := g.next.Sub(set); d <= 0 || d > g.period {
			t.Errorf("after a step of %v the next slot is in %v", step, d)
		}
	}
}

func TestOccupancyIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.m.pumps[1].dead = true
		r.run(90*time.Second, func() {
			for range 85 {
				time.Sleep(time.Second)
				r.line.Counters().AddBusy(250 * time.Millisecond)
			}
			s := r.Status()
			if s.Occupancy < 0.24 || s.Occupancy > 0.26 {
				t.Errorf("occupancy %.3f", s.Occupancy)
			}
			if s.Dead <= 0 || s.Dead > defaultDeadShare {
				t.Errorf("dead share %.3f", s.Dead)
			}
		})
	})
}

func TestBabbleStopsTheBusForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.run(20*time.Second, func() {
			time.Sleep(5 * time.Second)
			r.m.set(func() { r.m.err = fieldbus.ErrBabble })
			time.Sleep(3 * time.Second)
			if s := r.Status(); s.OK || !strings.Contains(s.Problem, "silent") {
				t.Errorf("%v, %q", s.OK, s.Problem)
			}
			r.m.set(func() { r.m.err = nil })
			time.Sleep(10 * time.Second)
			if s := r.Status(); !s.OK || s.Problem != "" {
				t.Errorf("%v, %q", s.OK, s.Problem)
			}
		})
	})
}
