package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
)

// TestClockJumpsLoseNothing sets the clock back and forth by minutes or by years,
// before Append, Discard and Open, and kills and stops the queue in between. Every
// record arrives once and in order, or a gap names its number and a time around its
// own; a gap never ends before it begins.
func TestClockJumpsLoseNothing(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		d, c := faultdisk.New(), &ticker{now: start}
		o := func() Options { x := options(c, byte(seed)+byte(r.IntN(100))); x.Limit = 12 * 4096; return x }
		jump := func() {
			far := []time.Duration{time.Minute, time.Hour, 20 * 365 * 24 * time.Hour}[r.IntN(3)]
			c.set(c.Now().Add(time.Duration(r.Int64N(int64(2*far))) - far).Truncate(time.Millisecond))
		}
		q, _, err := Open(d, dir, o())
		ok(t, err)
		stamps, arrived := map[int]time.Time{}, map[int]int{}
		var gaps []telemetry.Gap
		n, last := 0, 0
		deliver := func(most int) {
			for lane := range []int{0, 1} {
				lane := Lane(lane + 1)
				after := uint64(0)
				for range most {
					rec, more, err := q.Peek(lane, after, nil)
					ok(t, err)
					if !more {
						break
					}
					after = rec.Seq
					if g, is := decodeGap(rec.Payload); is {
						gaps = append(gaps, g)
						continue
					}
					var number int
					if _, err := fmt.Sscanf(string(rec.Payload), "block %d", &number); err != nil {
						t.Fatal(err)
					}
					if arrived[number]++; arrived[number] == 1 {
						if number < last {
							t.Fatalf("seed %d: %d comes after %d", seed, number, last)
						}
						last = number
					}
				}
				if after > 0 {
					ok(t, q.Discard(lane, after))
				}
			}
		}
		for range 150 {
			if r.IntN(3) == 0 {
				jump()
			}
			switch r.IntN(12) {
			case 0:
				deliver(r.IntN(20))
			case 1:
				ok(t, q.Close())
				jump()
				q, _, err = Open(d, dir, o())
				ok(t, err)
			case 2:
				d.Restart()
				jump()
				q, _, err = Open(d, dir, o())
				ok(t, err)
			default:
				n++
				c.set(c.Now().Add(time.Minute))
				stamps[n] = c.Now()
				ok(t, q.Append(History, c.Now(), []byte(text(n))))
			}
		}
		deliver(1 << 20)
		for _, g := range gaps {
			if g.To.Before(g.From) {
				t.Errorf("seed %d: a gap ends before it begins: %+v", seed, g)
			}
		}
		for n, at := range stamps {
			if arrived[n] > 0 {
				continue
			}
			named := false
			for _, g := range gaps {
				named = named || g.Reason == telemetry.QueueFull && g.FromSeq <= uint64(n) && uint64(n) <= g.ToSeq && !g.From.After(at) && !g.To.Before(at)
			}
			if !named {
				t.Fatalf("seed %d: record %d of %v is gone without a word: %+v", seed, n, at, gaps)
			}
		}
	}
}

// TestADiskThatIsReadOnlyForAWhile is remounted under a running queue, and back.
// What Append refused meanwhile may be appended again; what was there is there.
func TestADiskThatIsReadOnlyForAWhile(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 30; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	for round := range 3 {
		c.set(minute(40 + 10*round))
		d.SetReadOnly(true)
		for _, lane := range []Lane{History, Urgent} {
			if err := q.Append(lane, c.Now(), []byte("refused")); !errors.Is(err, syscall.EROFS) {
				t.Errorf("append on a read-only disk: %v", err)
			}
		}
		if q.Status().Err == nil {
			t.Error("status knows nothing of the read-only disk")
		}
		first := drain(t, q, History)[0].Seq
		if err := q.Discard(History, first); err != nil && !errors.Is(err, syscall.EROFS) {
			t.Error(err)
		}
		if got := drain(t, q, History); got[0].Seq != first+1 {
			t.Errorf("the cursor did not move on a read-only disk")
		}
		d.SetReadOnly(false)
		ok(t, q.Append(History, c.Now(), []byte(text(31+round))))
		if err := q.Status().Err; err != nil {
			t.Errorf("the disk is writable again, and status says %v", err)
		}
	}
	var want []string
	for n := 4; n <= 33; n++ {
		want = append(want, text(n))
	}
	for seed := range uint64(20) { // and all of it is safe
		after, _ := open(t, d.AfterCut(seed), c, 2)
		got := payloads(drain(t, after, History))
		if len(got) > 33 || len(got) < 30 || strings.Join(got[len(got)-30:], "|") != strings.Join(want, "|") {
			t.Fatalf("seed %d: %d records, %.10q first", seed, len(got), got[0])
		}
	}
	if gaps := gapRecords(t, q); len(gaps) != 0 {
		t.Errorf("nothing was lost, and yet %+v", gaps)
	}
}

// TestMemoryIsTheSameWhateverTheBacklog fills queues on a real disk and drains
// them: what the heap holds meanwhile does not grow with what waits.
func TestMemoryIsTheSameWhateverTheBacklog(t *testing.T) {
	held := func(records int) (most int64) {
		live := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // pools let go only then
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		o := options(&ticker{now: start}, 1)
		o.Limit, o.SegmentSize = 1<<30, 256<<10
		folder := t.TempDir()
		payload := [][]byte{}
		for range 1000 {
			payload = append(payload, []byte(strings.Repeat("x", 300)))
		}
		before := live()
		q, _, err := Open(disk.OS, folder, o)
		ok(t, err)
		for n := range records / len(payload) {
			ok(t, q.Append(History, minute(n), payload...))
		}
		most = live() - before
		ok(t, q.Close())
		before = live()
		q, _, err = Open(disk.OS, folder, o)
		ok(t, err)
		if got := int(q.Status().History.Waiting); got != records {
			t.Fatalf("%d of %d records wait", got, records)
		}
		buf := make([]byte, 0, 400)
		for after := uint64(0); ; {
			rec, more, err := q.Peek(History, after, buf)
			ok(t, err)
			if !more {
				break
			}
			if after = rec.Seq; after%(uint64(records)/8) == 0 {
				most = max(most, live()-before)
				ok(t, q.Discard(History, after))
			}
		}
		ok(t, q.Close())
		return most
	}
	small, large := 20_000, 400_000 // 6 MB and 130 MB
	if testing.Short() {
		large = 100_000
	}
	little, much := held(small), held(large)
	t.Logf("with a backlog of %d records the queue holds %d KB, of %d records %d KB", small, little>>10, large, much>>10)
	// A segment of 256 KB takes an entry of some 100 bytes.
	if most := little + 256<<10; much > most {
		t.Errorf("the heap grows with the backlog: %d bytes at %d records, %d at %d", little, small, much, large)
	}
}
