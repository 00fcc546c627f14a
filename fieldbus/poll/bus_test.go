package poll

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

// key is a slot of a series.
type key struct {
	group, series int
	slot          int64
}

func TestEveryPointIsReadOncePerPeriod(t *testing.T) {
	for _, n := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, epump(t), n)
			r.run(30 * time.Second)
			seen := map[key]int{}
			slots := map[[2]int]int{}
			for _, x := range r.readings {
				seen[key{x.Group, x.Series, x.Slot.UnixNano()}]++
				if x.Quality != telemetry.Good && x.Quality != telemetry.NotAvailable {
					t.Fatalf("%v of %v", x.Quality, r.groups[x.Group].Series[x.Series])
				}
				g := r.groups[x.Group]
				if x.Slot.Nanosecond()%int(time.Millisecond) != 0 {
					t.Fatalf("slot %v", x.Slot)
				}
				if x.Off < 0 || x.Off > g.Period {
					t.Fatalf("slot %v was read %v off", x.Slot, x.Off)
				}
				slots[[2]int{x.Group, x.Series}]++
			}
			for k, times := range seen {
				if times != 1 {
					t.Fatalf("%v was read %d times", k, times)
				}
			}
			for gi, g := range r.groups {
				for si := range g.Series {
					want := int(30 * time.Second / g.Period)
					if got := slots[[2]int{gi, si}]; got < want || got > want+1 {
						t.Errorf("%v: %d readings in 30 s at each %v", g.Series[si], got, g.Period)
					}
				}
			}
			for _, d := range r.Status().Devices {
				if d.State != OK || d.Dropped != 0 {
					t.Errorf("%s is %s, %d dropped", d.ID, d.State, d.Dropped)
				}
			}
		})
	}
}

func TestSlotsStayOnTheirGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 3)
		r.run(25 * time.Second)
		phase := map[int]int64{}
		for _, x := range r.readings {
			period := r.groups[x.Group].Period.Milliseconds()
			at := x.Slot.UnixMilli() % period
			if was, ok := phase[x.Group]; ok && was != at {
				t.Fatalf("group %d: a slot at %d ms and one at %d ms of its period", x.Group, was, at)
			}
			phase[x.Group] = at
		}
		if phase[0] == phase[2] {
			t.Error("two pumps fall due at once")
		}
	})
}

func TestValuesAreThoseOfTheRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		pump := r.m.pumps[1]
		pump.regs[200] = 1<<8 | 1<<9
		pump.regs[311], pump.regs[312] = 1, 2
		pump.regs[321] = 0xFFFF
		r.run(5 * time.Second)
		for _, tc := range []struct {
			point string
			raw   int64
			q     telemetry.Quality
		}{
			{"head", 301, telemetry.Good}, {"power", 65538, telemetry.Good}, {"running", 1, telemetry.Good},
			{"access", 1, telemetry.Good}, {"alarm", 0, telemetry.Good}, {"liquid_temperature", 0, telemetry.NotAvailable},
		} {
			got := r.of("bus1-1", tc.point)
			if len(got) == 0 || got[0].Raw != tc.raw || got[0].Quality != tc.q {
				t.Errorf("%s: %v", tc.point, got)
			}
		}
		for _, v := range r.Status().Devices[0].Values {
			if v.Point == "power" && (v.Raw != 65538 || v.Quality != telemetry.Good || v.Unit != "W" || v.Time.IsZero()) {
				t.Errorf("status shows %+v", v)
			}
		}
	})
}

func TestAFrameIsDeliveredBeforeTheNextBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 2)
		delivered := map[int]bool{}
		r.each = func(x telemetry.Reading) {
			last := len(r.m.reads) - 1
			if got, want := x.Slot.Add(x.Off), r.m.reads[last].at; !got.Equal(want) {
				t.Errorf("a reading of %v, when the last frame was asked at %v", got, want)
			}
			delivered[last] = true
		}
		r.run(3 * time.Second)
		for i, read := range r.m.reads {
			if alive := read.Start == 26 && read.Count == 2; !alive && !asksIdentity(read.Request) && !delivered[i] {
				t.Errorf("nothing was delivered of frame %d, %+v", i, read.Request)
			}
		}
	})
}

func TestStopFinishesTheTransactionInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.run(25 * time.Millisecond) // in the middle of the first frame, after the identity
		if len(r.m.reads) != 2 || len(r.readings) == 0 {
			t.Errorf("%d frames, %d readings", len(r.m.reads), len(r.readings))
		}
	})
}

// TestAFrameThatAStopLeavesUnansweredIsMissing: it was asked for, so its slot is
// accounted for.
func TestAFrameThatAStopLeavesUnansweredIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.run(15*time.Second+50*time.Millisecond, func() { // in the middle of a frame
			time.Sleep(14*time.Second + 900*time.Millisecond) // 100 ms before the next slot's frames
			r.m.set(func() { r.m.pumps[1].lose = 1 })
		})
		asked := r.m.reads[len(r.m.reads)-1]
		if asked.err == nil {
			t.Fatalf("the last frame was answered: %+v", asked)
		}
		if last := r.readings[len(r.readings)-1]; last.Quality != telemetry.Missing || asked.at.Sub(last.Slot) >= time.Second {
			t.Errorf("the frame asked for at %v was lost, and the last reading is %+v", asked.at, last)
		}
	})
}

func TestPortIsTriedAgainAndItsSlotsAreMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		var back atomic.Bool
		r.line = fieldbus.NewLine("/dev/ttyUSB9", fieldbus.Default, func(path string, m fieldbus.Mode) (fieldbus.Port, error) {
			if !back.Load() {
				return nil, &fieldbus.PortError{Path: path, Kind: fieldbus.ErrMissing}
			}
			return nullPort{}, nil
		}, r.clk)
		r.run(20*time.Second, func() {
			time.Sleep(4 * time.Second)
			s := r.Status()
			if s.OK || s.Problem == "" {
				t.Errorf("status is %v, %q", s.OK, s.Problem)
			}
			if _, err := r.Write(t.Context(), Command{"bus1-1", "setpoint", "40"}); err == nil {
				t.Error("a command was carried out without a port")
			}
			time.Sleep(6 * time.Second)
			back.Store(true)
		})
		head := r.of("bus1-1", "head")
		missing, good := 0, 0
		for _, x := range head {
			switch x.Quality {
			case telemetry.Missing:
				missing++
			case telemetry.Good:
				good++
			}
		}
		if missing < 9 || missing > 16 || good < 4 || len(head) < 19 {
			t.Errorf("%d missing, %d good of %d", missing, good, len(head))
		}
		if s := r.Status(); !s.OK || s.Problem != "" {
			t.Errorf("status is %v, %q", s.OK, s.Problem)
		}
	})
}

func TestImpossibleBusesAreRefused(t *testing.T) {
	p := epump(t)
	for name, cfg := range map[string]Config{
		"no profile":    {Name: "b", Devices: []Device{{Address: 1}}},
		"address 0":     {Name: "b", Devices: []Device{{Profile: p}}},
		"address 248":   {Name: "b", Devices: []Device{{Address: 248, Profile: p}}},
		"address twice": {Name: "b", Devices: []Device{{Address: 1, Profile: p}, {Address: 1, Profile: p}}},
		"ID twice":      {Name: "b", Devices: []Device{{ID: "x", Address: 1, Profile: p}, {ID: "x", Address: 2, Profile: p}}},
		"mode":          {Name: "b", Mode: fieldbus.Mode{Baud: 1}},
		"share":         {Name: "b", DeadShare: 2},
	} {
		if _, err := NewBus(cfg, Deps{Log: discard}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
