package stamp

import (
	"context"
	"testing"
	"time"

	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

// all is more than there is.
const all = 1 << 20

func mustDeliver(t *testing.T, w *world, q *Queue, lane queue.Lane, discard bool, want int) {
	t.Helper()
	if n, err := w.deliver(q, lane, all, discard); err != nil || n != want {
		t.Errorf("%d records of the %v lane, %v; want %d", n, lane, err, want)
	}
}

func mustMeasure(t *testing.T, w *world, q *Queue, b *board, n int) {
	t.Helper()
	for range n {
		if err := w.measure(q, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadingsOfThisBootAreCorrectedExactly(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	b := w.boot(truth, built)
	q := mustOpen(t, d, b)
	mustMeasure(t, w, q, b, 3)
	mustDeliver(t, w, q, queue.History, true, 0) // nobody has told the time
	b.up += 9 * 24 * time.Hour
	b.told()
	mustMeasure(t, w, q, b, 2)
	mustDeliver(t, w, q, queue.History, false, 5)
	b.off = 3 * time.Second // a correction between two sendings
	mustDeliver(t, w, q, queue.History, true, 5)
	w.report(t)
	for id, u := range w.unsure {
		if u != 0 {
			t.Errorf("reading %d is unsure by %v", id, u)
		}
	}
}

// TestTimeBySomebodyElseIsEnoughToSend: NTP has told it; what waits is dated when a
// session takes it.
func TestTimeBySomebodyElseIsEnoughToSend(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	b := w.boot(truth, built)
	q := mustOpen(t, d, b)
	mustMeasure(t, w, q, b, 2)
	b.known, b.off = true, 70*365*24*time.Hour // a lie, under which no session comes up
	mustMeasure(t, w, q, b, 2)
	b.off = 0
	mustMeasure(t, w, q, b, 2)
	mustDeliver(t, w, q, queue.History, true, 6)
	w.report(t)
}

// TestReadingsOfEarlierBootsAreBounded: two boots that nobody told the time, then one
// that was told. How far their times may be off is said, and holds.
func TestReadingsOfEarlierBootsAreBounded(t *testing.T) {
	for _, off := range []time.Duration{2 * time.Second, 20 * time.Minute, 30 * 24 * time.Hour} {
		w, d := newWorld(), faultdisk.New()
		floor := truth.Add(-3 * time.Hour)
		a := w.boot(truth, floor)
		q := mustOpen(t, d, a)
		mustMeasure(t, w, q, a, 20)
		b := w.boot(a.now().Add(off), floor)
		d = d.AfterCut(0)
		q = mustOpen(t, d, b)
		mustMeasure(t, w, q, b, 30)
		mustDeliver(t, w, q, queue.History, true, 0)
		c := w.boot(b.now().Add(time.Minute), floor)
		d = d.AfterCut(0)
		q = mustOpen(t, d, c)
		mustMeasure(t, w, q, c, 1)
		mustDeliver(t, w, q, queue.History, true, 0)
		c.told()
		mustDeliver(t, w, q, queue.History, true, 51)
		mustDeliver(t, w, q, queue.Urgent, true, 2)
		w.report(t)
		if u := w.unsure[51]; u != 0 {
			t.Errorf("this boot's reading is unsure by %v", u)
		}
		// As if the power had come straight back, and in order.
		if want := c.began.Add(-500 * time.Millisecond); !w.times[50][0].Equal(want) {
			t.Errorf("the last reading of the second boot is of %v, want %v", w.times[50][0], want)
		}
		for id := int64(2); id <= 51; id++ {
			if w.times[id][0].Before(w.times[id-1][0]) {
				t.Errorf("reading %d is before the one before it", id)
			}
		}
		// The gaps cover both power cuts, and the end of a is within the first.
		if len(w.gaps) != 2 || w.gaps[0].From.After(a.now()) || w.gaps[0].To.Before(b.began) || w.gaps[0].To.After(c.began) ||
			w.gaps[1].From.After(b.now()) || w.gaps[1].To.Before(c.began) || w.gaps[1].To.After(c.now()) {
			t.Errorf("gaps %v; the power was away from %v to %v and from %v to %v", w.gaps, a.now(), b.began, b.now(), c.began)
		}
	}
}

// TestADoubtfulAnswerIsSaidToBeOne: the time came over a link that takes seconds.
func TestADoubtfulAnswerIsSaidToBeOne(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	a := w.boot(truth, truth.Add(-time.Hour))
	q := mustOpen(t, d, a)
	mustMeasure(t, w, q, a, 1)
	b := w.boot(a.now().Add(time.Second), truth.Add(-time.Hour))
	q = mustOpen(t, d.AfterCut(0), b)
	mustMeasure(t, w, q, b, 1)
	b.doubt, b.off = 3*time.Second, 2900*time.Millisecond
	b.told()
	mustMeasure(t, w, q, b, 1)
	mustDeliver(t, w, q, queue.History, false, 3)
	b.doubt, b.off = 50*time.Millisecond, 0 // a better answer
	mustMeasure(t, w, q, b, 1)
	mustDeliver(t, w, q, queue.History, true, 4)
	w.report(t)
	if w.unsure[2] != 3*time.Second || w.unsure[3] != 3*time.Second || w.unsure[1] < 3*time.Second {
		t.Errorf("unsure by %v", w.unsure)
	}
	w.tolerance = telemetry.LateTolerance
	mustMeasure(t, w, q, b, 60) // and a minute later it has been followed
	mustDeliver(t, w, q, queue.History, true, 60)
	w.report(t)
	if u := w.unsure[w.readings]; u != 0 {
		t.Errorf("unsure by %v still", u)
	}
}

// TestAMachineThatKeepsItsClockIsBelievedWithinBounds: with a battery the earlier
// boot's own clock says when it was.
func TestAMachineThatKeepsItsClockIsBelievedWithinBounds(t *testing.T) {
	for _, tc := range []struct {
		wrong time.Duration // the machine's clock
		want  time.Duration // how far the readings are off
	}{
		{0, 0},
		{-5 * time.Second, -5 * time.Second},
		{30 * 24 * time.Hour, time.Hour}, // not later than the next boot allows
		{-2 * time.Hour, -2 * time.Hour},
	} {
		w, d := newWorld(), faultdisk.New()
		a := w.boot(truth, truth.Add(-3*time.Hour))
		a.wall = truth.Add(tc.wrong)
		q := mustOpen(t, d, a)
		mustMeasure(t, w, q, a, 10)
		b := w.boot(a.now().Add(time.Hour), truth.Add(-3*time.Hour))
		q = mustOpen(t, d.AfterCut(0), b)
		b.told()
		mustDeliver(t, w, q, queue.History, true, 10)
		w.report(t)
		if off := w.times[1][0].Sub(w.taken[1]); off != tc.want {
			t.Errorf("a clock that is %v wrong: readings are %v off, want %v", tc.wrong, off, tc.want)
		}
	}
}

// TestAnAlarmDoesNotWaitForEver: an event waits for the time, but only for a while,
// and is the same ever after.
func TestAnAlarmDoesNotWaitForEver(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	a := w.boot(truth.Add(-time.Hour), built)
	a.told()
	q := mustOpen(t, d, a)
	mustMeasure(t, w, q, a, 1)
	b := w.boot(truth, built)
	d = d.AfterCut(0)
	q = mustOpen(t, d, b)
	mustMeasure(t, w, q, b, 1)
	if err := w.alarm(q, b); err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, w, q, queue.Urgent, false, 0) // it waits; the gap of the power cut is ahead of it
	b.up += patience - time.Second
	mustDeliver(t, w, q, queue.Urgent, false, 0)
	b.up += 2 * time.Second
	mustDeliver(t, w, q, queue.Urgent, false, 2)
	if got := w.times[3]; len(got) != 1 || !got[0].IsZero() {
		t.Errorf("the alarm is of %v", got)
	}
	if g := w.gaps; len(g) != 1 || g[0].From.After(a.now()) || g[0].From.Before(a.began) || !g[0].To.IsZero() {
		t.Errorf("the gap is %v; where it begins is known", g)
	}
	if err := w.alarm(q, b); err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, w, q, queue.Urgent, false, 3)  // at once, this time
	mustDeliver(t, w, q, queue.History, false, 1) // what a left; b's own waits
	b.told()
	mustDeliver(t, w, q, queue.Urgent, false, 3) // sent again, not corrected
	mustDeliver(t, w, q, queue.History, true, 2)
	if err := w.alarm(q, b); err != nil {
		t.Fatal(err)
	}
	c := w.boot(b.now().Add(time.Minute), built)
	c.told()
	q = mustOpen(t, d.AfterCut(0), c)
	mustDeliver(t, w, q, queue.Urgent, true, 5) // and again after a power cut
	w.report(t)
	if got := w.times[5]; len(got) != 1 || !got[0].Equal(w.taken[5]) {
		t.Errorf("an alarm of when the time was known is of %v", got)
	}
}

// TestCorrectionsNeverTurnTimeBack: a little forward, a little back, and a crystal
// that is a second off after each night; readings keep their order, and follow.
func TestCorrectionsNeverTurnTimeBack(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	b := w.boot(truth, built)
	b.told()
	q := mustOpen(t, d, b)
	for _, off := range []time.Duration{0, 3 * time.Millisecond, -4 * time.Millisecond, time.Second, 0, -2 * time.Second, -9 * time.Second, 5 * time.Second} {
		b.off = off
		first := w.readings + 1
		mustMeasure(t, w, q, b, 400)
		if _, err := w.deliver(q, queue.History, all, true); err != nil {
			t.Fatal(err)
		}
		for id := max(first, 2); id <= w.readings; id++ {
			step := w.times[id][0].Sub(w.times[id-1][0])
			if step <= 0 {
				t.Fatalf("after a correction to %v, reading %d is %v after the one before", off, id, step)
			}
		}
		if is := w.times[w.readings][0].Sub(w.taken[w.readings]); (is - off).Abs() > deadband*time.Millisecond {
			t.Errorf("after a correction to %v, readings are %v off", off, is)
		}
	}
	// A lie is another matter: back at once.
	b.off = -3 * time.Hour
	mustMeasure(t, w, q, b, 1)
	if _, err := w.deliver(q, queue.History, all, true); err != nil {
		t.Fatal(err)
	}
	if is := w.times[w.readings][0].Sub(w.taken[w.readings]); is != b.off {
		t.Errorf("three hours of error were followed to %v", is)
	}
	for _, s := range w.wrong {
		t.Error(s)
	}
}

func TestAProcessThatIsStartedAgainGoesOnInItsBoot(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	b := w.boot(truth, built)
	q := mustOpen(t, d, b)
	mustMeasure(t, w, q, b, 2)
	if q.Again() {
		t.Error("there was no run before the first")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	b.up += time.Minute
	q = mustOpen(t, d, b)
	mustMeasure(t, w, q, b, 2)
	d.Restart() // killed
	b.up += time.Minute
	q, found, err := open(d, b, 7)
	if err != nil || len(found.Gaps) != 1 || !q.Again() {
		t.Fatal(found, err, q.Again())
	}
	mustMeasure(t, w, q, b, 2)
	b.told()
	mustMeasure(t, w, q, b, 1)
	mustDeliver(t, w, q, queue.History, true, 7)
	mustDeliver(t, w, q, queue.Urgent, true, 1)
	w.report(t)
	for id, u := range w.unsure {
		if u != 0 {
			t.Errorf("reading %d is unsure by %v", id, u)
		}
	}
	g := w.gaps[0]
	if from, to := w.taken[4].Add(500*time.Millisecond), w.taken[5].Add(-500*time.Millisecond); g.From.After(from) || g.To.Before(to) || g.To.Sub(g.From) > 2*time.Minute {
		t.Errorf("the gap is from %v to %v, the kill from %v to %v", g.From, g.To, from, to)
	}
	d.Restart()
	if q = mustOpen(t, d, w.boot(b.now().Add(time.Hour), built)); q.Again() {
		t.Error("another boot is taken for the same")
	}
}

// TestAForgottenBootIsDatedAllTheSame: the table is lost; what waits is still
// delivered, says that its times are worth little, and stays what it was.
func TestAForgottenBootIsDatedAllTheSame(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	a := w.boot(truth, built)
	q := mustOpen(t, d, a)
	mustMeasure(t, w, q, a, 3)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(dir + "/" + fileName); err != nil {
		t.Fatal(err)
	}
	b := w.boot(a.now().Add(time.Hour), built)
	q = mustOpen(t, d, b)
	mustDeliver(t, w, q, queue.History, false, 0)
	b.told()
	mustDeliver(t, w, q, queue.History, false, 3)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = mustOpen(t, d, w.boot(b.now().Add(time.Hour), built))
	mustDeliver(t, w, q, queue.History, true, 3)
	w.report(t)
	if w.unsure[1] != forgotten {
		t.Errorf("unsure by %v", w.unsure[1])
	}
}

func TestTheQueueShowsTimesThatPeopleKnow(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	a := w.boot(truth, built)
	q := mustOpen(t, d, a)
	mustMeasure(t, w, q, a, 3)
	if got := q.Shown(ownScale{q}.Now()); !got.Equal(built.Add(3 * time.Second)) {
		t.Errorf("before the time is known, now is %v", got)
	}
	a.told()
	if _, err := w.deliver(q, queue.History, 1, true); err != nil {
		t.Fatal(err)
	}
	if got := q.Status().History.Oldest; got.Before(truth) || got.After(a.now()) {
		t.Errorf("the oldest is of %v", got)
	}
	b := w.boot(a.now().Add(time.Minute), built)
	b.told()
	_, found, err := open(d.AfterCut(0), b, 9)
	if err != nil || len(found.Gaps) != 1 {
		t.Fatal(found, err)
	}
	if g := found.Gaps[0]; g.Reason != telemetry.UncleanStop || g.From.After(a.now()) || g.From.Before(truth) || g.To.Before(b.began) || g.To.After(b.now()) {
		t.Errorf("the gap is shown as %v", g)
	}
}

// TestAQueueOfAFirmwareThatKnewNoBootsGoesOn: its records have true times, and so has
// the beginning of the gap that it left.
func TestAQueueOfAFirmwareThatKnewNoBootsGoesOn(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	before := w.boot(truth.Add(-time.Hour), built)
	old, _, err := queue.Open(d, dir, queue.Options{Limit: 1 << 20, SegmentSize: 4096, Clock: plain{truth}, EncodeGap: wire.GapPayload})
	if err != nil {
		t.Fatal(err)
	}
	e := telemetry.Event{Time: truth, Pump: "p", Point: "alarm_code", Raw: 1}
	w.taken[1], w.acked[1], w.readings = truth, true, 1
	if err := old.Append(queue.Urgent, truth, new(wire.Packer).AppendPayload(nil, wire.KindEvent, wire.AppendEvent(nil, e))); err != nil {
		t.Fatal(err)
	}
	if err := old.Append(queue.History, truth.Add(time.Minute), new(wire.Packer).AppendPayload(nil, wire.KindCatalogue, speed.Body)); err != nil {
		t.Fatal(err)
	}
	b := w.boot(before.began.Add(2*time.Hour), built)
	q := mustOpen(t, d.AfterCut(0), b)
	mustMeasure(t, w, q, b, 1)
	b.told()
	mustDeliver(t, w, q, queue.Urgent, true, 2)
	mustDeliver(t, w, q, queue.History, true, 2)
	w.report(t)
	if g := w.gaps; len(g) != 1 || !g[0].From.Equal(truth.Add(time.Minute)) || g[0].To.Before(b.began) || g[0].To.After(b.now()) {
		t.Errorf("the gap is %v", g)
	}
}

// plain is a clock that stands still.
type plain struct{ now time.Time }

func (p plain) Now() time.Time                                   { return p.now }
func (p plain) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
