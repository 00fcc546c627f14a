package decode

import (
	"cmp"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// start is a round moment in 2026.
var start = time.UnixMilli(1780000000000).UTC()

func testCatalogue(t testing.TB, r *rand.Rand) (telemetry.Catalogue, *wire.Catalogue) {
	t.Helper()
	c := telemetry.Catalogue{Pumps: []telemetry.Pump{
		{ID: "bus1-1", Name: "Well pump", Family: "e-pump", Bus: "bus1", Address: 1},
		{ID: "bus1-2", Name: "Brunnen-Süd", Bus: "bus1", Address: 247},
	}}
	for range 1 + r.IntN(3) {
		g := telemetry.Group{Period: time.Duration(1+r.IntN(20)) * 500 * time.Millisecond}
		for range 1 + r.IntN(12) {
			g.Series = append(g.Series, telemetry.Series{
				Pump: c.Pumps[r.IntN(2)].ID, Point: "head", Unit: "bar",
				Scale: telemetry.Scale{Num: 1 + r.Int64N(2), Add: r.Int64N(3) - 1, Den: 1 + r.Int64N(1000)},
			})
		}
		c.Groups = append(c.Groups, g)
	}
	w, err := wire.NewCatalogue(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

// randomReadings makes what a bus may deliver, and worse: slots left out, dead
// frames, late frames, a grid that jumps, extreme values.
func randomReadings(r *rand.Rand, c telemetry.Catalogue) (all []telemetry.Reading) {
	for g, group := range c.Groups {
		phase := time.Duration(r.IntN(1000)) * time.Millisecond
		values := make([]int64, len(group.Series))
		for k := range r.IntN(80) {
			if r.IntN(30) == 0 {
				phase += time.Duration(r.IntN(5000)-1000) * time.Millisecond
			}
			slot := start.Add(phase + time.Duration(k)*group.Period)
			dead, late := r.IntN(15) == 0, time.Duration(0)
			if r.IntN(10) == 0 {
				late = time.Duration(r.IntN(400)-200) * time.Millisecond
			}
			for s := range group.Series {
				switch r.IntN(8) {
				case 0:
					values[s] += r.Int64N(2000) - 1000
				case 1:
					values[s]++
				}
				if r.IntN(500) == 0 {
					values[s] = []int64{math.MaxInt64, math.MinInt64, 0, 65535}[r.IntN(4)]
				}
				m := telemetry.Reading{Group: g, Series: s, Slot: slot, Off: late, Raw: values[s]}
				switch {
				case r.IntN(60) == 0:
					continue // the block ended between two frames of the slot
				case dead:
					m.Quality, m.Raw = telemetry.Missing, 0
				case r.IntN(40) == 0:
					m.Quality, m.Raw = telemetry.NotAvailable, 0
				case r.IntN(40) == 0:
					m.Quality = telemetry.Stale
				}
				if r.IntN(200) == 0 {
					m.Off = time.Duration(r.Int64N(int64(time.Hour))).Truncate(time.Millisecond)
				}
				all = append(all, m)
				if r.IntN(300) == 0 { // the same slot twice
					m.Raw, m.Quality = 7, telemetry.Good
					all = append(all, m)
				}
			}
		}
	}
	r.Shuffle(len(all), func(i, j int) {
		if i-j < 10 && j-i < 10 {
			all[i], all[j] = all[j], all[i]
		}
	})
	return all
}

// expected is what the format keeps of a reading: times to the millisecond, an
// offset only beyond the tolerance.
func expected(m telemetry.Reading) telemetry.Reading {
	if m.Off <= telemetry.LateTolerance && m.Off >= -telemetry.LateTolerance {
		m.Off = 0
	}
	return m
}

func sorted(all []telemetry.Reading) []telemetry.Reading {
	slices.SortFunc(all, func(a, b telemetry.Reading) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Series, b.Series), a.Slot.Compare(b.Slot),
			cmp.Compare(a.Raw, b.Raw), cmp.Compare(a.Quality, b.Quality), cmp.Compare(a.Off, b.Off))
	})
	return all
}

func TestWhatGoesInComesOut(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		c, w := testCatalogue(t, r)
		b := wire.NewBuilder(w)
		var want, got []telemetry.Reading
		seal := func(to time.Time) {
			record := wire.AppendRecord(nil, wire.Epoch{1, 2}, wire.History, 1+seed, new(wire.Packer).AppendPayload(nil, wire.KindBlock, b.Seal(to)))
			rec, err := ParseRecord(record)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if rec.Epoch != (wire.Epoch{1, 2}) || rec.Lane != wire.History || rec.Seq != 1+seed || rec.Kind != wire.KindBlock {
				t.Fatalf("seed %d: record %+v", seed, rec)
			}
			block, err := ParseBlock(rec.Body)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if block.Catalogue != w.Name || !block.From.Equal(start) || !block.To.Equal(to) {
				t.Fatalf("seed %d: block of %v from %v to %v", seed, block.Catalogue, block.From, block.To)
			}
			readings, err := block.All(c.Groups)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if len(readings) != b.Len() || len(readings) != block.Readings() {
				t.Fatalf("seed %d: %d readings of %d", seed, len(readings), b.Len())
			}
			got = append(got, readings...)
			// Whatever was read before, a check sees the same.
			_ = CheckBlock(rec.Body[:len(rec.Body)/2], func(*Block) {})
			err = CheckBlock(rec.Body, func(checked *Block) {
				again, err := checked.All(c.Groups)
				if err != nil || !slices.Equal(again, readings) || checked.Catalogue != block.Catalogue || !checked.To.Equal(block.To) {
					t.Fatalf("seed %d: a check sees %d readings of %d, %v", seed, len(again), len(readings), err)
				}
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		b.Open(start)
		for _, m := range randomReadings(r, c) {
			want = append(want, expected(m))
			if !b.Add(m) || r.IntN(200) == 0 { // a builder is used again and again
				seal(start.Add(time.Second))
				b.Open(start)
			}
		}
		seal(start.Add(time.Minute))
		sorted(want)
		sorted(got)
		for i := range want {
			if want[i] != got[i] {
				t.Fatalf("seed %d, reading %d:\nwant %+v\ngot  %+v", seed, i, want[i], got[i])
			}
		}
	}
}

func TestABlockIsSealedBeforeItGrowsTooLarge(t *testing.T) {
	groups := []telemetry.Group{{Period: time.Second, Series: make([]telemetry.Series, 200)}}
	for i := range groups[0].Series {
		groups[0].Series[i].Pump = "p"
	}
	c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}, Groups: groups})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, worst := range []func(i int, m *telemetry.Reading){
		func(i int, m *telemetry.Reading) {},
		func(i int, m *telemetry.Reading) { m.Slot = start.Add(time.Duration(r.IntN(1e9)) * time.Millisecond) },
		func(i int, m *telemetry.Reading) { m.Off = time.Duration(r.IntN(1e9)) * time.Millisecond },
		func(i int, m *telemetry.Reading) { m.Quality = telemetry.Quality(i % 4) },
		func(i int, m *telemetry.Reading) { m.Quality = telemetry.Doubtful * telemetry.Quality(i%2) },
		func(i int, m *telemetry.Reading) { m.Series = 0 },
	} {
		b := wire.NewBuilder(c)
		b.Open(start)
		for i := 0; ; i++ {
			m := telemetry.Reading{Series: i % 200, Slot: start.Add(time.Duration(i/200) * time.Second), Raw: int64(r.Uint64())}
			worst(i, &m)
			if !b.Add(m) {
				break
			}
			if i > wire.MaxBlock {
				t.Fatal("never full")
			}
		}
		n := b.Len()
		body := b.Seal(start.Add(time.Hour))
		if len(body) > wire.MaxBlock+8<<10 {
			t.Errorf("a body of %d bytes", len(body))
		}
		block, err := ParseBlock(body)
		if err != nil || block.Readings() != n {
			t.Errorf("%d readings of %d: %v", block.Readings(), n, err)
		}
	}
}

func TestCatalogueComesBack(t *testing.T) {
	for seed := range uint64(50) {
		c, w := testCatalogue(t, rand.New(rand.NewPCG(seed, 2)))
		got, name, err := ParseCatalogue(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if name != w.Name || !slices.Equal(got.Pumps, c.Pumps) || len(got.Groups) != len(c.Groups) {
			t.Fatalf("got %+v", got)
		}
		for i, g := range got.Groups {
			if g.Period != c.Groups[i].Period || !slices.Equal(g.Series, c.Groups[i].Series) {
				t.Fatalf("group %d: got %+v, want %+v", i, g, c.Groups[i])
			}
		}
	}
}

// TestAnUnknownScaleStaysUnknown: a scale that a device has not told is not 1.
func TestAnUnknownScaleStaysUnknown(t *testing.T) {
	want := telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}, Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{
		{Pump: "p", Point: "speed", Unit: "/min"}, {Pump: "p", Point: "power", Unit: "W", Scale: telemetry.Unit}}}}}
	c, err := wire.NewCatalogue(want)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := ParseCatalogue(c.Body)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestGapComesBack(t *testing.T) {
	for _, g := range []telemetry.Gap{
		{Reason: telemetry.UncleanStop, From: start, To: start.Add(61234 * time.Millisecond)},
		{Reason: telemetry.QueueFull, From: start, To: start, FromSeq: 5, ToSeq: 1 << 40},
	} {
		rec, err := ParseRecord(wire.AppendRecord(nil, wire.Epoch{}, wire.Urgent, 1, wire.GapPayload(g)))
		if err != nil || rec.Kind != wire.KindGap || rec.Lane != wire.Urgent {
			t.Fatalf("%+v, %v", rec, err)
		}
		if got, err := ParseGap(rec.Body); err != nil || got != g {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func TestEventComesBack(t *testing.T) {
	for _, e := range []telemetry.Event{
		{Time: start, Pump: "bus1-1", Point: "alarm_code", Raw: 57, Before: 0},
		{Time: start, Link: "modem", Point: telemetry.DataUsed, Raw: 100, Before: 80},
	} {
		if got, err := ParseEvent(wire.AppendEvent(nil, e)); err != nil || got != e {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	for _, bad := range []telemetry.Event{{Time: start, Point: "alarm_code"}, {Time: start, Pump: "p"}} {
		if got, err := ParseEvent(wire.AppendEvent(nil, bad)); err == nil {
			t.Errorf("%+v passed", got)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	c, w := testCatalogue(t, r)
	all := randomReadings(r, c)
	b := wire.NewBuilder(w)
	var packer wire.Packer
	var payload []byte
	period := func() {
		b.Open(start)
		for _, m := range all {
			b.Add(m)
		}
		payload = packer.AppendPayload(payload[:0], wire.KindBlock, b.Seal(start.Add(time.Minute)))
	}
	period()
	if n := testing.AllocsPerRun(20, period); n > 0 {
		t.Errorf("%v allocations for a block of %d readings", n, len(all))
	}
}

func TestResultsComeBack(t *testing.T) {
	for o := telemetry.Done; o <= telemetry.Cancelled; o++ {
		want := telemetry.CommandResult{ID: telemetry.CommandID{1, 15: 2}, Outcome: o, Time: start, Raw: -5500, Text: "55.00 %"}
		if got, err := ParseResult(wire.AppendResult(nil, want)); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, bad := range []telemetry.CommandResult{{Time: start}, {Outcome: telemetry.Done, Time: start.AddDate(9000, 0, 0)}} {
		if got, err := ParseResult(wire.AppendResult(nil, bad)); err == nil {
			t.Errorf("%+v", got)
		}
	}
}
