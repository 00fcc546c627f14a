package bench

import (
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/profile"
)

func TestNoBadDayOnAGenibusMakesAWrongValue(t *testing.T) {
	o, err := geniDays(t.Context(), 1, 40_000)
	if err != nil {
		t.Fatal(err)
	}
	if o.wrong != 0 {
		t.Errorf("%d wrong values", o.wrong)
	}
	if o.answered < 20_000 || o.failed < 2_000 || o.disturbed < 10_000 {
		t.Errorf("the days were not as bad as planned: %+v", o)
	}
}

func TestAWrongValueOnAGenibusWouldBeSeen(t *testing.T) {
	d := &geniDay{samples: map[byte][]time.Time{32: {time.Unix(1, 0), time.Unix(2, 0)}}}
	ids := []byte{37, 39, 34, 35}
	right := func(sample int) (b []byte) {
		for _, id := range ids {
			b = append(b, geniValue(32, id, sample))
		}
		return b
	}
	if !d.held(32, ids, right(1), time.Unix(2, 0)) || !d.held(32, ids, right(1), time.Unix(0, 0)) {
		t.Error("a right value is held to be wrong")
	}
	if d.held(32, ids, right(0), time.Unix(2, 0)) {
		t.Error("a value from before its time went unnoticed")
	}
	if d.held(32, []byte{39, 37, 34, 35}, right(1), time.Unix(2, 0)) {
		t.Error("another item's value went unnoticed")
	}
}

func TestGenibusPackingAndAllocations(t *testing.T) {
	p, _ := profile.Builtin().Lookup(geniFamily)
	for _, periods := range [][]time.Duration{nil, p.Periods()[:1]} {
		planned, best, values := geniPacking(p, 5*time.Millisecond, periods...)
		if share := best.Seconds() / planned.Seconds(); share < 0.95 || share > 1 {
			t.Errorf("%v: %d values in %v; the least is %v", periods, values, planned, best)
		}
	}
	allocs, err := geniAllocs(2000)
	if err != nil || allocs != 0 {
		t.Errorf("%v allocations a transaction, %v", allocs, err)
	}
	// 2 IDs: 12 + 4 + 4 bytes at 1.0417 ms, 5 ms and 3 ms.
	if got := geniIdeal(genibus.AppendGet(nil, genibus.Measured, 1, 2), 5*time.Millisecond); got.Round(time.Microsecond) != 28833*time.Microsecond {
		t.Errorf("the ideal is %v", got)
	}
}
