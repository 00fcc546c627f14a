package decode

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/wirepb"
)

var update = flag.Bool("update", false, "rewrite testdata/wire; the format of what is stored somewhere must not change")

const vectorDir = "../../../testdata/wire"

// Debian's own, which fit each other: the first protoc and python3 in the path
// may be others, of other versions and without Debian's libraries.
const (
	protoc = "/usr/bin/protoc"
	python = "/usr/bin/python3"
)

// vector is a file that any decoder can be tried on.
type vector struct {
	About  string   `json:"about"`
	Record []string `json:"record"` // hexadecimal, to be joined
	Says   any      `json:"says"`
}

type object = map[string]any

// vectorRecords makes the records of the vectors. The same records must come out
// for ever.
func vectorRecords(t *testing.T) map[string]vector {
	cat := telemetry.Catalogue{
		Pumps: []telemetry.Pump{
			{ID: "bus1-1", Name: "Well pump", Family: "cim-epump", Bus: "bus1", Address: 1},
			{ID: "bus1-2", Name: "Brunnen Süd", Family: "cim-epump", Bus: "bus1", Address: 2},
		},
		Groups: []telemetry.Group{
			{Period: time.Second, Series: []telemetry.Series{
				{Pump: "bus1-1", Point: "head", Unit: "m[H2O]", Scale: telemetry.Scale{Num: 2000, Den: 196133}},
				{Pump: "bus1-1", Point: "speed", Unit: "/min", Scale: telemetry.Unit},
				{Pump: "bus1-1", Point: "running", Unit: "1", Scale: telemetry.Unit, Enum: "off_on"},
			}},
			{Period: 10 * time.Second, Series: []telemetry.Series{
				{Pump: "bus1-1", Point: "motor_temperature", Unit: "Cel", Scale: telemetry.Scale{Num: 1, Add: -27315, Den: 100}},
				{Pump: "bus1-2", Point: "energy", Unit: "kW.h", Scale: telemetry.Unit},
			}},
		},
	}
	w, err := wire.NewCatalogue(cat)
	if err != nil {
		t.Fatal(err)
	}
	large := cat
	large.Groups = []telemetry.Group{{Period: time.Second}}
	for range 30 {
		large.Groups[0].Series = append(large.Groups[0].Series, cat.Groups[0].Series...)
	}
	wl, err := wire.NewCatalogue(large)
	if err != nil {
		t.Fatal(err)
	}
	epoch := wire.Epoch{0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18}
	var p wire.Packer
	record := func(lane wire.Lane, seq uint64, kind wire.Kind, body []byte) []byte {
		return wire.AppendRecord(nil, epoch, lane, seq, p.AppendPayload(nil, kind, body))
	}
	block := func(seq uint64, readings []telemetry.Reading) []byte {
		b := wire.NewBuilder(w)
		b.Open(start)
		for _, m := range readings {
			b.Add(m)
		}
		return record(wire.History, seq, wire.KindBlock, b.Seal(start.Add(time.Minute)))
	}
	r := rand.New(rand.NewPCG(1, 1))
	var minute, troubled []telemetry.Reading
	head, speed, temp := int64(3210), int64(2870), int64(30315)
	for k := range 60 {
		head += r.Int64N(7) - 3
		speed += r.Int64N(3) - 1
		slot := start.Add(time.Duration(k)*time.Second + 37*time.Millisecond)
		minute = append(minute, telemetry.Reading{Slot: slot, Raw: head}, telemetry.Reading{Series: 1, Slot: slot, Raw: speed}, telemetry.Reading{Series: 2, Slot: slot, Raw: 1})
		if k%10 == 0 {
			temp += r.Int64N(40) - 10
			minute = append(minute, telemetry.Reading{Group: 1, Slot: slot, Raw: temp}, telemetry.Reading{Group: 1, Series: 1, Slot: slot, Raw: 183423 + int64(k/30)})
		}
	}
	for i, m := range minute {
		switch k := i % 100; {
		case k > 90:
			m.Quality, m.Raw = telemetry.Missing, 0
		case k > 80:
			m.Quality = telemetry.Stale
		case k == 50 || k == 51:
			m.Quality, m.Raw = telemetry.NotAvailable, 0
		case k > 40 && k < 45:
			continue // absent
		case k > 20 && k < 30:
			m.Off = time.Duration(130+k) * time.Millisecond
		case k == 10:
			m.Off = -1500 * time.Millisecond
		}
		if i >= 150 {
			m.Slot = m.Slot.Add(413 * time.Millisecond) // the grid jumped
		}
		troubled = append(troubled, m)
	}
	var extremes []telemetry.Reading
	for k, raw := range []int64{0, math.MaxInt64, math.MinInt64, -1, math.MinInt64, math.MaxInt64, 1 << 40, 1<<40 + 1} {
		extremes = append(extremes, telemetry.Reading{Group: 1, Slot: start.Add(time.Duration(k) * 10 * time.Second), Raw: raw})
	}
	plain := marshal(t, &wirepb.Block{Catalogue: w.Name[:], FromMs: start.UnixMilli(), LengthMs: 5000, Runs: []*wirepb.Run{{
		Group: 1, FirstMs: -20, PeriodMs: 2500, Slots: 2, Deltas: []int64{30315, -1, 183423, 0},
		Marks: []*wirepb.Mark{{Quality: wirepb.Quality_QUALITY_STALE, Slot: 1}},
		Exact: &wirepb.Exact{Series: []int64{0, 1}, SeriesCount: []int64{1, 0}, Slot: []int64{0, 1}, OffMs: []int64{250, -500}},
	}}})
	newer := append(record(wire.Urgent, 9, 77, []byte("of a later version")), 0xF8, 0x3F, 0x01)
	vectors := map[string]vector{}
	for name, v := range map[string]struct {
		about  string
		record []byte
	}{
		"block":              {"a minute of two groups, packed", block(1, minute)},
		"block-troubled":     {"marks of every quality, exact times, a grid that jumps", block(2, troubled)},
		"block-extremes":     {"the ends of 64 bits", block(3, extremes)},
		"block-empty":        {"nothing was read", block(4, nil)},
		"block-one":          {"a single reading", block(5, minute[:1])},
		"block-plain":        {"columns that are not packed, with a period of their own", record(wire.History, 6, wire.KindBlock, plain)},
		"catalogue":          {"what the blocks of the other vectors mean", record(wire.History, 7, wire.KindCatalogue, w.Body)},
		"catalogue-deflated": {"large enough to be compressed", record(wire.History, 8, wire.KindCatalogue, wl.Body)},
		"gap":                {"records that went because the queue was full", wire.AppendRecord(nil, epoch, wire.Urgent, 1, wire.GapPayload(telemetry.Gap{Reason: telemetry.QueueFull, From: start, To: start.Add(time.Hour), FromSeq: 17, ToSeq: 300}))},
		"gap-power":          {"the open block of a gateway that lost power", wire.AppendRecord(nil, epoch, wire.Urgent, 2, wire.GapPayload(telemetry.Gap{Reason: telemetry.UncleanStop, From: start, To: start.Add(time.Minute)}))},
		"event":              {"an alarm came", record(wire.Urgent, 3, wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: start, Pump: "bus1-1", Point: "alarm_code", Raw: 57}))},
		"event-link":         {"a link has used most of its data", record(wire.Urgent, 5, wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: start, Link: "modem", Point: telemetry.DataUsed, Raw: 80}))},
		"result":             {"a set-point was read back", record(wire.Urgent, 4, wire.KindResult, wire.AppendResult(nil, telemetry.CommandResult{ID: telemetry.CommandID{1, 15: 2}, Outcome: telemetry.Done, Time: start, Raw: 5500, Text: "55.00 %"}))},
		"newer":              {"a kind and a field that this version does not know: kept, no error", newer},
	} {
		var lines []string
		for b := v.record; len(b) > 0; b = b[min(len(b), 60):] {
			lines = append(lines, hex.EncodeToString(b[:min(len(b), 60)]))
		}
		vectors[name] = vector{v.about, lines, says(t, v.record)}
	}
	return vectors
}

// says is what our decoder reads, in the shape of the vectors.
func says(t *testing.T, publish []byte) object {
	t.Helper()
	rec, err := ParseRecord(publish)
	if err != nil {
		t.Fatal(err)
	}
	var body any = hex.EncodeToString(rec.Body)
	switch rec.Kind {
	case wire.KindBlock:
		b, err := ParseBlock(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		readings := []object{}
		for _, r := range b.Runs {
			for k := range r.Slots {
				for s := range r.Series {
					c := r.At(s, k)
					if c.Absent {
						continue
					}
					readings = append(readings, object{
						"group": r.Group, "series": s, "first_ms": r.First.UnixMilli(), "period_ms": r.Period.Milliseconds(), "slot": k,
						"off_ms": c.Off.Milliseconds(), "quality": c.Quality, "raw": c.Raw,
					})
				}
			}
		}
		body = object{"catalogue": b.Catalogue.String(), "from_ms": b.From.UnixMilli(), "to_ms": b.To.UnixMilli(), "readings": readings}
	case wire.KindCatalogue:
		c, name, err := ParseCatalogue(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		var pumps, groups []object
		for _, p := range c.Pumps {
			pumps = append(pumps, object{"id": p.ID, "name": p.Name, "family": p.Family, "bus": p.Bus, "address": p.Address})
		}
		for _, g := range c.Groups {
			var series []object
			for _, s := range g.Series {
				series = append(series, object{"pump": s.Pump, "point": s.Point, "unit": s.Unit, "num": s.Scale.Num, "add": s.Scale.Add, "den": s.Scale.Den, "enumeration": s.Enum})
			}
			groups = append(groups, object{"period_ms": g.Period.Milliseconds(), "series": series})
		}
		body = object{"name": name.String(), "pumps": pumps, "groups": groups}
	case wire.KindGap:
		g, err := ParseGap(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = object{"reason": g.Reason, "from_ms": g.From.UnixMilli(), "to_ms": g.To.UnixMilli(), "from_seq": g.FromSeq, "to_seq": g.ToSeq}
	case wire.KindEvent:
		e, err := ParseEvent(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = object{"time_ms": e.Time.UnixMilli(), "pump": e.Pump, "link": e.Link, "point": e.Point, "raw": e.Raw, "before": e.Before}
	case wire.KindResult:
		r, err := ParseResult(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = object{"id": r.ID.String(), "outcome": r.Outcome, "time_ms": r.Time.UnixMilli(), "raw": r.Raw, "text": r.Text}
	}
	return object{"epoch": rec.Epoch.String(), "lane": rec.Lane, "seq": rec.Seq, "kind": rec.Kind, "body": body}
}

// parse reads JSON with its integers whole.
func parse(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectorsStandForEver(t *testing.T) {
	for name, v := range vectorRecords(t) {
		file := filepath.Join(vectorDir, name+".json")
		head, err := json.MarshalIndent(object{"about": v.About, "record": v.Record}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		tail, err := json.Marshal(v.Says)
		if err != nil {
			t.Fatal(err)
		}
		want := append(bytes.TrimSuffix(head, []byte("\n}")), ",\n  \"says\": "...)
		want = append(append(want, tail...), "\n}\n"...)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is no longer what we write, or read out of it", file)
		}
	}
}

// secondDecoder runs the Python script, which has nothing of ours but the .proto
// file and the document, and returns what it reads in each vector.
func secondDecoder(t *testing.T, files ...string) (says []any) {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range [][]string{{protoc, "--version"}, {python, "-c", "import google.protobuf"}} {
		if out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput(); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v: %v\n%s", tool, err, out)
			}
			t.Skipf("%v: %v (Debian: protobuf-compiler, python3-protobuf)", tool, err)
		}
	}
	if out, err := exec.Command(protoc, "-I..", "--python_out="+dir, "penstock.proto").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(python, append([]string{"-B", filepath.Join(vectorDir, "decode.py")}, files...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(files) {
		t.Fatalf("%d answers to %d vectors", len(lines), len(files))
	}
	for _, line := range lines {
		says = append(says, parse(t, line))
	}
	return says
}

func TestASecondDecoderReadsTheSame(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for i, got := range secondDecoder(t, files...) {
		b, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if want := parse(t, b).(object)["says"]; !reflect.DeepEqual(want, got) {
			t.Errorf("%s:\nsays   %v\nPython %v", files[i], want, got)
		}
	}
}

// TestTheSecondDecoderSeesAPlantedDifference: one bit of a packed column is
// turned over, and what Python reads is no longer what the vector says.
func TestTheSecondDecoderSeesAPlantedDifference(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(vectorDir, "block.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	publish, err := hex.DecodeString(strings.Join(v.Record, ""))
	if err != nil {
		t.Fatal(err)
	}
	publish[len(publish)-40] ^= 1
	v.Record = []string{hex.EncodeToString(publish)}
	planted, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "planted.json")
	if err := os.WriteFile(file, planted, 0o600); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(parse(t, b).(object)["says"], secondDecoder(t, file)[0]) {
		t.Error("it reads the same values")
	}
}
