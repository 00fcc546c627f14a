package poll

import (
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

func TestAScaleIsNotKnownUntilThePumpHasToldIt(t *testing.T) {
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), magna3(32))
	for _, g := range r.groups {
		for _, s := range g.Series {
			if told := s.Point == "head" || s.Point == "speed" || s.Point == "setpoint"; told && s.Scale.Known() {
				t.Errorf("%s has the scale %v before the pump was asked", s.Point, s.Scale)
			}
			if s.Point == "user_setpoint" && !s.Scale.Known() {
				t.Error("the scale that the family has is not known")
			}
		}
	}
	good := 0
	r.each = func(x telemetry.Reading) {
		if x.Quality != telemetry.Good {
			return
		}
		if good++; !r.groups[x.Group].Series[x.Series].Scale.Known() {
			t.Errorf("a value of %s without a scale", r.groups[x.Group].Series[x.Series].Point)
		}
	}
	r.run(20*time.Second, nil)
	if good == 0 {
		t.Error("nothing was read")
	}
}

// TestNoValueIsReadByTheScaleOfAnotherMode changes the control mode, and the scale of
// the set-point with it, at many moments of a cycle.
func TestNoValueIsReadByTheScaleOfAnotherMode(t *testing.T) {
	together := geniFamily(t, "geni-magna3")
	apart, err := profile.Parse("apart.yaml", []byte(`
title: apart
source: test
protocol: genibus
confidence: D
period: 1s
points:
  - {point: control_mode, id: 112, map: {0: 4, 1: 6}, period: 30s}
  - {point: setpoint, id: 49, follows: control_mode}
  - {point: head, id: 37}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*profile.Profile{"together": together, "asked for more seldom": apart} {
		for moment := range 20 {
			u := magna3(32)
			r := newGeniRig(t, p, u)
			changed, lost := false, 0
			r.disturb = func(_ *genitest.Unit, reply genibus.Telegram, at time.Time) {
				if changed && moment%4 == 3 && lost < 3 {
					lost++ // whatever is not heard just then
					return
				}
				r.port.Deliver(at, reply.Append(nil)...)
			}
			telegrams, before, after := 0, 0, 0
			heard := r.port.OnWrite
			r.port.OnWrite = func(b []byte, at time.Time) {
				if telegrams++; telegrams == 20+moment {
					changed = true
					u.Values[genitest.Item{Class: genibus.Measured, ID: 112}] = 0
					u.Put(genibus.Measured, 49, genibus.Meaning{Format: genibus.Scaled, Unit: 30, Range: 200}, 0x20)
				}
				heard(b, at)
			}
			r.each = func(x telemetry.Reading) {
				if r.groups[x.Group].Series[x.Series].Point != "setpoint" || x.Quality != telemetry.Good {
					return
				}
				switch text := r.text(x); {
				case text == "50 %":
					before++
				case text == "25.2 %" && changed:
					after++
				default:
					t.Errorf("%s, moment %d: the set-point is %s", name, moment, text)
				}
			}
			r.run(60*time.Second, nil)
			if !changed || before == 0 || after < 10 {
				t.Errorf("%s, moment %d: %d set-points before the change and %d after it", name, moment, before, after)
			}
		}
	}
}

func TestAScaleThatNothingDecidesAnyMoreIsNotGuessed(t *testing.T) {
	u := magna3(32)
	delete(u.Values, genitest.Item{Class: genibus.Measured, ID: 112})
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
	r.run(20*time.Second, nil)
	if got := r.last("setpoint"); got != "missing" {
		t.Errorf("the set-point of a pump that does not tell its control mode is %q", got)
	}
	if got := r.last("head"); got != "5.811 m" {
		t.Errorf("the head is %q", got)
	}
}
