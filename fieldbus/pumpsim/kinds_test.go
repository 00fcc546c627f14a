package pumpsim_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/fieldbus/pumpsim/geni"
	"penstock/fieldbus/pumpsim/rtu"
)

// wire is a line in memory that a test speaks to byte by byte.
type wire struct {
	t      *testing.T
	clk    *linetest.Clock
	sim    *pumpsim.Simulator
	port   fieldbus.Port
	served []pumpsim.Served
}

func newWire(t *testing.T, c pumpsim.LineConfig) *wire {
	t.Helper()
	w := &wire{t: t, clk: linetest.NewClock()}
	var err error
	w.sim, err = pumpsim.NewLine(c, pumpsim.Options{Clock: w.clk, Seed: 1, OnServed: func(s pumpsim.Served) { w.served = append(w.served, s) }})
	if err != nil {
		t.Fatal(err)
	}
	mode := fieldbus.Default
	if c.Protocol == pumpsim.GENIbus {
		mode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}
	}
	if w.port, err = w.sim.Open("", mode); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask sends a frame and returns what comes within a quarter of a second.
func (w *wire) ask(frame []byte) (heard []byte) {
	w.t.Helper()
	if _, err := w.port.Write(frame); err != nil {
		w.t.Fatal(err)
	}
	if err := w.port.SetReadTimeout(250 * time.Millisecond); err != nil {
		w.t.Fatal(err)
	}
	for {
		var b [256]byte
		n, err := w.port.Read(b[:])
		if err != nil {
			w.t.Fatal(err)
		}
		if n == 0 {
			return heard
		}
		heard = append(heard, b[:n]...)
	}
}

func reads(function byte, start, count byte) []byte {
	return rtu.Seal([]byte{1, function, 0, start, 0, count})
}

var modbusPump = pumpsim.LineConfig{Pumps: []pumpsim.PumpConfig{{Address: 1, Model: "epump"}}}

func withFaults(c pumpsim.LineConfig, faults string) pumpsim.LineConfig {
	c.Faults = faults
	return c
}

func TestADeviceRefusesForATime(t *testing.T) {
	for code, kind := range []string{1: "refuse1", 2: "refuse2", 3: "refuse3"} {
		if code == 0 {
			continue
		}
		w := newWire(t, withFaults(modbusPump, kind+"=@2:12s"))
		want := rtu.Seal([]byte{1, 0x83, byte(code)})
		began := w.clk.Now()
		for i, refused := range []bool{false, true, true, false} {
			if i == 3 {
				w.clk.AdvanceTo(began.Add(13 * time.Second))
			}
			if got := w.ask(reads(3, 200, 2)); slices.Equal(got, want) != refused {
				t.Errorf("%s, request %d: % x", kind, i+1, got)
			}
		}
	}
}

func TestADeviceRefusesOneFunction(t *testing.T) {
	w := newWire(t, withFaults(modbusPump, "nofunction=1:4"))
	if got := w.ask(reads(4, 200, 2)); !slices.Equal(got, rtu.Seal([]byte{1, 0x84, 1})) {
		t.Errorf("function 4: % x; want exception 1", got)
	}
	if got := w.ask(reads(3, 200, 2)); len(got) != 9 || got[1] != 3 {
		t.Errorf("function 3: % x; want an answer", got)
	}
}

func TestADeviceThatNeedsAPauseDoesNotHear(t *testing.T) {
	w := newWire(t, withFaults(modbusPump, "pause=1:400ms"))
	for i, answered := range []bool{true, false, true} { // a silence of 250 ms lies between two requests
		if got := w.ask(reads(3, 200, 2)); (len(got) > 0) != answered {
			t.Errorf("request %d: % x", i+1, got)
		}
	}
	if s := w.served[1]; s.Sent || !slices.Equal(s.Faults, []string{"pause"}) || s.Address != 1 {
		t.Errorf("the log says %+v", s)
	}
}

func TestAnOldAnswerComesInPlaceOfTheAnswer(t *testing.T) {
	w := newWire(t, withFaults(modbusPump, "old=@3:1"))
	w.ask(reads(3, 200, 2))
	second := w.ask(reads(3, 202, 3))
	if got := w.ask(reads(3, 200, 2)); !slices.Equal(got, second) {
		t.Errorf("% x came; want the answer before, % x", got, second)
	}
}

func TestAnAnswerComesAgainAheadOfALaterOne(t *testing.T) {
	w := newWire(t, withFaults(modbusPump, "again=@1:1"))
	first := w.ask(reads(3, 200, 2))
	got := w.ask(reads(3, 202, 2))
	if len(got) != 2*len(first) || !slices.Equal(got[:len(first)], first) {
		t.Errorf("% x came; want % x again and then the answer", got, first)
	}
	if got := w.ask(reads(3, 202, 2)); len(got) != len(first) {
		t.Errorf("it came a third time: % x", got)
	}
}

func TestAnotherUnitStandsAtTheAddressForATime(t *testing.T) {
	c := modbusPump
	c.Pumps = []pumpsim.PumpConfig{{Address: 1, Model: "epump", Other: "magna3"}}
	w := newWire(t, withFaults(c, "exchange=@2:10s"))
	own := w.ask(reads(3, 29, 3))
	other := w.ask(reads(3, 29, 3))
	if slices.Equal(own, other) {
		t.Errorf("the family is % x before and after", own)
	}
	if w.served[0].Other != "" || w.served[1].Other != "magna3" {
		t.Errorf("the log names %q and %q", w.served[0].Other, w.served[1].Other)
	}
	w.clk.Advance(11 * time.Second)
	if back := w.ask(reads(3, 29, 3)); !slices.Equal(back, own) {
		t.Errorf("after that time the family is % x; want % x", back, own)
	}
}

func TestAnotherUnitComesWithTheAdapter(t *testing.T) {
	w := newWire(t, withFaults(modbusPump, "unplug=@1:2s,exchange=@1:0s"))
	if _, err := w.port.Write(reads(3, 29, 3)); err != nil {
		t.Fatal(err)
	}
	if err := w.port.SetReadTimeout(time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := w.port.Read(make([]byte, 9)); err == nil {
		t.Fatal("the port did not vanish")
	}
	w.clk.Advance(time.Hour)
	port, err := w.sim.Open("", fieldbus.Default)
	if err != nil {
		t.Fatal(err)
	}
	w.port = port
	w.ask(reads(3, 29, 3))
	if s := w.served[len(w.served)-1]; s.Other != "magna3" {
		t.Errorf("after the unplug there answered %+v", s)
	}
}

func TestAScenarioExchangesAPump(t *testing.T) {
	c, err := pumpsim.ParseLine("line.yaml", []byte("pumps: [{address: 1, model: epump, other: booster}]\nscenario: [{at: 5s, pump: 1, cause: exchange}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, c)
	w.ask(reads(3, 29, 3))
	w.clk.Advance(5 * time.Second)
	w.ask(reads(3, 29, 3))
	if w.served[0].Other != "" || w.served[1].Other != "booster" {
		t.Errorf("there answered %q and %q", w.served[0].Other, w.served[1].Other)
	}
}

// telegram asks the unit 32 for items of class 2.
func telegram(ids ...byte) []byte {
	b := append([]byte{0x27, byte(4 + len(ids)), 32, 1, 2, byte(len(ids))}, ids...)
	c := geni.CRC(b[1:])
	return append(b, byte(c>>8), byte(c))
}

func TestAReplyCarriesAReadyForSendByte(t *testing.T) {
	c := pumpsim.LineConfig{Protocol: pumpsim.GENIbus, Pumps: []pumpsim.PumpConfig{{Address: 32, Model: "upe"}}}
	plain := newWire(t, c).ask(telegram(148, 149))
	places := map[int]bool{}
	w := newWire(t, withFaults(c, "ready=1"))
	for range 20 {
		got := w.ask(telegram(148, 149))
		at := slices.Index(got[4:len(got)-2], 0x80)
		if !geni.Sound(got) || len(got) != len(plain)+1 || at < 0 {
			t.Fatalf("% x; want % x and a byte 80", got, plain)
		}
		places[at] = true
	}
	mixed := newWire(t, withFaults(c, "ready=1,foreign=1"))
	for range 20 {
		if got := mixed.ask(telegram(148, 149)); len(got) != 2*(len(plain)+1) {
			t.Fatalf("% x; want another unit's reply and the reply, each with the byte", got)
		}
	}
	if !places[0] || !places[4] || len(places) != 2 {
		t.Errorf("the byte stood at %v of the PDU; want before the APDU and behind it", places)
	}
}

func TestAUnitRefusesWithEachAcknowledge(t *testing.T) {
	c := pumpsim.LineConfig{Protocol: pumpsim.GENIbus, Pumps: []pumpsim.PumpConfig{{Address: 32, Model: "upe"}}}
	for kind, want := range map[string][]byte{
		"exception=1:1": {2, 1 << 6}, "exception=1:2": {2, 2<<6 | 1, 148}, "exception=1:3": {2, 3 << 6},
		"refuse1=1": {2, 1 << 6}, "refuse2=1": {2, 2<<6 | 1, 148}, "refuse3=1": {2, 3 << 6},
	} {
		if got := newWire(t, withFaults(c, kind)).ask(telegram(148, 149)); !geni.Sound(got) || !slices.Equal(got[4:len(got)-2], want) {
			t.Errorf("%s: % x; want the PDU % x", kind, got, want)
		}
	}
}

func TestMarkedValuesDifferInEachAnswer(t *testing.T) {
	sim, err := pumpsim.New(pumpsim.Options{Clock: linetest.NewClock()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := sim.AddPump(pumpsim.PumpOptions{Address: 1, Model: "epump", Marked: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{}
	for range 20 {
		for register := 300; register < 310; register++ {
			v, err := p.Register(register)
			if err != nil {
				t.Fatal(err)
			}
			seen[v] = true
		}
	}
	if len(seen) < 198 {
		t.Errorf("200 values, of which %d differ", len(seen))
	}
	if family, err := p.Register(29); err != nil || family != 2 {
		t.Errorf("the family is %d, %v", family, err)
	}
}

func TestEveryKindOfFaultIsReadAndWritten(t *testing.T) {
	for _, k := range fault.Kinds() {
		rules, err := fault.Parse(k.String() + "=0.05")
		if err != nil || len(rules) != 1 || rules[0].Kind != k {
			t.Errorf("%s: %+v, %v", k, rules, err)
		}
	}
}

func TestAModelThatIsNotThereCannotTakeAPlace(t *testing.T) {
	sim, err := pumpsim.New(pumpsim.Options{Clock: linetest.NewClock()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.AddPump(pumpsim.PumpOptions{Address: 1, Other: "mp204"}); err == nil {
		t.Error("a device of GENIbus may take a place on Modbus")
	}
	if _, err := pumpsim.ParseLine("f", []byte("pumps: [{address: 1, other: x}]\n")); !errors.As(err, new(*pumpsim.ConfigError)) {
		t.Errorf("an unknown model: %v", err)
	}
}
