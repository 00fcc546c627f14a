package pumpsim_test

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/fieldbus/pumpsim/physics"
)

var geniMode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// geniBench is a line of GENIbus units in memory with a master on it.
type geniBench struct {
	clk    *linetest.Clock
	sim    *pumpsim.Simulator
	line   *fieldbus.Line
	master *genibus.Master
	served []pumpsim.Served
}

func newGeniBench(t testing.TB, faults string, pumps ...pumpsim.PumpOptions) *geniBench {
	t.Helper()
	b := &geniBench{clk: linetest.NewClock()}
	rules, err := fault.Parse(faults)
	if err != nil {
		t.Fatal(err)
	}
	b.sim, err = pumpsim.New(pumpsim.Options{Protocol: pumpsim.GENIbus, Clock: b.clk, Seed: 5, Faults: rules,
		OnServed: func(e pumpsim.Served) { b.served = append(b.served, e) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pumps {
		if _, err := b.sim.AddPump(p); err != nil {
			t.Fatal(err)
		}
	}
	b.line = fieldbus.NewLine("in memory", geniMode, b.sim.Open, b.clk)
	if err := b.line.Open(); err != nil {
		t.Fatal(err)
	}
	b.master = genibus.NewMaster(b.line, b.clk, 1)
	return b
}

// mixed is a line of several generations.
var mixed = []pumpsim.PumpOptions{
	{Address: 32, Model: "magna3"}, {Address: 33, Model: "upe"}, {Address: 34, Model: "upe3"}, {Address: 35, Model: "magna"},
	{Address: 36, Model: "epump"}, {Address: 37, Model: "booster"}, {Address: 38, Model: "mp204"},
}

func TestEveryGenerationIsFoundByConnectionRequests(t *testing.T) {
	b := newGeniBench(t, "", mixed...)
	d, err := b.master.Discover(context.Background(), nil, genibus.DiscoverTime, nil)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[byte][2]byte{}
	for _, u := range d.Units {
		kinds[u.Address] = [2]byte{u.Family, u.Type}
		if u.Name == "" || len(u.Serial) != 8 || u.Buffer < 70 {
			t.Errorf("%+v does not say who it is", u)
		}
	}
	for address, want := range map[byte][2]byte{32: {1, 10}, 33: {1, 3}, 34: {1, 5}, 35: {1, 7}, 36: {2, 7}, 37: {17, 1}, 38: {7, 1}} {
		if kinds[address] != want {
			t.Errorf("at %d: family and type %v; want %v", address, kinds[address], want)
		}
	}
	if len(d.Duplicates) > 0 {
		t.Errorf("duplicates %v where there are none", d.Duplicates)
	}
}

func TestTwoNewUnitsAtTheFactoryAddressCannotBeToldApart(t *testing.T) {
	b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 231, Model: "epump"}, pumpsim.PumpOptions{Address: 231, Model: "epump"})
	d, err := b.master.Discover(context.Background(), nil, genibus.DiscoverTime, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Duplicates, []byte{231}) {
		t.Errorf("duplicates %v; want 231. Found %+v", d.Duplicates, d.Units)
	}
}

func TestAUnitThatWasPolledIgnoresConnectionRequestsForTwentySeconds(t *testing.T) {
	b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 32, Model: "magna3"})
	ask := func() bool {
		n := len(b.served)
		request := genibus.Telegram{Start: genibus.DataRequest, To: genibus.ConnectionRequest, From: 1, PDU: genibus.ConnectionPDU()}
		if _, err := b.line.Write(request.Append(nil)); err != nil {
			t.Fatal(err)
		}
		b.clk.Advance(100 * time.Millisecond)
		if err := b.line.Close(); err != nil { // brings the line up to now
			t.Fatal(err)
		}
		if err := b.line.Open(); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(b.served[n:], func(e pumpsim.Served) bool { return e.Sent })
	}
	if !ask() {
		t.Error("a new unit does not answer a connection request")
	}
	if _, err := b.master.Identify(context.Background(), 32); err != nil {
		t.Fatal(err)
	}
	b.clk.Advance(19 * time.Second)
	if ask() {
		t.Error("a unit that was polled 19 s ago answers a connection request")
	}
	b.clk.Advance(2 * time.Second)
	if !ask() {
		t.Error("a unit that was polled 21 s ago does not answer a connection request")
	}
}

// value reads an item of class 2 with its scale.
func (b *geniBench) value(t testing.TB, to, id byte, width int) float64 {
	t.Helper()
	var ids []byte
	for i := range width {
		ids = append(ids, id+byte(i))
	}
	var m genibus.Meaning
	var raw []byte
	for _, op := range []genibus.Operation{genibus.Info, genibus.Get} {
		refused, err := b.master.Collect(context.Background(), to, genibus.Measured, op, ids, genibus.SmallestBuffer, func(at byte, data []byte) {
			switch {
			case op == genibus.Get:
				raw = append(raw, data[0])
			case at == id:
				var err error
				if m, _, err = genibus.ParseInfo(data); err != nil {
					t.Fatal(err)
				}
			}
		})
		if err != nil || len(refused) > 0 {
			t.Fatalf("unit %d, item %d: refused %v, %v", to, id, refused, err)
		}
	}
	n, ok := m.Value(raw)
	if !ok {
		return math.NaN()
	}
	scale, err := m.Scale(width, genibus.Later)
	if err != nil {
		t.Fatalf("unit %d, item %d: %v", to, id, err)
	}
	return scale.Float(n)
}

func TestValuesByINFOAreThoseOfThePump(t *testing.T) {
	b := newGeniBench(t, "", mixed...)
	b.clk.Advance(30 * time.Second)
	for i, p := range mixed {
		_, address := b.sim.Pumps()[i], byte(p.Address)
		for _, item := range []struct {
			id    byte
			width map[string]int
			near  float64
			of    func(s physics.State) float64
		}{
			{37, map[string]int{"magna3": 1, "upe": 1, "upe3": 1, "magna": 1, "epump": 1, "booster": 1}, 0.25, func(s physics.State) float64 { return float64(s.Head) }},
			{39, map[string]int{"magna3": 1, "upe": 1, "epump": 1, "booster": 1}, 0.3, func(s physics.State) float64 { return float64(s.Flow) }},
			{34, map[string]int{"magna3": 1, "upe": 1, "epump": 1, "booster": 1}, 30, func(s physics.State) float64 { return float64(s.Power) }},
			{35, map[string]int{"magna3": 2, "magna": 2, "epump": 2, "upe": 1}, 12, func(s physics.State) float64 { return float64(s.Speed) }},
			{152, map[string]int{"magna3": 2, "epump": 2}, 1, func(s physics.State) float64 { return float64(s.Energy) / 3.6e6 }},
			{65, map[string]int{"mp204": 4}, 5, func(s physics.State) float64 { return float64(s.Power) }},
			{35, map[string]int{"mp204": 2}, 5, func(s physics.State) float64 { return float64(s.Mains) }},
			{77, map[string]int{"mp204": 3}, 1, func(s physics.State) float64 { return s.Running.Minutes() }},
		} {
			width, ok := item.width[p.Model]
			if !ok {
				continue
			}
			got, want := b.value(t, address, item.id, width), item.of(b.sim.Pumps()[i].State())
			if math.IsNaN(got) || math.Abs(got-want) > item.near {
				t.Errorf("%s, item %d: %v; the pump has %v", p.Model, item.id, got, want)
			}
		}
	}
}

func TestASetPointOverGENIbusMovesThePump(t *testing.T) {
	b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 36, Model: "epump", Local: true})
	ctx := context.Background()
	pump := b.sim.Pumps()[0]
	// In local it takes the command REMOTE and nothing else.
	if _, err := b.master.Try(ctx, 36, genibus.AppendSet(nil, genibus.Commands, genibus.CmdStop), 70); err != nil {
		t.Fatal(err)
	}
	if s := pump.State(); !s.On || s.Remote {
		t.Errorf("STOP in local: %+v; it shall not obey", s.Settings)
	}
	if err := b.master.Command(ctx, 36, 70, genibus.CmdRemote, genibus.CmdStart, genibus.CmdConstFreq); err != nil {
		t.Fatal(err)
	}
	run := func(percent float64) physics.State {
		t.Helper()
		ref, err := genibus.PercentReference(percent)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.master.SetReference(ctx, 36, 70, genibus.RefRemote, ref); err != nil {
			t.Fatal(err)
		}
		for range 10 { // to be addressed keeps it in remote
			b.clk.Advance(2 * time.Second)
			if _, err := b.master.ReadMode(ctx, 36, 70); err != nil {
				t.Fatal(err)
			}
		}
		return pump.State()
	}
	slow, fast := run(60), run(95)
	if !(fast.Speed > 1.4*slow.Speed && fast.Head > slow.Head && fast.Flow > slow.Flow && fast.Power > 2*slow.Power) {
		t.Errorf("from 60 to 95 %% speed: %v, %v m, %v m³/h, %v W became %v, %v, %v, %v", slow.Speed, slow.Head, slow.Flow, slow.Power, fast.Speed, fast.Head, fast.Flow, fast.Power)
	}
	mode, err := b.master.ReadMode(ctx, 36, 70)
	if err != nil || mode.Local || mode.Control != 2 || mode.Operation != 0 {
		t.Errorf("mode %+v, %v; want remote, start, constant frequency", mode, err)
	}
	if err := b.master.Command(ctx, 36, 70, genibus.CmdStop); err != nil {
		t.Fatal(err)
	}
	b.clk.Advance(5 * time.Second)
	if s := pump.State(); s.Speed != 0 {
		t.Errorf("after STOP it turns at %v", s.Speed)
	}
}

func TestAPumpInRemoteThatNobodyAddressesFallsBackToLocal(t *testing.T) {
	for model, after := range map[string]time.Duration{"magna3": 6 * time.Second, "upe": 6 * time.Second, "upe3": 35 * time.Second} {
		b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 32, Model: model, Local: true})
		if err := b.master.Command(context.Background(), 32, 70, genibus.CmdRemote); err != nil {
			t.Fatal(err)
		}
		addressed := b.clk.Now()
		b.clk.AdvanceTo(addressed.Add(after - 100*time.Millisecond))
		if !b.sim.Pumps()[0].State().Remote {
			t.Errorf("%s: in local before %v have passed", model, after)
		}
		b.clk.AdvanceTo(addressed.Add(after + 100*time.Millisecond))
		if b.sim.Pumps()[0].State().Remote {
			t.Errorf("%s: still in remote %v after it was addressed", model, after)
		}
	}
}

func TestAlarmsOfEveryGeneration(t *testing.T) {
	for _, c := range []struct {
		model string
		id    byte
		want  byte
	}{
		{"magna3", 158, byte(physics.CodeDryRunning)},
		{"upe3", 158, byte(physics.CodeDryRunning)},
		{"upe", 93, 1 << 2}, // stop3, bit 2: it has no code
		{"upe", 96, 1 << 2}, // the copy that stays
		{"mp204", 144, byte(physics.CodeDryRunning)},
	} {
		b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 32, Model: c.model})
		b.sim.Pumps()[0].SetCause(physics.DryRunning, true)
		b.clk.Advance(20 * time.Second)
		var got byte
		refused, err := b.master.Collect(context.Background(), 32, genibus.Measured, genibus.Get, []byte{c.id}, 70, func(_ byte, data []byte) { got = data[0] })
		if err != nil || len(refused) > 0 || got != c.want {
			t.Errorf("%s, item %d: %d, refused %v, %v; want %d", c.model, c.id, got, refused, err, c.want)
		}
	}
}

func TestWhatAUnitDoesNotHaveIsFoundOutItemByItem(t *testing.T) {
	b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 32, Model: "magna3"})
	got := map[byte]bool{}
	refused, err := b.master.Collect(context.Background(), 32, genibus.Measured, genibus.Get, []byte{37, 200, 39, 201, 34}, 70, func(id byte, _ []byte) { got[id] = true })
	if err != nil || !slices.Equal(refused, []byte{200, 201}) || !got[37] || !got[39] || !got[34] || len(got) != 3 {
		t.Errorf("got %v, refused %v, %v", got, refused, err)
	}
}

func TestNoFaultMakesAWrongValueOnGENIbus(t *testing.T) {
	// The master promises it for answers that are late by up to a quarter second,
	// while it knows nothing of a unit's worse habits.
	const faults = "late=0.05:20ms-200ms,repeat=0.05:3ms-80ms,foreign=0.05,split=0.05:1ms-20ms,flip=0.03,burst=0.03," +
		"silence=0.02,noise=0.03,cut=0.03,glue=0.03,wrong=0.03,exception=0.02"
	b := newGeniBench(t, faults, mixed[0], mixed[1], mixed[4])
	requests := [][]byte{{37, 39}, {34, 35, 48}, {81, 83, 37, 39}, {39, 37}}
	n := 5000
	if testing.Short() {
		n = 1500
	}
	good := 0
	for i := range n {
		to, ids := []byte{32, 33, 36}[i%3], requests[i%4]
		reply, at, err := b.master.Do(context.Background(), to, genibus.AppendGet(nil, genibus.Measured, ids...), 70)
		if err != nil {
			continue
		}
		a, _, _, err := genibus.Next(reply)
		if err != nil {
			t.Fatal(err)
		}
		if a.Ack() != genibus.OK {
			continue // the fault exception
		}
		good++
		truthful := slices.ContainsFunc(b.served, func(e pumpsim.Served) bool {
			if e.Address != int(to) || e.Sampled.Before(at) || len(e.Items) < len(ids) {
				return false
			}
			for i, id := range ids {
				if e.Items[i].ID != id || e.Items[i].Value != int(a.Data[i]) {
					return false
				}
			}
			return true
		})
		if !truthful {
			t.Fatalf("transaction %d: unit %d, items %v: % x is not what it said at %v or later", i, to, ids, a.Data, at)
		}
		if len(b.served) > 100 {
			b.served = append([]pumpsim.Served{}, b.served[len(b.served)-50:]...)
		}
	}
	if good < n/2 {
		t.Errorf("only %d of %d transactions were good", good, n)
	}
}

func TestATransactionTakesItsWireTimeOnGENIbus(t *testing.T) {
	b := newGeniBench(t, "", pumpsim.PumpOptions{Address: 32, Model: "magna3"})
	pdu := genibus.AppendGet(nil, genibus.Measured, 37, 39, 34)
	if _, _, err := b.master.Do(context.Background(), 32, pdu, 70); err != nil {
		t.Fatal(err)
	}
	began, n := b.clk.Now(), len(b.served)
	if _, _, err := b.master.Do(context.Background(), 32, pdu, 70); err != nil {
		t.Fatal(err)
	}
	if n++; len(b.served) != n {
		t.Fatalf("%d answers for a transaction", len(b.served)-n+1)
	}
	e := b.served[n-1]
	answer := genibus.Wire(genibus.Overhead + 2 + len(e.Items)) // the master may have asked for one item twice
	if pause := e.Done.Add(-answer).Sub(e.Asked); (pause - 5*time.Millisecond).Abs() > 10*time.Microsecond {
		t.Errorf("the reply began %v after the request's last bit; want 5ms", pause)
	}
	if took := b.clk.Now().Sub(began); took < genibus.Gap+genibus.Wire(len(pdu)+genibus.Overhead)+5*time.Millisecond+answer {
		t.Errorf("a transaction in %v", took)
	}
}

func BenchmarkGENIbusTransactionInMemory(bm *testing.B) {
	b := newGeniBench(bm, "late=0.02:20ms-500ms,flip=0.02", pumpsim.PumpOptions{Address: 32, Model: "magna3"})
	pdu := genibus.AppendGet(nil, genibus.Measured, 37, 39, 34, 35, 36, 48, 81, 82, 83, 112)
	for bm.Loop() {
		// Failures are part of the day.
		_, _, _ = b.master.Do(context.Background(), 32, pdu, 70)
		b.served = b.served[:0]
	}
}
