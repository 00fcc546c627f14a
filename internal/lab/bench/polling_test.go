package bench

import (
	"testing"
	"time"

	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/internal/telemetry"
)

func calmLine(t *testing.T, protocol pumpsim.Protocol, pumps int) *calm {
	t.Helper()
	c, err := calmly(t.Context(), protocol, pumps)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// polled runs a bus on a line with faults.
func (c *calm) polled(t *testing.T, faults string, d time.Duration) *polling {
	t.Helper()
	p, err := c.line(faults, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.run(t.Context(), d, false, false); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNothingIsMissingOrWrongOnALineWithoutFaults(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, faultPumps)
		j := &c.polled(t, "", 10*time.Minute).judge
		if j.wrong > 0 || j.missing > 0 || j.good < 5_000 || j.unasked() > 1.1 || j.silence() > 0 {
			t.Errorf("%s: %d good, %d wrong, %d missing, a pump was not asked for %.1f periods, silence %v",
				protocol, j.good, j.wrong, j.missing, j.unasked(), j.silence())
		}
	}
}

// replayed is what a bus delivered, for a judge who is to be fooled.
func replayed(t *testing.T, protocol pumpsim.Protocol) (p *polling, readings []telemetry.Reading) {
	p = calmLine(t, protocol, 2).polled(t, "", 20*time.Second)
	j := &p.judge
	for _, pump := range j.pumps {
		for _, s := range pump.served {
			for g, group := range j.groups {
				for i, series := range group.Series {
					it, _ := pump.device.Profile.Item(series.Point)
					if j.pumps[series.Pump] != pump || it.Bits != nil || it.Width < 16 && it.Geni == nil {
						continue
					}
					for _, v := range decodings(pump.device.Profile, it, &s) {
						if v.q == telemetry.Good && series.Unit != "1" {
							readings = append(readings, telemetry.Reading{Group: g, Series: i, Slot: s.Began, Raw: v.v})
							break
						}
					}
				}
			}
		}
	}
	if len(readings) < 100 {
		t.Fatalf("%s: %d values to replay", protocol, len(readings))
	}
	return p, readings
}

func TestThePollingJudgeFindsPlantedValues(t *testing.T) {
	for _, protocol := range protocols {
		p, readings := replayed(t, protocol)
		judged := func(change func(i int, r *telemetry.Reading)) (share float64) {
			p.judge.counts = counts{}
			for i, r := range readings {
				change(i, &r)
				p.judge.take(r)
			}
			return float64(p.judge.wrong) / float64(len(readings))
		}
		if wrong := judged(func(int, *telemetry.Reading) {}); wrong > 0 {
			t.Errorf("%s: %.3f of the true values are wrong: %v", protocol, wrong, p.judge.examples)
		}
		// Values of one byte are alike by chance.
		if wrong := judged(func(i int, r *telemetry.Reading) { r.Raw = readings[(i+1)%len(readings)].Raw }); wrong < 0.8 {
			t.Errorf("%s: of values that are another item's %.3f are wrong", protocol, wrong)
		}
		if wrong := judged(func(_ int, r *telemetry.Reading) { r.Slot = r.Slot.Add(3 * time.Second) }); wrong < 0.8 {
			t.Errorf("%s: of values from before their time %.3f are wrong", protocol, wrong)
		}
		for _, pump := range p.judge.pumps {
			for i := range pump.served {
				pump.served[i].Other = "another"
			}
		}
		if wrong := judged(func(int, *telemetry.Reading) {}); wrong < 1 {
			t.Errorf("%s: of values of another device %.3f are wrong", protocol, wrong)
		}
	}
}

func TestAKilledGatewayLeavesALineThatTheNextOnePolls(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, faultPumps)
		p, err := c.restarted(t.Context(), "", "", 50, 1)
		if err != nil {
			t.Fatal(err)
		}
		if j := &p.judge; j.wrong > 0 || j.missing > 0 || j.good < 5000 {
			t.Errorf("%s: %d good, %d wrong, %d missing", protocol, j.good, j.wrong, j.missing)
		}
	}
}

func TestFaultyHoursPlayTheSameWayAgain(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, faultPumps)
		play := func() (requests, good, missing int) {
			j := &c.polled(t, c.together(0.03), 10*time.Minute).judge
			return j.requests, j.good, j.missing
		}
		n, good, missing := play()
		if n2, good2, missing2 := play(); n2 != n || good2 != good || missing2 != missing {
			t.Errorf("%s: %d requests, %d good, %d missing; and again %d, %d, %d", protocol, n, good, missing, n2, good2, missing2)
		}
		if missing == 0 {
			t.Errorf("%s: the faults do not strike", protocol)
		}
	}
}

// Every fault that the virtual pumps know is measured.
func TestEachKindOfFaultIsPlayed(t *testing.T) {
	played := map[string]bool{}
	for _, k := range faultKinds {
		played[k.name] = true
	}
	for _, k := range fault.Kinds() {
		if !played[k.String()] {
			t.Errorf("%s is not played", k)
		}
	}
}

// The scheduler lives through every kind of fault at its worst, and goes on asking.
func TestNoKindOfFaultStopsTheScheduler(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, faultPumps)
		for _, k := range faultKinds {
			if k.only != "" && k.only != protocol {
				continue
			}
			rule := k.rule(k.rates()[len(k.rates())-1], c.perSecond(k))
			if j := &c.polled(t, rule, 5*time.Minute).judge; j.requests < 60 {
				t.Errorf("%s, %s: %d requests in five minutes", protocol, rule, j.requests)
			}
		}
	}
}

// A pump is never silenced for longer than its own lateness asks.
func TestOneLateAndOneLostAnswerSilenceAPumpForMoments(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, stallPumps)
		silent, wrong, err := c.stalled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if silent > 3*stallLate || wrong > 0 {
			t.Errorf("%s: silent for %v, %d wrong values", protocol, silent, wrong)
		}
	}
}

// What was learnt of lateness outlives a kill, and so does what guards against it.
func TestKillsUnderLateAnswersMakeNoWrongValue(t *testing.T) {
	for _, protocol := range protocols {
		c := calmLine(t, protocol, 2)
		p, err := c.restarted(t.Context(), "800ms-1400ms", "800ms-1400ms", 300, 1)
		if err != nil {
			t.Fatal(err)
		}
		if j := &p.judge; j.wrong > 0 || j.good < 1000 {
			t.Errorf("%s: %d wrong values, %d good: %v", protocol, j.wrong, j.good, j.examples)
		}
	}
}
