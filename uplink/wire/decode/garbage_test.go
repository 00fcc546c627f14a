package decode

import (
	"bytes"
	"compress/flate"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/wirepb"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(columns []byte, runs ...*wirepb.Run) *wirepb.Block {
	return &wirepb.Block{Catalogue: make([]byte, 8), Columns: columns, Runs: runs}
}

func TestGarbageIsNamed(t *testing.T) {
	name := make([]byte, 8)
	run := func(change func(*wirepb.Run)) *wirepb.Block {
		r := &wirepb.Run{Slots: 2, Deltas: []int64{1, 1, 1, 1}}
		change(r)
		return &wirepb.Block{Catalogue: name, FromMs: 1, Runs: []*wirepb.Run{r}}
	}
	for _, tc := range []struct {
		says string
		b    *wirepb.Block
	}{
		{"name has 0 bytes", &wirepb.Block{}},
		{"between the years", &wirepb.Block{Catalogue: name, FromMs: -1}},
		{"a length of", &wirepb.Block{Catalogue: name, LengthMs: 1 << 60}},
		{"run 0: 4 deltas are no whole number of series of 0", run(func(r *wirepb.Run) { r.Slots = 0 })},
		{"of 3 slots", run(func(r *wirepb.Run) { r.Slots = 3 })},
		{"of 4294967295 slots", run(func(r *wirepb.Run) { r.Slots = 1<<32 - 1 })},
		{"a period of", run(func(r *wirepb.Run) { r.PeriodMs = 1 << 63 })},
		{"slot 0", run(func(r *wirepb.Run) { r.FirstMs = 1<<63 - 1 })},
		{"slot 0", run(func(r *wirepb.Run) { r.FirstMs = -2 })},
		{"group 99999", run(func(r *wirepb.Run) { r.Group = 99999 })},
		{"mark 0: quality 0", run(func(r *wirepb.Run) { r.Marks = []*wirepb.Mark{{}} })},
		{"mark 0: quality 9", run(func(r *wirepb.Run) { r.Marks = []*wirepb.Mark{{Quality: 9}} })},
		{"mark 0: series 2+1 of 2", run(func(r *wirepb.Run) { r.Marks = []*wirepb.Mark{{Quality: 1, Series: 2}} })},
		{"mark 0: series 1+4294967295", run(func(r *wirepb.Run) { r.Marks = []*wirepb.Mark{{Quality: 1, Series: 1, SeriesCount: 1<<32 - 1}} })},
		{"mark 1: series 0, slot 1 is named twice", run(func(r *wirepb.Run) {
			r.Marks = []*wirepb.Mark{{Quality: 1, Slot: 1}, {Quality: 4, SlotCount: 2}}
		})},
		{"columns of 1, 0, 0 and 0 rows", run(func(r *wirepb.Run) { r.Exact = &wirepb.Exact{Series: []int64{1}} })},
		{"row 0: 0 series", run(func(r *wirepb.Run) {
			r.Exact = &wirepb.Exact{Series: []int64{1}, SeriesCount: []int64{0}, Slot: []int64{0}, OffMs: []int64{200}}
		})},
		{"row 1: series 1, slot 0 is named twice", run(func(r *wirepb.Run) {
			r.Exact = &wirepb.Exact{Series: []int64{1, 0}, SeriesCount: []int64{1, 0}, Slot: []int64{0, 0}, OffMs: []int64{200, 0}}
		})},
		{"row 0: series 18446744073709551615", run(func(r *wirepb.Run) {
			r.Exact = &wirepb.Exact{Series: []int64{-1}, SeriesCount: []int64{1}, Slot: []int64{0}, OffMs: []int64{200}}
		})},
		{"run 0 has columns of its own", func() *wirepb.Block {
			b := run(func(*wirepb.Run) {})
			b.Columns = []byte{1}
			return b
		}()},
		{"run 0: 0 series of 2 slots", packed([]byte{1}, &wirepb.Run{Slots: 2})},
		{"run 0: more than 262144 numbers", packed([]byte{1}, &wirepb.Run{Slots: 1<<32 - 1, Series: 1<<32 - 1})},
		{"run 0: more than 262144 numbers", packed([]byte{1}, &wirepb.Run{Slots: 1, Series: 1, ExactRows: 65536})},
		{"run 1: more than 262144 numbers", packed([]byte{1}, &wirepb.Run{Slots: 200000, Series: 1}, &wirepb.Run{Slots: 200000, Series: 1})},
		{"9 bytes behind the last column", packed(bytes.Repeat([]byte{0xFF}, 13), &wirepb.Run{Slots: 1, Series: 1})},
	} {
		if _, err := ParseBlock(marshal(t, tc.b)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("want an error with %q, got %v", tc.says, err)
		}
	}
}

func TestARecordThatCannotBeExpandedKeepsItsName(t *testing.T) {
	bomb := func() []byte {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, 9)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(make([]byte, 100<<20))
		_ = w.Close()
		return b.Bytes()
	}()
	for _, tc := range []struct {
		says string
		r    *wirepb.Record
	}{
		{"expands to more than", &wirepb.Record{Compression: 1, Body: bomb}},
		{"deflate", &wirepb.Record{Compression: 1, Body: []byte("garbage")}},
		{"unknown compression 99", &wirepb.Record{Compression: 99, Body: []byte("garbage")}},
	} {
		tc.r.Epoch, tc.r.Lane, tc.r.Seq = []byte("12345678"), wirepb.Lane_LANE_URGENT, 42
		rec, err := ParseRecord(marshal(t, tc.r))
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("want an error with %q, got %v", tc.says, err)
		}
		if rec.Seq != 42 || rec.Lane != wire.Urgent || rec.Epoch != wire.Epoch([]byte("12345678")) {
			t.Errorf("the name got lost: %+v", rec)
		}
		if errors.Is(err, ErrUnknownCompression) != (tc.r.Compression == 99) {
			t.Errorf("%v", err)
		}
	}
	for says, r := range map[string]*wirepb.Record{
		"epoch has 7 bytes": {Epoch: []byte("1234567"), Lane: 1, Seq: 1},
		"lane 3":            {Epoch: []byte("12345678"), Lane: 3, Seq: 1},
		"no sequence":       {Epoch: []byte("12345678"), Lane: 1},
	} {
		if _, err := ParseRecord(marshal(t, r)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error with %q, got %v", says, err)
		}
	}
}

// TestNewerFieldsAndKindsAreNoError: a newer gateway may talk to an older
// backend.
func TestNewerFieldsAndKindsAreNoError(t *testing.T) {
	unknown := []byte{0xf8, 0x3f, 0x01} // field 1023, varint 1
	rec, err := ParseRecord(append(marshal(t, &wirepb.Record{Epoch: make([]byte, 8), Lane: 1, Seq: 1, Kind: 77, Body: []byte("x")}), unknown...))
	if err != nil || rec.Kind != 77 || string(rec.Body) != "x" {
		t.Errorf("%+v, %v", rec, err)
	}
	block := append(marshal(t, &wirepb.Block{Catalogue: make([]byte, 8), Runs: []*wirepb.Run{{Slots: 1, Deltas: []int64{1}}}}), unknown...)
	if b, err := ParseBlock(block); err != nil || b.Readings() != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

// TestHostileBlocksStaySmall tries the bodies that cost a decoder most.
func TestHostileBlocksStaySmall(t *testing.T) {
	full := wire.MaxRecord - 100
	marks := make([]*wirepb.Mark, 20000)
	for i := range marks {
		marks[i] = &wirepb.Mark{Quality: 1, SeriesCount: 1, SlotCount: 100000}
	}
	for name, body := range map[string][]byte{
		"cells":      marshal(t, &wirepb.Block{Catalogue: make([]byte, 8), Runs: []*wirepb.Run{{Slots: uint32(full), Deltas: make([]int64, full)}}}),
		"empty runs": append(marshal(t, &wirepb.Block{Catalogue: make([]byte, 8)}), bytes.Repeat([]byte{0x22, 0}, full/2)...),
		"packed":     marshal(t, packed([]byte{255}, &wirepb.Run{Slots: wire.MaxCells, Series: 1})),
		"marks":      marshal(t, &wirepb.Block{Catalogue: make([]byte, 8), Runs: []*wirepb.Run{{Slots: 100000, Deltas: make([]int64, 100000), Marks: marks}}}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = ParseBlock(body)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d bytes took %d MB", name, len(body), used>>20)
		}
	}
}

// TestWhatIsStatedIsHeldAgainstItsBytes: a few bytes state neither a hundred thousand
// series nor a quarter of a million readings.
func TestWhatIsStatedIsHeldAgainstItsBytes(t *testing.T) {
	if _, err := ParseBlock(marshal(t, packed([]byte{255}, &wirepb.Run{Slots: wire.MaxCells / 4, Series: 4}))); err == nil || !strings.Contains(err.Error(), "stated in 1 bytes") {
		t.Errorf("a block: %v", err)
	}
	body := marshal(t, &wirepb.Catalogue{Pumps: []*wirepb.Pump{{Id: "p"}}, Groups: []*wirepb.Group{{PeriodMs: 1000, Series: make([]*wirepb.Series, 0)}}})
	group := append([]byte{8}, protowire.AppendVarint(nil, 1000)...)
	group = append(group, bytes.Repeat([]byte{0x12, 0}, 100000)...)
	body = append(protowire.AppendTag(body, 2, protowire.BytesType), protowire.AppendBytes(nil, group)...)
	if _, _, err := ParseCatalogue(body); err == nil || !strings.Contains(err.Error(), "100000 series") {
		t.Errorf("a catalogue of %d bytes: %v", len(body), err)
	}
	// The readings that rest longest still pass.
	c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}, Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{{Pump: "p", Point: "speed"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	b := wire.NewBuilder(c)
	b.Open(start)
	n := 0
	for b.Add(telemetry.Reading{Slot: start.Add(time.Duration(n) * time.Second)}) && n < 200000 {
		n++
	}
	if got, err := ParseBlock(b.Seal(start.Add(time.Duration(n) * time.Second))); err != nil || got.Readings() < n {
		t.Errorf("%d readings that rest: %v", n, err)
	}
}

func TestABlockThatDoesNotFitItsCatalogue(t *testing.T) {
	groups := []telemetry.Group{{Period: time.Hour * 24 * 365, Series: make([]telemetry.Series, 2)}}
	for says, run := range map[string]*wirepb.Run{
		"no group 1":        {Group: 1, Slots: 1, Deltas: []int64{1, 1}},
		"3 series; the":     {Slots: 1, Deltas: []int64{1, 1, 1}},
		"beyond the year":   {Slots: 10000, Deltas: make([]int64, 20000)},
		"1 series; the cat": {Slots: 2, Deltas: []int64{1, 1}},
	} {
		b, err := ParseBlock(marshal(t, &wirepb.Block{Catalogue: make([]byte, 8), Runs: []*wirepb.Run{run}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.All(groups); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error with %q, got %v", says, err)
		}
	}
}

// FuzzRecord feeds whole publishes through every decoder.
func FuzzRecord(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 5 {
		c, w := testCatalogue(f, r)
		b := wire.NewBuilder(w)
		b.Open(start)
		for _, m := range randomReadings(r, c) {
			b.Add(m)
		}
		body := b.Seal(start.Add(time.Minute))
		f.Add(wire.AppendRecord(nil, wire.Epoch{}, wire.History, 1, new(wire.Packer).AppendPayload(nil, wire.KindBlock, body)))
		f.Add(marshal(f, &wirepb.Record{Epoch: make([]byte, 8), Lane: 2, Seq: 1, Kind: 1, Body: body}))
		f.Add(wire.AppendRecord(nil, wire.Epoch{}, wire.History, 2, new(wire.Packer).AppendPayload(nil, wire.KindCatalogue, w.Body)))
	}
	f.Add(wire.AppendRecord(nil, wire.Epoch{}, wire.Urgent, 3, wire.GapPayload(telemetry.Gap{Reason: 1, From: start, To: start})))
	groups := []telemetry.Group{{Period: time.Second, Series: make([]telemetry.Series, 3)}, {Period: time.Second, Series: make([]telemetry.Series, 1)}}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, body := range [][]byte{data, func() []byte { rec, _ := ParseRecord(data); return rec.Body }()} {
			if block, err := ParseBlock(body); err == nil {
				if readings, err := block.All(groups); err == nil && len(readings) != block.Readings() {
					t.Errorf("%d readings, said %d", len(readings), block.Readings())
				}
			}
			if c, _, err := ParseCatalogue(body); err == nil {
				if _, err := wire.NewCatalogue(c); err != nil && len(body) < wire.MaxRecord/2 {
					t.Errorf("a catalogue that was read cannot be written: %v", err)
				}
			}
			if g, err := ParseGap(body); err == nil {
				if again, err := ParseGap(wire.AppendGap(nil, g)); err != nil || again != g {
					t.Errorf("gap %+v became %+v, %v", g, again, err)
				}
			}
		}
	})
}
