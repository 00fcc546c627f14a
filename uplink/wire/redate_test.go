package wire_test

import (
	"bytes"
	"testing"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// read is what a reader makes of a payload.
func read(t *testing.T, payload []byte) decode.Record {
	t.Helper()
	r, err := decode.ParseRecord(wire.AppendRecord(nil, wire.Epoch{1}, wire.History, 1, payload))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func later(by time.Duration) func(int64) int64 {
	return func(ms int64) int64 { return ms + by.Milliseconds() }
}

func redate(t *testing.T, payload []byte, by, unsure time.Duration) decode.Record {
	t.Helper()
	got, err := wire.Redate(nil, payload, later(by), unsure)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, got)
}

// TestABlockIsMovedAsAWhole: readings on and off their slots, of an uptime, and of
// the very moment of the boot.
func TestABlockIsMovedAsAWhole(t *testing.T) {
	c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}},
		Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{{Pump: "p", Point: "speed", Scale: telemetry.Unit}}}}})
	if err != nil {
		t.Fatal(err)
	}
	const truth = 1_800_000_000 * time.Second
	for _, from := range []time.Duration{0, time.Second, 40 * 24 * time.Hour} {
		at := time.Unix(0, int64(from)).UTC()
		b := wire.NewBuilder(c)
		b.Open(at)
		b.Add(telemetry.Reading{Slot: at.Add(time.Second), Raw: 5})
		b.Add(telemetry.Reading{Slot: at.Add(2 * time.Second), Off: 300 * time.Millisecond, Raw: 7})
		payload := new(wire.Packer).AppendPayload(nil, wire.KindBlock, bytes.Clone(b.Seal(at.Add(3*time.Second))))
		for _, unsure := range []time.Duration{0, time.Hour} {
			block, err := decode.ParseBlock(redate(t, payload, truth, unsure).Body)
			if err != nil {
				t.Fatal(err)
			}
			if want := at.Add(truth); !block.From.Equal(want) || !block.To.Equal(want.Add(3*time.Second)) || block.Unsure != unsure {
				t.Errorf("from %v: the block is from %v to %v, unsure %v", from, block.From, block.To, block.Unsure)
			}
			rs, err := block.All(c.Meaning().Groups)
			if err != nil || len(rs) != 2 {
				t.Fatal(rs, err)
			}
			for i, want := range []time.Time{at.Add(truth + time.Second), at.Add(truth + 2300*time.Millisecond)} {
				if !rs[i].Time().Equal(want) || rs[i].Unsure != unsure {
					t.Errorf("from %v: reading %d is of %v, want %v", from, i, rs[i].Time(), want)
				}
			}
		}
	}
}

func TestEventsAndGapsAreMoved(t *testing.T) {
	at := time.Unix(100, 0).UTC()
	e := telemetry.Event{Time: at, Pump: "p", Point: "alarm_code", Raw: 57, Before: -1}
	payload := new(wire.Packer).AppendPayload(nil, wire.KindEvent, wire.AppendEvent(nil, e))
	got, err := decode.ParseEvent(redate(t, payload, time.Hour, time.Minute).Body)
	want := e
	want.Time, want.Unsure = at.Add(time.Hour), time.Minute
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	none, err := wire.Redate(nil, payload, func(int64) int64 { return 0 }, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode.ParseEvent(read(t, none).Body); err != nil || !got.Time.IsZero() || got.Raw != 57 {
		t.Errorf("without a time: %+v, %v", got, err)
	}
	g := telemetry.Gap{Reason: telemetry.QueueFull, From: at, To: at.Add(time.Second), FromSeq: 3, ToSeq: 9}
	if got, err := decode.ParseGap(redate(t, wire.GapPayload(g), time.Hour, 0).Body); err != nil ||
		!got.From.Equal(g.From.Add(time.Hour)) || !got.To.Equal(g.To.Add(time.Hour)) || got.FromSeq != 3 || got.ToSeq != 9 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheMarkOfABootComesOffAgain(t *testing.T) {
	payload := wire.GapPayload(telemetry.Gap{Reason: telemetry.Damaged})
	marked := wire.Undated(0xfedcba9876543210, payload)
	boot, rest, ok := wire.CutUndated(marked)
	if !ok || boot != 0xfedcba9876543210 || !bytes.Equal(rest, payload) {
		t.Errorf("%x %x %v", boot, rest, ok)
	}
	if _, rest, ok := wire.CutUndated(payload); ok || !bytes.Equal(rest, payload) {
		t.Error("a payload without a mark has one")
	}
	// A reader that meets the mark by mistake passes it over.
	if r := read(t, marked); r.Kind != wire.KindGap {
		t.Errorf("%+v", r)
	}
}

func TestWhatHasNoTimeStaysAsItIs(t *testing.T) {
	payload := new(wire.Packer).AppendPayload(nil, wire.KindCatalogue, bytes.Repeat([]byte("penstock"), 200))
	got, err := wire.Redate(nil, payload, later(time.Hour), time.Hour)
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%v; %d bytes of %d", err, len(got), len(payload))
	}
	if _, err := wire.Redate(nil, []byte{0xff}, later(0), 0); err == nil {
		t.Error("garbage has been dated")
	}
}

// FuzzRedate: whatever lies on the disk, dating it by nothing twice changes nothing the
// second time, and the mark of a boot comes off as it went on.
func FuzzRedate(f *testing.F) {
	f.Add(wire.GapPayload(telemetry.Gap{Reason: telemetry.Damaged, From: time.Unix(1, 0), To: time.Unix(2, 0)}))
	f.Add(new(wire.Packer).AppendPayload(nil, wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: time.Unix(1, 0), Pump: "p", Point: "x"})))
	f.Add(new(wire.Packer).AppendPayload(nil, wire.KindBlock, []byte{0x10, 0x02, 0x18, 0x04}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, rest, ok := wire.CutUndated(wire.Undated(7, payload)); !ok || !bytes.Equal(rest, payload) {
			t.Fatal("the mark did not come off")
		}
		once, err := wire.Redate(nil, payload, later(0), 0)
		if err != nil {
			return
		}
		twice, err := wire.Redate(nil, once, later(0), 0)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x, %v", once, twice, err)
		}
	})
}
