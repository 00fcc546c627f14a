package lab

import (
	"testing"
	"time"

	"penstock/internal/telemetry"
)

// inPassing is an answer a moment before another, with another value.
func inPassing(s Served, raw int64) Served {
	s.Asked, s.Sampled, s.Raw = s.Asked.Add(-time.Millisecond), s.Sampled.Add(-time.Millisecond), raw
	return s
}

// TestTheJudgeIsNotBlind plants each kind of mistake in a faultless record and
// demands that the judge sees it.
func TestTheJudgeIsNotBlind(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := SeriesKey{"bus1-1", "speed"}
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Second) }
	record := func() (served []Served, stored []Stored) {
		for i := range 10 {
			served = append(served, Served{Key: key, Asked: at(i).Add(3 * time.Millisecond), Sampled: at(i).Add(9 * time.Millisecond), Raw: int64(100 + i)})
			stored = append(stored, Stored{Key: key, Time: at(i), Raw: int64(100 + i)})
		}
		return served, stored
	}
	gap := func(from, to int) []telemetry.Gap { return []telemetry.Gap{{From: at(from), To: at(to)}} }
	for _, tc := range []struct {
		name                               string
		change                             func(served []Served, stored []Stored) ([]Served, []Stored, []telemetry.Gap)
		wrong, missing, discarded, excused int
	}{
		{name: "nothing", change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) { return a, b, nil }},
		{name: "another value", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[4].Raw++
			return a, b, nil
		}},
		{name: "the previous value", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[4].Raw = b[3].Raw
			return a, b, nil
		}},
		{name: "not available stored as a value", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[4].Quality = telemetry.NotAvailable
			return a, b, nil
		}},
		{name: "a value older than its time", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[4].Sampled = at(4).Add(-50 * time.Millisecond)
			return a, b, nil
		}},
		{name: "a reading that nobody served", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a[:9], b, nil
		}},
		{name: "a reading twice", wrong: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, append(b, b[4]), nil
		}},
		{name: "a reading lost in the middle", missing: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, append(b[:4:4], b[5:]...), nil
		}},
		{name: "read for the gateway's own sake", change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[4].Aside = true
			return a, append(b[:4:4], b[5:]...), nil
		}},
		{name: "the last readings lost", missing: 2, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, b[:8], nil
		}},
		{name: "a series lost", missing: 10, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, nil, nil
		}},
		{name: "lost, but named in a gap", excused: 2, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, b[:8], gap(8, 10)
		}},
		{name: "lost beside a gap", missing: 1, excused: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			return a, b[:8], gap(9, 10)
		}},
		{name: "discarded and said so", discarded: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[4].Quality = telemetry.Missing
			return a, b, nil
		}},
		{name: "answered again after a retry", change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			again := a[4]
			again.Asked, again.Sampled, again.Raw, again.Repeated = at(4).Add(300*time.Millisecond), at(4).Add(310*time.Millisecond), 777, true
			b[4].Raw = 777
			return append(a[:5:5], append([]Served{again}, a[5:]...)...), b, nil
		}},
		{name: "given up, and asked the same later", discarded: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[4].Quality, a[5].Repeated = telemetry.Missing, true
			return a, b, nil
		}},
		{name: "answered too late, for a slot that was not promised", discarded: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[4].Late = true
			return a, append(b[:4:4], b[5:]...), nil
		}},
		{name: "given up unheard, and the next slot late", change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[4].Quality, b[4].Time = telemetry.Missing, at(5).Add(-400*time.Millisecond)
			return append(a[:4:4], a[5:]...), b, nil
		}},
		{name: "heard at the third attempt", change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[4].Asked, a[4].Sampled = at(4).Add(800*time.Millisecond), at(4).Add(806*time.Millisecond)
			return a, b, nil
		}},
		{name: "stored under a time at which nobody asked", wrong: 1, missing: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			b[5].Time = at(4).Add(-600 * time.Millisecond)
			return a, b, nil
		}},
		{name: "given up without a word, and asked the same later", missing: 1, change: func(a []Served, b []Stored) ([]Served, []Stored, []telemetry.Gap) {
			a[5].Repeated = true
			return a, append(b[:4:4], b[5:]...), nil
		}},
	} {
		served, stored := record()
		served, stored, gaps := tc.change(served, stored)
		v := Judge(served, stored, gaps, nil)
		if v.Wrong != tc.wrong || v.Missing != tc.missing || v.Discarded != tc.discarded || v.Excused != tc.excused {
			t.Errorf("%s: %+v, want wrong %d missing %d discarded %d excused %d", tc.name, v, tc.wrong, tc.missing, tc.discarded, tc.excused)
		}
	}
}

// TestAnAnswerInPassingIsNoWrongValue: two frames of one slot carry the same
// register, and the reading is from the second.
func TestAnAnswerInPassingIsNoWrongValue(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := SeriesKey{"bus1-1", "speed"}
	periods := map[SeriesKey]time.Duration{key: time.Second}
	var served []Served
	var stored []Stored
	for i := range 10 {
		at := t0.Add(time.Duration(i) * time.Second)
		right := Served{Key: key, Asked: at.Add(3 * time.Millisecond), Sampled: at.Add(9 * time.Millisecond), Raw: int64(100 + i)}
		if i == 4 {
			served = append(served, inPassing(right, 7))
		}
		served = append(served, right)
		stored = append(stored, Stored{Key: key, Time: at, Raw: int64(100 + i)})
	}
	if v := Judge(served, stored, nil, periods); v.Wrong+v.Missing != 0 || v.Served != 10 {
		t.Errorf("%+v", v)
	}
	stored[4].Raw++
	if v := Judge(served, stored, nil, periods); v.Wrong != 1 {
		t.Errorf("a value that neither frame carried: %+v", v)
	}
}

// TestValuesReadOverAreNotDue: a point of 10 s in a frame that is read every
// second is served ten times a slot and stored once.
func TestValuesReadOverAreNotDue(t *testing.T) {
	const period = 10 * time.Second
	t0 := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	key := SeriesKey{"bus1-1", "energy"}
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Second) }
	var served []Served
	var stored []Stored
	for i := 3; i < 60; i++ {
		served = append(served, Served{Key: key, Asked: at(i).Add(3 * time.Millisecond), Sampled: at(i).Add(9 * time.Millisecond), Raw: int64(i)})
	}
	for _, i := range []int{3, 10, 20, 30, 40, 50} { // the first slot was read when the gateway came up
		stored = append(stored, Stored{Key: key, Time: at(i), Raw: int64(i)})
	}
	periods := map[SeriesKey]time.Duration{key: period}
	if v := Judge(served, stored, nil, periods); v.Wrong+v.Missing+v.Discarded+v.Excused != 0 || v.Served != 6 || v.Stored != 6 {
		t.Errorf("a faultless record: %+v", v)
	}
	for lost := range stored {
		rest := append(append([]Stored{}, stored[:lost]...), stored[lost+1:]...)
		if v := Judge(served, rest, nil, periods); v.Missing != 1 || v.Wrong != 0 {
			t.Errorf("reading %d lost: %+v", lost, v)
		}
	}
	if v := Judge(served[:6], stored[:1], nil, periods); v.Missing != 0 {
		t.Errorf("a run shorter than a slot: %+v", v)
	}
	if v := Judge(served, nil, nil, periods); v.Missing != 6 {
		t.Errorf("all lost: %+v", v)
	}
	// A gateway that was killed and comes back reads the same slot again.
	again := append(append([]Stored{}, stored...), Stored{Key: key, Time: at(23).Add(-50 * time.Millisecond), Raw: 23})
	if v := Judge(served, again, nil, periods); v.Wrong != 0 || v.Missing != 0 {
		t.Errorf("a slot read twice: %+v", v)
	}
	// Started twice within a few seconds, a slot of its own each time: nothing tells
	// where the slots begin.
	short := append(served[:3:3], served[8:17]...) // 3 to 5 s, 11 to 19 s
	two := []Stored{{Key: key, Time: at(3), Raw: 3}, {Key: key, Time: at(11), Raw: 11}}
	if v := Judge(short, two, nil, periods); v.Wrong != 0 || v.Missing != 0 {
		t.Errorf("two starts in a short run: %+v", v)
	}
	if v := Judge(short, two[:1], nil, periods); v.Missing != 1 {
		t.Errorf("what was read after the second start is lost: %+v", v)
	}
	// After a start the slots stand some milliseconds beside those of before.
	beside := append([]Stored{}, stored...)
	for i := 4; i < len(beside); i++ {
		beside[i].Time = beside[i].Time.Add(-8 * time.Millisecond)
	}
	if v := Judge(served, beside, nil, periods); v.Wrong != 0 || v.Missing != 0 {
		t.Errorf("another grid after a start: %+v", v)
	}
	other := append([]Stored{}, stored...)
	other[2].Raw = 21 // in passing, a second later
	if v := Judge(served, other, nil, periods); v.Wrong != 1 {
		t.Errorf("the value of another second: %+v", v)
	}
}
