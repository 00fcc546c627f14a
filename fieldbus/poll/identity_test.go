package poll

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// become makes a fake pump another device: all that it serves is other by this much.
func (f *fakePump) become(identity Identity, other uint16) {
	for r := range f.regs {
		if r < 20 || r > 36 { // the module's own
			f.regs[r] += other
		}
	}
	f.regs[29], f.regs[30], f.regs[31] = uint16(identity.Family), uint16(identity.Type), uint16(identity.Version)
}

func TestAnotherModbusDeviceIsAnotherPump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		var told []Standing
		r.identified = func(_ int, _ string, s Standing) { told = append(told, s) }
		r.m.pumps[1].become(Identity{1, 10, 3}, 0)
		const other = 3000
		begun := time.Now()
		r.each = func(x telemetry.Reading) {
			s := r.groups[x.Group].Series[x.Series]
			if s.Point != "power" || x.Quality != telemetry.Good {
				return
			}
			if mine := s.Pump == "bus1-1"; mine != (x.Raw < other<<16) {
				t.Errorf("%v after the start, power %d of %s", time.Since(begun), x.Raw, s.Pump)
			}
		}
		r.run(time.Minute, func() {
			time.Sleep(20*time.Second + 700*time.Millisecond)
			r.m.set(func() { r.m.pumps[1].dead = true })
			time.Sleep(800 * time.Millisecond)
			r.m.set(func() { r.m.pumps[1].dead = false; r.m.pumps[1].become(Identity{2, 7, 1}, other) })
		})
		d := r.Status().Devices[0]
		if d.ID != "bus1-1.2" || d.State != OK || !strings.Contains(d.Name, "(2)") {
			t.Errorf("status shows %s %q %v %q", d.ID, d.Name, d.State, d.Problem)
		}
		if n := len(told); n != 2 || told[1].Present != 1 || len(told[1].Devices) != 2 {
			t.Errorf("told: %+v", told)
		}
		if len(r.of("bus1-1.2", "power")) < 3 { // the catalogue has the new pump's name
			t.Error("the new pump is not read")
		}
	})
}

func TestADeviceThatDoesNotSayAnyMoreWhatItIsIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		at := time.Now().Add(20 * time.Second)
		wrong := 0
		r.each = func(x telemetry.Reading) {
			if x.Quality == telemetry.Good && x.Slot.After(at.Add(time.Second)) && x.Slot.Before(at.Add(20*time.Second)) {
				wrong++
			}
		}
		r.run(time.Minute, func() {
			time.Sleep(20 * time.Second)
			r.m.set(func() {
				r.m.pumps[1].lose = 1
				r.m.pumps[1].regs[29] = noRegister
			})
			time.Sleep(10 * time.Second)
			if d := r.Status().Devices[0]; d.State != Unidentified || d.Problem == "" {
				t.Errorf("%v, %q", d.State, d.Problem)
			}
			time.Sleep(10 * time.Second)
			r.m.set(func() { r.m.pumps[1].regs[29] = 30 })
		})
		if wrong > 0 {
			t.Errorf("%d values of a device that did not say what it is", wrong)
		}
		if d := r.Status().Devices[0]; d.State != OK || d.ID != "bus1-1" {
			t.Errorf("%v, %s", d.State, d.ID)
		}
	})
}

func TestAnotherGenibusUnitIsNotReadAsTheOneBefore(t *testing.T) {
	for name, away := range map[string]bool{"within a second": false, "after a minute": true} {
		u := magna3(32)
		r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
		r.family = func(id Identity) string {
			p, ok := profile.Builtin().Choose(profile.Genibus, id.Family, id.Type, id.Version)
			if !ok {
				return ""
			}
			return p.Name
		}
		exchanged := time.Time{}
		exchange := func() {
			other := genitest.New(32, 7, 1, 1) // an MP 204
			for it := range u.Values {
				if it.ID < 148 || it.ID > 150 || it.Class != genibus.Measured {
					other.Values[it] = 0x55
				}
			}
			other.Infos, other.Buffer = u.Infos, u.Buffer
			*u = *other
			exchanged = r.clk.Now()
			u.Deaf = false
		}
		at := map[time.Duration]func(){20 * time.Second: func() {
			u.Deaf = true
			exchanged = r.clk.Now()
		}}
		if back := 21 * time.Second; away {
			at[80*time.Second] = exchange
		} else {
			at[back] = exchange
		}
		r.each = func(x telemetry.Reading) {
			if !exchanged.IsZero() && x.Quality == telemetry.Good && x.Slot.Add(x.Off).After(exchanged) {
				t.Errorf("%s: %s of the unit that is gone", name, r.groups[x.Group].Series[x.Series].Point)
			}
		}
		r.run(3*time.Minute, at)
		if d := r.Status().Devices[0]; d.State != Unidentified || !strings.Contains(d.Problem, "geni-mp204") || d.ID != "bus1-32.2" {
			t.Errorf("%s: %s is %v: %q", name, d.ID, d.State, d.Problem)
		}
	}
}

func TestAnExchangedDeviceIsKnownAgainAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		d := r.devices[0]
		d.standing = Standing{Devices: []Identity{{1, 10, 3}, {2, 7, 1}}, Present: 1}
		r.rename(d)
		r.m.pumps[1].become(Identity{1, 10, 3}, 0)
		r.each = func(x telemetry.Reading) {
			if s := r.groups[x.Group].Series[x.Series]; s.Pump != "bus1-1" && x.Quality == telemetry.Good {
				t.Errorf("a value of %s", s.Pump)
			}
		}
		r.run(10 * time.Second)
		if s := r.Status().Devices[0]; s.ID != "bus1-1" || s.State != OK || len(d.standing.Devices) != 2 {
			t.Errorf("%+v, %+v", s, d.standing)
		}
	})
}

func TestARestartingModuleKeepsItsPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.run(time.Minute, func() {
			time.Sleep(15 * time.Second)
			p := r.m.pumps[1]
			r.m.set(func() {
				for reg := range p.regs {
					p.refused[reg] = reg < 20 || reg > 36
				}
			})
			time.Sleep(12 * time.Second)
			r.m.set(func() { clear(p.refused) })
			time.Sleep(12 * time.Second)
			for _, v := range r.Status().Devices[0].Values {
				if v.Quality == telemetry.Missing {
					t.Errorf("%s is missing 12 s after the module answers again", v.Point)
				}
			}
		})
		if d := r.Status().Devices[0]; d.Refused != 0 {
			t.Errorf("%d refused", d.Refused)
		}
	})
}

func TestRandomRefusalsTakeNoPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		n := 0
		r.m.spoil = func(modbus.Request) error {
			if n++; n*7%20 == 0 {
				return &modbus.Exception{Address: 1, Function: 3, Code: modbus.IllegalAddress}
			}
			return nil
		}
		r.run(2 * time.Minute)
		missing := 0
		for _, x := range r.readings {
			if x.Quality == telemetry.Missing {
				missing++
			}
		}
		if d := r.Status().Devices[0]; d.Refused > 0 || missing > 0 {
			t.Errorf("%d points refused, %d of %d readings missing", d.Refused, missing, len(r.readings))
		}
	})
}

func TestARefusedFunctionIsReplacedByTheOther(t *testing.T) {
	for _, known := range []modbus.Functions{modbus.Holding, modbus.Input} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, epump(t), 1)
			asked := 0
			r.m.spoil = func(q modbus.Request) error {
				if q.Functions == known {
					return nil
				}
				asked++
				function := byte(4)
				if known == modbus.Input {
					function = 3
				}
				return &modbus.Exception{Address: 1, Function: function, Code: modbus.IllegalFunction}
			}
			r.run(time.Minute)
			for _, v := range r.Status().Devices[0].Values {
				if v.Quality == telemetry.Missing {
					t.Errorf("%s is missing", v.Point)
				}
			}
			if asked != 1 {
				t.Errorf("the function that is not known was asked for %d times", asked)
			}
		})
	}
}
