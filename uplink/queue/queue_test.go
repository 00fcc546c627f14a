package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
)

// start is when the tests' time begins.
var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// ticker is a clock that a test sets.
type ticker struct {
	clock.Clock
	mu  sync.Mutex
	now time.Time
}

func (c *ticker) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ticker) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func encodeGap(g telemetry.Gap) []byte {
	b, err := json.Marshal(g)
	if err != nil {
		panic(err)
	}
	return append([]byte("gap"), b...)
}

func decodeGap(payload []byte) (g telemetry.Gap, ok bool) {
	b, ok := bytes.CutPrefix(payload, []byte("gap"))
	return g, ok && json.Unmarshal(b, &g) == nil
}

func minute(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }

// options are small, so that little makes a segment and a few a full queue.
func options(c clock.Clock, seed byte) Options {
	var key [32]byte
	key[0] = seed
	return Options{
		Limit:       1 << 20,
		SegmentSize: 4096,
		MaxRecord:   2000,
		Clock:       c,
		Rand:        rand.NewChaCha8(key),
		EncodeGap:   encodeGap,
		Log:         slog.New(slog.DiscardHandler),
	}
}

const dir = "/state/queue"

func open(t *testing.T, d disk.FS, c clock.Clock, seed byte) (*Queue, Recovery) {
	t.Helper()
	q, r, err := Open(d, dir, options(c, seed))
	if err != nil {
		t.Fatal(err)
	}
	return q, r
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// drain peeks all that waits in a lane.
func drain(t *testing.T, q *Queue, lane Lane) (records []Record) {
	t.Helper()
	after := uint64(0)
	for {
		r, more, err := q.Peek(lane, after, nil)
		ok(t, err)
		if !more {
			return records
		}
		after = r.Seq
		records = append(records, r)
	}
}

func payloads(records []Record) (s []string) {
	for _, r := range records {
		s = append(s, string(r.Payload))
	}
	return s
}

func text(n int) string { return fmt.Sprintf("block %d %s", n, strings.Repeat("x", 300)) }

func TestWhatIsAppendedIsPeekedInOrder(t *testing.T) {
	q, r := open(t, faultdisk.New(), &ticker{now: start}, 1)
	if !r.Clean || r.NewEpoch || len(r.Gaps) != 0 {
		t.Errorf("a new queue recovers as %+v", r)
	}
	for n := 1; n <= 100; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, q.Append(Urgent, minute(5), []byte("alarm"), []byte("alarm gone")))
	records := drain(t, q, History)
	if len(records) != 100 {
		t.Fatalf("%d records", len(records))
	}
	for i, r := range records {
		if r.Seq != uint64(i+1) || string(r.Payload) != text(i+1) || !r.UpTo.Equal(minute(i+1)) || r.Epoch != q.Epoch() || r.Lane != History {
			t.Fatalf("record %d is %v", i+1, r)
		}
	}
	if got := payloads(drain(t, q, Urgent)); len(got) != 2 || got[0] != "alarm" || got[1] != "alarm gone" {
		t.Errorf("the urgent lane holds %q", got)
	}
	s := q.Status()
	if s.History.Waiting != 100 || s.Urgent.Waiting != 2 || s.History.Next != 101 || s.Bytes < 33000 {
		t.Errorf("status %+v", s)
	}
}

func TestDiscardedRecordsAreGoneAndTheOthersSurviveARestart(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 100; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	if len(drain(t, q, History)) != 100 {
		t.Fatal("not all there")
	}
	ok(t, q.Discard(History, 60))
	if got := q.Status().History; !got.Oldest.Equal(minute(60)) || got.Waiting != 40 {
		t.Errorf("status %+v", got)
	}
	epoch := q.Epoch()
	ok(t, q.Close())
	q, r := open(t, d, c, 2)
	if !r.Clean || r.NewEpoch || q.Epoch() != epoch || len(r.Gaps) != 0 {
		t.Errorf("after a clean stop: %+v", r)
	}
	records := drain(t, q, History)
	if len(records) != 40 || records[0].Seq != 61 || string(records[39].Payload) != text(100) {
		t.Errorf("%d records after the restart", len(records))
	}
	if err := q.Discard(History, 101); err == nil {
		t.Error("a record that is not there was discarded")
	}
}

func TestSteppingBackReadsTheSameAgain(t *testing.T) {
	q, _ := open(t, faultdisk.New(), &ticker{now: start}, 1)
	for n := 1; n <= 100; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		after := rng.Uint64N(101)
		r, more, err := q.Peek(History, after, nil)
		ok(t, err)
		if more != (after < 100) || more && string(r.Payload) != text(int(after)+1) {
			t.Fatalf("after %d comes %v, %v", after, r, more)
		}
	}
}

func TestChangedTellsOfTheNextDurableRecord(t *testing.T) {
	q, _ := open(t, faultdisk.New(), &ticker{now: start}, 1)
	changed := q.Changed()
	select {
	case <-changed:
		t.Fatal("changed before anything was appended")
	default:
	}
	ok(t, q.Append(Urgent, start, []byte("alarm")))
	<-changed
	select {
	case <-q.Changed():
		t.Fatal("changed again")
	default:
	}
}

func TestConcurrentAppendsShareAnFsync(t *testing.T) {
	d := faultdisk.New()
	q, _ := open(t, d, &ticker{now: start}, 1)
	syncs, hold := 0, make(chan struct{})
	first := true
	d.Intercept(func(o faultdisk.Operation) error {
		if o.Kind == faultdisk.Sync {
			syncs++
		}
		return nil
	})
	q.commit.Lock() // a slow disk: all others arrive meanwhile
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			if err := q.Append(History, minute(n), []byte(text(n)[:20])); err != nil {
				t.Error(err)
			}
		})
	}
	for first {
		q.mu.Lock()
		first = len(q.waiting) < 50
		q.mu.Unlock()
	}
	close(hold)
	q.commit.Unlock()
	wg.Wait()
	d.Intercept(nil)
	if got := len(drain(t, q, History)); got != 50 || syncs != 1 {
		t.Errorf("%d records took %d fsyncs", got, syncs)
	}
}

func TestTooLargePayloadsAreRefusedAndNothingElse(t *testing.T) {
	q, _ := open(t, faultdisk.New(), &ticker{now: start}, 1)
	if err := q.Append(History, start, []byte("small"), make([]byte, 2001)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	many := make([][]byte, 200)
	for i := range many {
		many[i] = make([]byte, 2000)
	}
	if err := q.Append(History, start, many...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	ok(t, q.Append(History, start, make([]byte, 2000), nil))
	if got := drain(t, q, History); len(got) != 2 || got[0].Seq != 1 || len(got[1].Payload) != 0 {
		t.Errorf("the lane holds %d records", len(got))
	}
}

func TestAClosedQueueSaysSo(t *testing.T) {
	q, _ := open(t, faultdisk.New(), &ticker{now: start}, 1)
	ok(t, q.Append(History, start, []byte("a")))
	ok(t, q.Close())
	_, _, peek := q.Peek(History, 0, nil)
	for what, err := range map[string]error{"append": q.Append(History, start, []byte("b")), "peek": peek, "discard": q.Discard(History, 1), "close": q.Close()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"EncodeGap": func(o *Options) { o.EncodeGap = nil },
		"segment":   func(o *Options) { o.SegmentSize = 100 },
		"limit":     func(o *Options) { o.Limit = 10000 },
		"record":    func(o *Options) { o.MaxRecord = 1 << 24 },
	} {
		o := options(&ticker{now: start}, 1)
		change(&o)
		if _, _, err := Open(faultdisk.New(), dir, o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// gaps are the gap records of the urgent lane.
func gapRecords(t *testing.T, q *Queue) (gaps []telemetry.Gap) {
	t.Helper()
	for _, r := range drain(t, q, Urgent) {
		if g, ok := decodeGap(r.Payload); ok {
			gaps = append(gaps, g)
		}
	}
	return gaps
}

func TestAFullQueueDropsItsOldestHistoryAndSaysSo(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	o := options(c, 1)
	o.Limit = 20 * 4096
	q, _, err := Open(d, dir, o)
	ok(t, err)
	ok(t, q.Append(Urgent, minute(1), []byte("alarm")))
	for n := 1; n <= 1000; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
		if used := d.Used(); used > o.Limit || q.Status().Bytes > o.Limit {
			t.Fatalf("after %d records the queue takes %d bytes and says %d", n, used, q.Status().Bytes)
		}
	}
	records, gaps := drain(t, q, History), gapRecords(t, q)
	if len(records) < 120 || len(records) > 200 || records[len(records)-1].Seq != 1000 {
		t.Fatalf("%d records, the last is %d", len(records), records[len(records)-1].Seq)
	}
	next, from := uint64(1), start
	for _, g := range gaps {
		if g.Reason != telemetry.QueueFull || g.FromSeq != next || g.From.After(from) || !g.To.Equal(minute(int(g.ToSeq))) {
			t.Fatalf("gap %+v, expected from %d, %v", g, next, from)
		}
		next, from = g.ToSeq+1, g.To
	}
	if next != records[0].Seq {
		t.Errorf("gaps name up to %d, but %d is the first record", next-1, records[0].Seq)
	}
	if got := q.Status().History; got.Dropped != next-1 || !got.Oldest.Equal(minute(int(next-1))) {
		t.Errorf("status %+v", got)
	}
	if got := payloads(drain(t, q, Urgent)); got[0] != "alarm" {
		t.Errorf("the alarm went with the history")
	}
}

func TestAFloodOfUrgentRecordsLeavesRoomForHistory(t *testing.T) {
	d := faultdisk.New()
	o := options(&ticker{now: start}, 1)
	o.Limit = 32 * 4096
	q, _, err := Open(d, dir, o)
	ok(t, err)
	for n := 1; n <= 100; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	for n := 1; n <= 1000; n++ {
		ok(t, q.Append(Urgent, minute(n), []byte(text(n))))
		if d.Used() > o.Limit {
			t.Fatalf("after %d records the queue takes %d bytes", n, d.Used())
		}
	}
	if got := len(drain(t, q, History)); got != 100 {
		t.Errorf("%d of 100 history records left", got)
	}
	urgent := drain(t, q, Urgent)
	if string(urgent[len(urgent)-1].Payload) != text(1000) {
		t.Error("the newest alarm is not there")
	}
	if s := q.Status().Urgent; s.Dropped == 0 || s.Bytes > o.Limit/4+4096 {
		t.Errorf("status %+v", s)
	}
	// What went is named by time: each drop's gap, or a later one around it.
	gaps := gapRecords(t, q)
	first := urgent[0]
	for n := 1; n <= 1000; n++ {
		kept := false
		for _, r := range urgent {
			kept = kept || string(r.Payload) == text(n)
		}
		for _, g := range gaps {
			kept = kept || !g.From.After(minute(n)) && !g.To.Before(minute(n))
		}
		if !kept {
			t.Fatalf("alarm %d is gone without a word; the first record left is %d", n, first.Seq)
		}
	}
}

func TestAGapHoldsEvenWhereTheClockWasSetBack(t *testing.T) {
	d := faultdisk.New()
	o := options(&ticker{now: start}, 1)
	o.Limit = 10 * 4096
	q, _, err := Open(d, dir, o)
	ok(t, err)
	stamp := func(n int) time.Time {
		if n > 30 {
			return minute(n - 600) // ten hours back
		}
		return minute(n)
	}
	for n := 1; n <= 400; n++ {
		ok(t, q.Append(History, stamp(n), []byte(text(n))))
	}
	gaps := gapRecords(t, q)
	for n := 1; n < int(drain(t, q, History)[0].Seq); n++ {
		named := false
		for _, g := range gaps {
			named = named || g.FromSeq <= uint64(n) && uint64(n) <= g.ToSeq && !g.From.After(stamp(n)) && !g.To.Before(stamp(n))
		}
		if !named {
			t.Fatalf("record %d, of %v, is not in %v", n, stamp(n), gaps)
		}
	}
}

func TestAFullDiskTakesNothingHalfAndWorksAgain(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 30; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	epoch := q.Epoch()
	// Something else takes all the room there is, and what a drop gives back.
	d.Intercept(func(o faultdisk.Operation) error {
		if o.Kind == faultdisk.Write {
			return syscall.ENOSPC
		}
		return nil
	})
	for range 5 {
		if err := q.Append(History, minute(31), []byte(text(31)), []byte(text(32))); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append on a full disk: %v", err)
		}
	}
	if q.Status().Err == nil {
		t.Error("status knows nothing of the full disk")
	}
	left := drain(t, q, History)
	if len(left) < 15 || string(left[len(left)-1].Payload) != text(30) {
		t.Fatalf("a full disk that dropping does not help took all but %d records", len(left))
	}
	d.Intercept(nil)
	ok(t, q.Append(History, minute(31), []byte(text(31)), []byte(text(32))))
	if q.Epoch() == epoch {
		t.Error("numbers that may have reached the disk are used again in the same epoch")
	}
	got := drain(t, q, History)
	if len(got) != len(left)+2 || string(got[len(got)-2].Payload) != text(31) || got[len(got)-1].Seq != 32 || q.Status().Err != nil {
		t.Errorf("after the disk had room again: %d records, status %+v", len(got), q.Status())
	}
	if gaps := gapRecords(t, q); len(gaps) != 1 || gaps[0].FromSeq != 1 || gaps[0].ToSeq+1 != got[0].Seq {
		t.Errorf("gaps %+v before record %d", gaps, got[0].Seq)
	}
}

func TestOnADiskThatFillsUpHistoryMakesRoomForNewRecords(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	d.SetSpace(15 * 4096)
	for n := 1; n <= 300; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, q.Append(Urgent, minute(300), []byte("alarm")))
	got, gaps := drain(t, q, History), gapRecords(t, q)
	if got[len(got)-1].Seq != 300 || len(got) < 80 {
		t.Errorf("%d records left, the last is %d", len(got), got[len(got)-1].Seq)
	}
	next := uint64(1)
	for _, g := range gaps {
		if g.FromSeq != next {
			t.Errorf("gap %+v, expected from %d", g, next)
		}
		next = g.ToSeq + 1
	}
	if next != got[0].Seq {
		t.Errorf("gaps name up to %d, but %d is the first record", next-1, got[0].Seq)
	}
}

func TestAFullDiskCanBeDrainedAndThenHasRoom(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 100; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, q.Close())
	d.SetSpace(d.Used())
	q, r := open(t, d, c, 2)
	if !r.Clean {
		t.Errorf("recovery %+v", r)
	}
	if got := len(drain(t, q, History)); got != 100 {
		t.Fatalf("%d records", got)
	}
	ok(t, q.Discard(History, 99))
	ok(t, q.Append(History, minute(101), []byte(text(101))))
	if got := drain(t, q, History); len(got) != 2 || q.Status().History.Dropped != 0 {
		t.Errorf("%d records, status %+v", len(got), q.Status())
	}
}

func TestAReadOnlyRemountStopsWritingButNotReading(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 30; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	d.SetReadOnly(true)
	if err := q.Append(History, minute(31), []byte(text(31))); !errors.Is(err, syscall.EROFS) {
		t.Errorf("append on a read-only disk: %v", err)
	}
	if got := len(drain(t, q, History)); got != 30 {
		t.Errorf("%d records", got)
	}
	// A restart does not help, and does not hurt.
	d.Restart()
	c.set(minute(40))
	q, r := open(t, d, c, 2)
	if r.Clean || len(r.Gaps) != 1 || q.Status().Err == nil {
		t.Errorf("recovery %+v, status %+v", r, q.Status())
	}
	if got := len(drain(t, q, History)); got != 30 {
		t.Errorf("%d records", got)
	}
	if err := q.Append(History, minute(41), []byte(text(31))); !errors.Is(err, syscall.EROFS) {
		t.Errorf("append on a read-only disk: %v", err)
	}
	d.SetReadOnly(false)
	ok(t, q.Append(History, minute(42), []byte(text(31))))
	if got := payloads(drain(t, q, History)); len(got) != 31 || got[30] != text(31) {
		t.Errorf("%d records", len(got))
	}
	if gaps := gapRecords(t, q); len(gaps) != 1 || !gaps[0].From.Equal(minute(30)) || !gaps[0].To.Equal(minute(40)) {
		t.Errorf("gaps %+v", gaps)
	}
}

func TestAFailedFsyncIsNeverForgotten(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	ok(t, q.Append(History, minute(1), []byte(text(1))))
	failed := false
	d.Intercept(func(o faultdisk.Operation) error {
		if o.Kind == faultdisk.Sync && strings.Contains(o.Name, "history") && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	if err := q.Append(History, minute(2), []byte(text(2))); !errors.Is(err, syscall.EIO) {
		t.Fatalf("append with a failing fsync: %v", err)
	}
	if got := len(drain(t, q, History)); got != 1 {
		t.Errorf("%d records are shown, one is safe", got)
	}
	ok(t, q.Append(History, minute(2), []byte("again")))
	ok(t, q.Append(History, minute(3), []byte("more")))
	for seed := range uint64(20) {
		after := d.AfterCut(seed)
		q, _ := open(t, after, c, 3)
		if got := payloads(drain(t, q, History)); len(got) != 3 || got[0] != text(1) || got[1] != "again" || got[2] != "more" {
			t.Fatalf("seed %d: %.20q", seed, got)
		}
	}
}

func TestAnUncleanStopIsAGapFromTheLastBlockToTheNextStart(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	expect := func(what string, r Recovery, from, to time.Time) {
		t.Helper()
		if len(r.Gaps) != 1 || r.Clean || !r.NewEpoch {
			t.Fatalf("%s: %+v", what, r)
		}
		if g := r.Gaps[0]; g.Reason != telemetry.UncleanStop || !g.From.Equal(from) || !g.To.Equal(to) || g.FromSeq != 0 {
			t.Errorf("%s: gap %+v, want %v to %v", what, g, from, to)
		}
	}
	epoch := q.Epoch()
	ok(t, q.Append(History, time.Time{}, []byte("catalogue")))
	d.Restart()
	c.set(minute(3))
	q, r := open(t, d, c, 2)
	expect("killed before the first block", r, start, minute(3))
	if q.Epoch() == epoch {
		t.Error("the epoch is the same after an unclean stop")
	}

	ok(t, q.Append(History, minute(4), []byte(text(1))))
	ok(t, q.Append(History, time.Time{}, []byte("another catalogue")))
	ok(t, q.Append(Urgent, minute(5), []byte("alarm")))
	d.Restart()
	c.set(minute(6))
	_, r = open(t, d, c, 3)
	expect("killed after a block", r, minute(4), minute(6))

	d.Restart()
	c.set(minute(9))
	q, r = open(t, d, c, 4)
	expect("killed with nothing said", r, minute(6), minute(9))

	ok(t, q.Append(History, minute(10), []byte(text(2))))
	ok(t, q.Close())
	c.set(minute(20))
	_, r = open(t, d, c, 5)
	if !r.Clean || len(r.Gaps) != 0 || r.NewEpoch {
		t.Errorf("after a clean stop: %+v", r)
	}
	d.Restart()
	c.set(minute(22))
	_, r = open(t, d, c, 6)
	expect("killed after a clean stop and nothing said", r, minute(20), minute(22))

	d.Restart()
	c.set(minute(-60)) // a clock without a battery
	q, r = open(t, d, c, 7)
	expect("killed, and the clock is not set", r, minute(22), minute(22))

	gaps := gapRecords(t, q)
	if len(gaps) != 5 {
		t.Errorf("%d gap records: %+v", len(gaps), gaps)
	}
}

func TestARecordOfATornAppendDoesNotVouchForItsTime(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	ok(t, q.Append(History, minute(1), []byte(text(1))))
	d.CutAt(d.Operations() + 1)
	_ = q.Append(History, minute(2), []byte(text(2)), []byte(text(3)))
	torn := 0
	for seed := range uint64(50) {
		c := &ticker{now: minute(9)}
		q, r := open(t, d.AfterCut(seed), c, 3)
		records := drain(t, q, History)
		want := minute(1)
		if len(records) == 3 {
			want = minute(2)
		}
		if len(records) == 2 && string(records[1].Payload) == text(2) {
			torn++
		}
		if got := r.Gaps[0].From; len(records) != 2 && !got.Equal(want) || got.After(minute(2)) || len(records) == 2 && string(records[1].Payload) == text(2) && !got.Equal(minute(1)) {
			t.Errorf("seed %d: with %d records the gap begins at %v", seed, len(records), got)
		}
	}
	if torn == 0 {
		t.Error("no seed tore the Append")
	}
}

func files(t *testing.T, d disk.FS) (names []string) {
	t.Helper()
	entries, err := d.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestASegmentDeletedByHandIsReportedAndTheRestIsSent(t *testing.T) {
	for _, running := range []bool{false, true} {
		d, c := faultdisk.New(), &ticker{now: start}
		q, _ := open(t, d, c, 1)
		for n := 1; n <= 100; n++ {
			ok(t, q.Append(History, minute(n), []byte(text(n))))
		}
		epoch := q.Epoch()
		if !running {
			ok(t, q.Close())
		}
		ok(t, d.Remove(filepath.Join(dir, segmentName(History, 12, 1))))
		if !running {
			var r Recovery
			q, r = open(t, d, c, 2)
			if !r.Clean || !r.NewEpoch || q.Epoch() == epoch || len(r.Gaps) != 1 {
				t.Errorf("recovery %+v", r)
			}
		}
		records := drain(t, q, History)
		if len(records) != 89 || records[10].Seq != 11 || records[11].Seq != 23 {
			t.Fatalf("%d records: %v", len(records), files(t, d))
		}
		drain(t, q, History) // a second reading does not report it again
		gaps := gapRecords(t, q)
		if len(gaps) != 1 || gaps[0].Reason != telemetry.Damaged || gaps[0].FromSeq != 12 || gaps[0].ToSeq != 22 || !gaps[0].From.Equal(minute(11)) || gaps[0].To.Before(minute(22)) || gaps[0].To.After(minute(23)) {
			t.Errorf("gaps %+v", gaps)
		}
		if got := q.Status().History.Damaged; got != 11 {
			t.Errorf("%d records are counted as damaged", got)
		}
	}
}

func TestTheSegmentBeingWrittenMayBeDeletedByHand(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 15; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, d.Remove(filepath.Join(dir, segmentName(History, 12, 1))))
	if got := len(drain(t, q, History)); got != 11 {
		t.Errorf("%d records are left", got)
	}
	ok(t, q.Append(History, minute(16), []byte(text(16))))
	if got := drain(t, q, History); len(got) != 12 || got[11].Seq != 16 {
		t.Errorf("%d records", len(got))
	}
	ok(t, q.Close())
	q, _ = open(t, d, c, 2)
	if got := drain(t, q, History); len(got) != 12 || got[11].Seq != 16 {
		t.Errorf("%d records after a restart", len(got))
	}
}

func TestTheLastSegmentDeletedByHandIsMissedAfterACleanStop(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 15; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, q.Close())
	ok(t, d.Remove(filepath.Join(dir, segmentName(History, 12, 1))))
	c.set(minute(20))
	q, r := open(t, d, c, 2)
	if r.Clean || !r.NewEpoch || len(r.Gaps) != 2 || r.Gaps[1].FromSeq != 12 || r.Gaps[1].ToSeq != 15 {
		t.Errorf("recovery %+v", r)
	}
	ok(t, q.Append(History, minute(21), []byte("next")))
	if got := drain(t, q, History); len(got) != 12 || got[11].Seq != 16 {
		t.Errorf("%d records, next is %d", len(got), got[len(got)-1].Seq)
	}
}

func TestACursorBeyondTheTailStartsANewEpochBehindIt(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 15; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	epoch := q.Epoch()
	drain(t, q, History)
	ok(t, q.Discard(History, 14))
	ok(t, q.Close())
	name := filepath.Join(dir, segmentName(History, 12, 1))
	b, err := disk.ReadFile(d, name)
	ok(t, err)
	f, err := d.OpenFile(name, 2, 0)
	ok(t, err)
	ok(t, f.Truncate(int64(len(b)/2))) // the disk lost the end
	ok(t, f.Close())
	q, r := open(t, d, c, 2)
	if r.Clean || !r.NewEpoch {
		t.Errorf("recovery %+v", r)
	}
	ok(t, q.Append(History, minute(21), []byte("next")))
	if got := drain(t, q, History); len(got) != 1 || got[0].Seq != 16 || got[0].Epoch == epoch {
		t.Errorf("records %v", got)
	}
	if g := r.Gaps[len(r.Gaps)-1]; g.FromSeq != 15 || g.ToSeq != 15 {
		t.Errorf("gap %+v", g)
	}
}

func TestALostHeadLosesNothing(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	for n := 1; n <= 50; n++ {
		ok(t, q.Append(History, minute(n), []byte(text(n))))
	}
	ok(t, q.Close())
	ok(t, d.Remove(filepath.Join(dir, headName)))
	c.set(minute(60))
	q, r := open(t, d, c, 2)
	if r.Clean || !r.NewEpoch || len(r.Gaps) != 1 || !r.Gaps[0].From.Equal(minute(50)) {
		t.Errorf("recovery %+v", r)
	}
	if got := len(drain(t, q, History)); got != 50 {
		t.Errorf("%d records", got)
	}
}

func TestForeignFilesInTheFolderAreLeftAlone(t *testing.T) {
	d, c := faultdisk.New(), &ticker{now: start}
	q, _ := open(t, d, c, 1)
	ok(t, q.Close())
	for _, name := range []string{"README", "history-1-2.log", "history-0000000000000000-0000000000000000.log", "other-0000000000000001-0000000000000000.log", "history-0000000000000002-0000000000000001-0000000000000000-0000000000000000.lost"} {
		ok(t, disk.WriteFile(d, filepath.Join(dir, name), []byte("x"), 0o600))
	}
	q, r := open(t, d, c, 2)
	if !r.Clean || len(r.Gaps) != 0 {
		t.Errorf("recovery %+v", r)
	}
	if got := len(files(t, d)); got != 6 {
		t.Errorf("files %q", files(t, d))
	}
	_, err := d.Stat(filepath.Join(dir, "README"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("README is gone")
	}
	ok(t, q.Close())
}

func TestNewEpochChangesTheNextRecordAndNoOther(t *testing.T) {
	q, _ := open(t, faultdisk.New(), &ticker{now: start}, 1)
	ok(t, q.Append(History, minute(1), []byte("a")))
	ok(t, q.NewEpoch())
	ok(t, q.Append(History, minute(2), []byte("b")))
	got := drain(t, q, History)
	if got[0].Epoch == got[1].Epoch || got[1].Epoch != q.Epoch() || got[1].Seq != 2 {
		t.Errorf("records %v", got)
	}
}
