package stamp

import (
	"errors"
	"testing"
	"time"

	"penstock/internal/disk/faultdisk"
	"penstock/uplink/queue"
)

// life is what a gateway goes through in four boots: two that nobody tells the time,
// one that learns it while it sends, one whose alarm goes out before it does. It
// returns the boot in which the power went, if it did.
func life(d *faultdisk.Disk, w *world) (last *board, ok bool) {
	w.power = func() bool {
		_, err := d.Stat("/")
		return !errors.Is(err, faultdisk.ErrPowerCut)
	}
	defer func() { w.power = nil }()
	var q *Queue
	boot := func(began time.Time) bool {
		last = w.boot(began, built)
		var err error
		if q, _, err = open(d, last, byte(w.boots)); err != nil {
			return false
		}
		return q.Status().Err == nil
	}
	measure := func(n int) bool {
		for range n {
			if w.measure(q, last) != nil {
				return false
			}
		}
		return true
	}
	send := func(discard bool) bool {
		for _, lane := range []queue.Lane{queue.Urgent, queue.History} {
			if _, err := w.deliver(q, lane, all, discard); err != nil {
				return false
			}
		}
		return true
	}
	closed := func() bool { return q.Close() == nil }
	next := func() time.Time { return last.now().Add(17 * time.Minute) }

	ok = boot(truth) && measure(3) && w.alarm(q, last) == nil && send(false) && closed() &&
		boot(next()) && measure(3) && send(false) && closed() &&
		boot(next()) && measure(2) && told(last) && send(false) && measure(2) && send(true) && measure(1) && closed() &&
		boot(next()) && measure(2) && w.alarm(q, last) == nil && send(false) && wait(last) && send(false) && told(last) && measure(1) &&
		w.alarm(q, last) == nil && send(false) && closed()
	return last, ok
}

func told(b *board) bool { b.told(); return true }

func wait(b *board) bool { b.up += patience; return true }

// TestThePowerMayGoAtEveryWrite: whatever was promised arrives once, near the truth
// as it says, and what was sent before the power went is the same when it is sent
// again.
func TestThePowerMayGoAtEveryWrite(t *testing.T) {
	whole := faultdisk.New()
	w := newWorld()
	if _, ok := life(whole, w); !ok {
		t.Fatal("the life did not go to its end")
	}
	w.report(t)
	ops, seeds := whole.Operations(), uint64(8)
	if ops < 60 {
		t.Fatalf("the life has %d operations only", ops)
	}
	if testing.Short() {
		seeds = 3
	}
	lost, duplicated := 0, 0
	for n := 1; n <= ops; n++ {
		d, before := faultdisk.New(), newWorld()
		d.CutAt(n)
		last, _ := life(d, before)
		for seed := range seeds {
			w := before.fork()
			b := w.boot(last.now().Add(3*time.Minute), built)
			after := d.AfterCut(seed)
			q, _, err := open(after, b, 200)
			if err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			if err := w.measure(q, b); err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			b.told()
			for _, lane := range []queue.Lane{queue.Urgent, queue.History} {
				if _, err := w.deliver(q, lane, all, true); err != nil {
					t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
				}
			}
			if s := q.Status(); s.Urgent.Waiting+s.History.Waiting != 0 {
				t.Fatalf("cut at %d, seed %d: %+v is left", n, seed, s)
			}
			w.check()
			if len(w.wrong) > 0 {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, w.wrong)
			}
			for id, acked := range w.acked {
				if acked && len(w.times[id]) == 0 {
					lost++
				}
				if len(w.times[id]) > 1 {
					duplicated++
				}
			}
		}
	}
	t.Logf("%d cuts, %d recoveries each: lost %d, duplicated %d", ops, seeds, lost, duplicated)
}
