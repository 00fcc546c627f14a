package pumpsim_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/physics"
)

const wholeLine = `
link: /tmp/ttyPUMPS
mode: 38400 8N2
turnaround: 8ms
seed: 9
faults: late=0.01:300ms,silence.2=0.05
pumps:
  - {address: 1, model: magna3}
  - {address: 2, model: booster, local: true}
scenario:
  - {at: 20s, pump: 1, cause: dry_running, for: 15s, every: 2m}
  - at: 1m
    pump: 2
    cause: stale
`

func TestALineIsReadFromYAML(t *testing.T) {
	got, err := pumpsim.ParseLine("line.yaml", []byte(wholeLine))
	want := pumpsim.LineConfig{
		Link: "/tmp/ttyPUMPS", Mode: "38400 8N2", Turnaround: 8 * time.Millisecond, Seed: 9,
		Faults: "late=0.01:300ms,silence.2=0.05",
		Pumps:  []pumpsim.PumpConfig{{Address: 1, Model: "magna3"}, {Address: 2, Model: "booster", Local: true}},
		Scenario: []pumpsim.Step{
			{At: 20 * time.Second, Pump: 1, Cause: "dry_running", For: 15 * time.Second, Every: 2 * time.Minute},
			{At: time.Minute, Pump: 2, Cause: "stale"},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

func TestAMistakeInALineNamesFileLineAndKey(t *testing.T) {
	const pumps = "pumps: [{address: 1}]\n"
	for _, c := range []struct{ text, want string }{
		{"pumsp: []\n", "l.yaml:1: pumsp: unknown key; allowed here: faults, link, mode"},
		{"link: /tmp/x\n", "pumps: this key is required"},
		{"", "l.yaml: the file is empty"},
		{pumps + "mode: 19201 8E1\n", `l.yaml:2: mode: "19201 8E1" is not allowed: line speed 19201`},
		{pumps + "faults: lte=1\n", `l.yaml:2: faults: "lte=1" is not allowed: fault "lte=1": there is no fault "lte"`},
		{pumps + "turnaround: fast\n", "l.yaml:2: turnaround"},
		{pumps + "turnaround: -1s\n", "l.yaml:2: turnaround"},
		{pumps + "seed: many\n", "l.yaml:2: seed"},
		{"pumps:\n  - {address: 1}\n  - {address: 1}\n", "l.yaml:3: pumps[1].address: \"1\" is not allowed: another pump"},
		{"pumps:\n  - {address: 300}\n", "l.yaml:2: pumps[0].address"},
		{"pumps:\n  - {address: 1, model: magna4}\n", "l.yaml:2: pumps[0].model: \"magna4\" is not allowed"},
		{"pumps:\n  - {address: 1, local: 1}\n", "l.yaml:2: pumps[0].local"},
		{"pumps: 2\n", "l.yaml:1: pumps: a list is expected"},
		{"pumps: [1]\n", "l.yaml:1: pumps[0]: keys are expected here"},
		{pumps + "scenario: [{at: 1s, pump: 1, cause: rain}]\n", `l.yaml:2: scenario[0].cause: "rain" is not allowed: there is no cause "rain"`},
		{pumps + "scenario: [{at: 1s, pump: 2, cause: stale}]\n", "scenario[0].pump: there is no pump at address 2"},
		{pumps + "scenario: [{at: 1s, pump: 1, cause: stale, every: 1m}]\n", "l.yaml:2: scenario[0]: what comes every 1m0s has to end"},
		{pumps + "scenario: [{at: 1s, pump: 1, cause: stale, for: 2m, every: 1m}]\n", "l.yaml:2: scenario[0]: it lasts for"},
		{pumps + "seed: 1\nseed: 2\n", "l.yaml:3"},
		{pumps + "---\n" + pumps, "a second document"},
		{"pumps: [\n", "this is not YAML"},
	} {
		_, err := pumpsim.ParseLine("l.yaml", []byte(c.text))
		var mistake *pumpsim.ConfigError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add(wholeLine)
	f.Add("pumps: [{address: 1}]\nscenario: [{at: 1s, pump: 1, cause: stale, for: 1s, every: 3s}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := pumpsim.ParseLine("l.yaml", []byte(text))
		if err != nil {
			return
		}
		// What is accepted makes a line.
		if _, err := pumpsim.NewLine(c, pumpsim.Options{Clock: linetest.NewClock()}); err != nil {
			t.Errorf("%q was read as %+v, which makes no line: %v", text, c, err)
		}
	})
}

func TestAStepOfACommandLine(t *testing.T) {
	got, err := pumpsim.ParseStep("1:dry_running:20s:15s:2m")
	if want := (pumpsim.Step{Pump: 1, Cause: "dry_running", At: 20 * time.Second, For: 15 * time.Second, Every: 2 * time.Minute}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "1", "1:stale", "x:stale:1s", "1:rain:1s", "1:stale:soon", "1:stale:1s:2s:1s", "1:stale:1s:1s:3s:4s"} {
		if _, err := pumpsim.ParseStep(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestAnAlarmComesAndGoesWithItsCause(t *testing.T) {
	clk := linetest.NewClock()
	sim, err := pumpsim.NewLine(pumpsim.LineConfig{
		Pumps: []pumpsim.PumpConfig{{Address: 1, Model: "epump"}},
		// It notices after 8 s, and starts again 10 s after the cause has gone.
		Scenario: []pumpsim.Step{{At: 20 * time.Second, Pump: 1, Cause: "dry_running", For: 15 * time.Second, Every: 2 * time.Minute}},
	}, pumpsim.Options{Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	port, err := sim.Open("in memory", modeOf(t, "19200"))
	if err != nil {
		t.Fatal(err)
	}
	pump := sim.Pumps()[0]
	for _, at := range []struct {
		after time.Duration
		want  physics.Code
	}{
		{10 * time.Second, 0}, {26 * time.Second, 0}, {30 * time.Second, physics.CodeDryRunning}, {40 * time.Second, physics.CodeDryRunning},
		{50 * time.Second, 0}, {140 * time.Second, 0}, {150 * time.Second, physics.CodeDryRunning}, {170 * time.Second, 0},
	} {
		clk.AdvanceTo(linetest.Epoch.Add(at.after))
		if err := port.ResetInputBuffer(); err != nil { // any use of the port brings the line up to now
			t.Fatal(err)
		}
		if got := pump.State().Alarm; got != at.want {
			t.Errorf("after %v: alarm %d, want %d", at.after, got, at.want)
		}
	}
}

func TestAStaleModuleServesOldValuesAndItsCounterStands(t *testing.T) {
	b := newBench(t, pumpsim.Options{}, "", "magna3")
	if err := b.sim.AddStep(pumpsim.Step{At: 5 * time.Second, Pump: 1, Cause: "stale", For: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	counter := func(after time.Duration) (n uint32, stale bool) {
		b.clk.AdvanceTo(linetest.Epoch.Add(after))
		var v [2]uint16
		if _, err := b.master.Read(context.Background(), modbus.Request{Address: 1, Start: 26, Count: 2, First: 20, Last: 36}, v[:]); err != nil {
			t.Fatal(err)
		}
		return uint32(v[0])<<16 | uint32(v[1]), b.served[len(b.served)-1].Stale
	}
	c4, s4 := counter(4 * time.Second)
	c6, s6 := counter(6 * time.Second)
	c14, s14 := counter(14 * time.Second)
	c17, s17 := counter(17 * time.Second)
	if s4 || !s6 || !s14 || s17 {
		t.Errorf("stale at 4, 6, 14, 17 s: %v %v %v %v; want it from 5 to 15 s", s4, s6, s14, s17)
	}
	if c4 == 0 || c6 != c14 || c6 < c4 || c17 <= c14 {
		t.Errorf("receive counter at 4, 6, 14, 17 s: %d %d %d %d; want it to stand from 5 to 15 s", c4, c6, c14, c17)
	}
}
