package queue

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
)

// TestAFlippedBitLosesItsRecordAndNoOther flips a bit of every byte of a segment,
// one at a time, in a queue that runs and in one that is opened again, in a segment
// that is full and in the one being written. The record that it hits is lost and
// named in a gap; every other comes out as it went in. The opening holds no record,
// so that a bit of it loses nothing.
func TestAFlippedBitLosesItsRecordAndNoOther(t *testing.T) {
	const records, each = 17, 300
	stride := 1
	if testing.Short() {
		stride = 23
	}
	payload := func(n int) string { return fmt.Sprintf("record %2d %s", n, strings.Repeat("x", each)) }
	for _, base := range []uint64{1, 12} { // of a full segment, and of the last
		for _, running := range []bool{true, false} {
			name := filepath.Join(dir, segmentName(History, base, map[uint64]uint64{1: 0, 12: 1}[base]))
			for at := 0; ; at += stride {
				d, c := faultdisk.New(), &ticker{now: start}
				q, _ := open(t, d, c, 1)
				for n := 1; n <= records; n++ {
					ok(t, q.Append(History, minute(n), []byte(payload(n))))
				}
				if !running {
					ok(t, q.Close())
				}
				b, err := disk.ReadFile(d, name)
				ok(t, err)
				if at >= len(b) {
					if at < 5*each {
						t.Fatalf("only %d bytes were hit", at)
					}
					break
				}
				ok(t, d.Flip(name, 8*at+at%8))
				if !running {
					c.set(minute(records + 2))
					q, _ = open(t, d, c, 2)
				}
				expected := []uint64(nil)
				if at >= openingLen {
					expected = []uint64{base + uint64((at-openingLen)/(recordHead+len(payload(1))))}
				}
				judgeFlip(t, q, records, expected, payload, fmt.Sprintf("byte %d of segment %d, running %v", at, base, running))
				if t.Failed() {
					return
				}
			}
		}
	}
}

// judgeFlip drains the queue and looks that it lost those records, said so, and
// keeps on working.
func judgeFlip(t *testing.T, q *Queue, records int, lost []uint64, payload func(int) string, what string) {
	t.Helper()
	next := uint64(1)
	var missing []uint64
	for _, r := range drain(t, q, History) {
		for ; next < r.Seq; next++ {
			missing = append(missing, next)
		}
		if string(r.Payload) != payload(int(r.Seq)) || !r.UpTo.Equal(minute(int(r.Seq))) {
			t.Errorf("%s: record %d is %v", what, r.Seq, r)
		}
		next = r.Seq + 1
	}
	for ; next <= uint64(records); next++ {
		missing = append(missing, next)
	}
	if !slices.Equal(missing, lost) {
		t.Errorf("%s: %v are missing, expected %v", what, missing, lost)
	}
	var named []uint64
	for _, g := range gapRecords(t, q) {
		switch {
		case g.Reason == telemetry.UncleanStop:
			// A torn end cannot be told from a broken one.
		case g.Reason != telemetry.Damaged:
			t.Errorf("%s: gap %+v", what, g)
		default:
			for n := g.FromSeq; n <= g.ToSeq; n++ {
				named = append(named, n)
			}
			if g.From.After(minute(int(g.FromSeq))) || g.To.Before(minute(int(g.ToSeq))) {
				t.Errorf("%s: record %d is of %v, and the gap is %+v", what, g.FromSeq, minute(int(g.FromSeq)), g)
			}
		}
	}
	if !slices.Equal(named, lost) {
		t.Errorf("%s: gaps name %v, lost is %v", what, named, lost)
	}
	if got := q.Status().History.Damaged; got != uint64(len(lost)) {
		t.Errorf("%s: %d records are counted as damaged", what, got)
	}
	ok(t, q.Append(History, minute(records+1), []byte(payload(records+1))))
	after := drain(t, q, History)
	if last := after[len(after)-1]; last.Seq != uint64(records+1) || string(last.Payload) != payload(records+1) {
		t.Errorf("%s: what is appended next is read as %v", what, last)
	}
}

// TestALostLastAlarmIsNamedByATimeAtWhichItMayHaveBeen: nothing behind it tells how
// late it was, but it was not later than now.
func TestALostLastAlarmIsNamedByATimeAtWhichItMayHaveBeen(t *testing.T) {
	for _, alarms := range []int{1, 2} {
		d, c := faultdisk.New(), &ticker{now: start}
		q, _ := open(t, d, c, 1)
		for n := 1; n <= alarms; n++ {
			ok(t, q.Append(Urgent, minute(n), []byte("alarm")))
		}
		ok(t, q.Append(History, minute(9), []byte(text(1))))
		ok(t, q.Close())
		name := filepath.Join(dir, segmentName(Urgent, 1, 0))
		b, err := disk.ReadFile(d, name)
		ok(t, err)
		ok(t, d.Flip(name, 8*len(b)-1))
		c.set(minute(20))
		q, _ = open(t, d, c, 2)
		named := false
		for _, g := range gapRecords(t, q) {
			named = named || g.Reason == telemetry.Damaged && !g.From.After(minute(alarms)) && !g.To.Before(minute(alarms))
		}
		if !named {
			t.Errorf("with %d alarms: the last is of %v, and the gaps are %+v", alarms, minute(alarms), gapRecords(t, q))
		}
	}
}
