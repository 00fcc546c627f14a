package trace

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"penstock/internal/telemetry"
)

var update = flag.Bool("update", false, "make the committed trace anew; figures measured with the old one no longer compare")

const about = "An hour of two virtual pumps; internal/lab/trace says more. Raw integers: value = (raw * num + add) / den."

func committed(t *testing.T) *Trace {
	t.Helper()
	file := filepath.Join("..", "..", "..", File)
	if *update {
		made, err := Make()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := made.Write(&b, about); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestTheCommittedTraceIsAnHourOfFortyLivelyPoints(t *testing.T) {
	tr := committed(t)
	if len(tr.Catalogue.Groups) != 2 || tr.Length != time.Hour || tr.Count() != 46_800 {
		t.Fatalf("%d groups, %v, %d readings", len(tr.Catalogue.Groups), tr.Length, tr.Count())
	}
	for i, want := range []struct {
		period time.Duration
		series int
	}{{time.Second, 10}, {10 * time.Second, 30}} {
		if g := tr.Catalogue.Groups[i]; g.Period != want.period || len(g.Series) != want.series {
			t.Errorf("group %d: %d series every %v", i, len(g.Series), g.Period)
		}
	}
	e := tr.DeltaEntropy()
	t.Logf("delta entropy %.3f bytes a reading", e)
	if e < 0.40 {
		t.Errorf("delta entropy %.3f bytes a reading: less lively than a real plant", e)
	}
	alarms := map[int64]bool{}
	for _, v := range tr.Values[0][4] {
		alarms[v.Raw] = true
	}
	if !alarms[57] || !alarms[0] {
		t.Errorf("the pump that ran dry gave the alarms %v", alarms)
	}
}

func TestATraceIsReadAsItWasWritten(t *testing.T) {
	made, err := Make()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := made.Write(&b, about); err != nil {
		t.Fatal(err)
	}
	read, err := Read(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(made, read) {
		t.Error("it is not")
	}
	if _, err := Read(bytes.NewReader(b.Bytes()[:b.Len()/2])); err == nil {
		t.Error("half a trace is read without an error")
	}
}

func TestReadingsComeInOrderAndAllOfThem(t *testing.T) {
	tr, n, last := committed(t), 0, time.Time{}
	tr.Readings(func(r telemetry.Reading) {
		if r.Slot.Before(last) {
			t.Fatalf("%v after %v", r.Slot, last)
		}
		if v := tr.Values[r.Group][r.Series][r.Slot.Sub(tr.Start)/tr.Catalogue.Groups[r.Group].Period]; v.Raw != r.Raw || v.Quality != r.Quality {
			t.Fatalf("%+v is %+v", r, v)
		}
		last = r.Slot
		n++
	})
	if n != tr.Count() {
		t.Errorf("%d of %d readings", n, tr.Count())
	}
}
