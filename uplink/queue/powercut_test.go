package queue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
)

// key names a record for ever.
type key struct {
	epoch [8]byte
	lane  Lane
	seq   uint64
}

// world is what must hold whatever happens to a disk: what the queue was given
// and promised, and what the store got from it, over all runs.
type world struct {
	clock *ticker

	tried            [2][]string       // by lane, payloads in the order of Append
	stamps           map[string]int    // the minute that a history payload vouches for
	minutes          map[string]int    // the minute at which a payload was appended
	numbers          map[string]uint64 // the number a history payload has, or should have had
	acked            map[string]bool   // Append returned without an error
	started          int               // the minute at which the run began
	opening          bool              // Open has been called and has not returned
	running          bool              // Open has returned, and Close has not
	closing          bool              // Close has been called: the run has nothing open
	store            map[key]string    // what arrived
	contents         map[string]key    // the same, by content
	gaps             []telemetry.Gap   // gap records that arrived
	lost, duplicated int               // promised and in no gap; stored under two names
	wrong            string            // the first thing found wrong
	covered          map[key]struct{}  // gap records seen, once each
	seed             byte              // of the next epoch
}

func newWorld() *world {
	w := &world{stamps: map[string]int{}, minutes: map[string]int{}, numbers: map[string]uint64{}, acked: map[string]bool{}, store: map[key]string{}, contents: map[string]key{}, covered: map[key]struct{}{}}
	w.clock = &ticker{now: start}
	return w
}

// fork is the world as it is now, for one of its futures.
func (w *world) fork() *world {
	f := *w
	f.tried = [2][]string{slices.Clone(w.tried[0]), slices.Clone(w.tried[1])}
	f.stamps, f.minutes = maps.Clone(w.stamps), maps.Clone(w.minutes)
	f.numbers, f.acked = maps.Clone(w.numbers), maps.Clone(w.acked)
	f.store, f.contents = maps.Clone(w.store), maps.Clone(w.contents)
	f.covered, f.gaps = maps.Clone(w.covered), slices.Clone(w.gaps)
	f.clock = &ticker{now: w.clock.now}
	return &f
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

func (w *world) minute() int { return int(w.clock.now.Sub(start) / time.Minute) }

func (w *world) tick() { w.clock.now = w.clock.now.Add(time.Minute) }

func (w *world) open(d *faultdisk.Disk) (*Queue, Recovery, bool) {
	w.seed++
	o := options(w.clock, w.seed)
	o.Limit = 12 * 4096
	began := w.minute()
	w.opening = true
	q, r, err := Open(d, dir, o)
	if err != nil || q.Status().Err != nil {
		return q, r, false // a run that could not even say that it began
	}
	w.running, w.opening, w.closing, w.started = true, false, false, began
	return q, r, true
}

// append appends payloads of a size, at a new minute; stamped tells whether they
// vouch for it.
func (w *world) append(q *Queue, lane Lane, stamped bool, sizes ...int) bool {
	w.tick()
	upTo := time.Time{}
	var payloads [][]byte
	next := q.Status().History.Next
	for i, size := range sizes {
		p := fmt.Sprintf("%s %d at %d ", lane, len(w.tried[lane.index()]), w.minute())
		p += strings.Repeat("x", max(size-len(p), 0))
		w.tried[lane.index()] = append(w.tried[lane.index()], p)
		payloads = append(payloads, []byte(p))
		w.minutes[p] = w.minute()
		if lane == History {
			w.numbers[p] = next + uint64(i)
		}
		if stamped && lane == History {
			w.stamps[p] = w.minute()
		}
	}
	if stamped {
		upTo = w.clock.now
	}
	if err := q.Append(lane, upTo, payloads...); err != nil {
		return false
	}
	for _, p := range payloads {
		w.acked[string(p)] = true
	}
	return true
}

// deliver sends up to count records of a lane to the store, without discarding.
func (w *world) deliver(q *Queue, lane Lane, count int) (last uint64, ok bool) {
	for after := uint64(0); count > 0; count-- {
		r, more, err := q.Peek(lane, after, nil)
		if err != nil {
			return last, false
		}
		if !more {
			break
		}
		after, last = r.Seq, r.Seq
		w.arrive(r)
	}
	return last, true
}

func (w *world) arrive(r Record) {
	k := key{r.Epoch, r.Lane, r.Seq}
	content := string(r.Payload)
	if have, ok := w.store[k]; ok {
		if have != content {
			w.fail("%x %v %d names %.30q and %.30q", k.epoch, k.lane, k.seq, have, content)
		}
		return
	}
	w.store[k] = content
	if g, ok := decodeGap(r.Payload); ok {
		w.gaps = append(w.gaps, g)
		return
	}
	if other, ok := w.contents[content]; ok {
		w.duplicated++
		w.fail("%.30q arrived as %v and as %v", content, other, k)
	}
	w.contents[content] = k
}

// judge looks at what arrived once all has been drained.
func (w *world) judge(r Recovery) {
	for lane, tried := range w.tried {
		lane := Lane(lane + 1)
		for _, p := range tried {
			seq := w.numbers[p]
			if _, ok := w.contents[p]; ok {
				continue
			}
			named := ""
			for _, g := range w.gaps {
				byNumber := lane == History && g.FromSeq <= seq && seq <= g.ToSeq
				byTime := w.stamps[p] > 0 && g.From.Before(minute(w.stamps[p])) && !g.To.Before(minute(w.stamps[p]))
				urgent := lane == Urgent && g.FromSeq == 0 && !g.From.After(minute(w.minutes[p])) && !g.To.Before(minute(w.minutes[p]))
				switch g.Reason {
				case telemetry.QueueFull:
					if byNumber || urgent {
						named = "full"
					}
				case telemetry.UncleanStop:
					if byTime && !w.acked[p] {
						named = "unclean"
					}
				}
			}
			switch {
			case w.acked[p] && named != "full":
				w.lost++
				w.fail("%.30q was promised and is lost", p)
			case w.stamps[p] > 0 && named == "":
				w.lost++
				w.fail("%.30q is lost and no gap says so: %v", p, w.gaps)
			}
		}
	}
	for _, g := range w.gaps {
		if g.Reason == telemetry.Damaged { // a power cut damages nothing that was ever shown
			w.fail("%d to %d are said to be damaged: %v", g.FromSeq, g.ToSeq, g)
		}
	}
}

// recover opens the disk after whatever happened, and checks what Open says.
func (w *world) recover(d *faultdisk.Disk) *Queue {
	wasRunning, unsure := w.running || w.opening, w.opening || w.closing
	if !w.running && !w.opening {
		unsure = true
	}
	began, last := w.started, -1
	for _, p := range w.tried[History.index()] {
		if w.acked[p] && w.stamps[p] > 0 {
			last = w.stamps[p]
		}
	}
	w.tick()
	w.tick()
	q, r, ok := w.open(d)
	if !ok {
		w.fail("the queue does not open")
		return nil
	}
	if !wasRunning && (!r.Clean || len(r.Gaps) > 0) {
		w.fail("after a clean stop: %+v", r)
	}
	if !unsure && r.Clean {
		w.fail("a run that died is taken for a clean stop")
	}
	for _, g := range r.Gaps {
		if g.Reason != telemetry.UncleanStop {
			continue
		}
		from := max(began, last)
		inFlight := last
		for _, p := range w.tried[History.index()] {
			if !w.acked[p] {
				inFlight = max(inFlight, w.stamps[p])
			}
		}
		right := g.From.Equal(minute(from)) || inFlight > last && g.From.Equal(minute(inFlight))
		if !right && !unsure {
			w.fail("the run began at %d and vouched for %d, and the gap begins at %v", began, last, g.From.Sub(start))
		}
	}
	return q
}

// finish drains and judges.
func (w *world) finish(q *Queue) {
	if q == nil {
		return
	}
	for _, lane := range []Lane{History, Urgent} { // damage in history makes urgent records
		if _, ok := w.deliver(q, lane, 1<<20); !ok {
			w.fail("the %v lane cannot be read", lane)
		}
	}
	w.judge(Recovery{})
}

// life is the scripted life of a queue: it fills, is drained in part, drops, is
// closed and opened, gets another epoch, and never fails but when the disk does.
func (w *world) life(d *faultdisk.Disk) {
	q, _, ok := w.open(d)
	step := func(f func() bool) { ok = ok && f() }
	send := func(lane Lane, count int) func() bool {
		return func() bool {
			last, ok := w.deliver(q, lane, count)
			return ok && (last == 0 || q.Discard(lane, last) == nil)
		}
	}
	write := func(lane Lane, stamped bool, sizes ...int) func() bool {
		return func() bool { return w.append(q, lane, stamped, sizes...) }
	}
	stop := func() bool {
		w.closing = true
		w.running = q.Close() != nil
		return !w.running
	}
	restart := func() bool {
		if !stop() {
			return false
		}
		w.tick()
		q, _, ok = w.open(d)
		return ok
	}
	step(write(History, false, 100)) // a catalogue
	for range 8 {
		step(write(History, true, 900))
	}
	step(write(Urgent, true, 80))
	step(send(History, 4))
	step(send(History, 3)) // the head is not written twice a minute
	step(write(History, true, 700, 600, 20))
	step(restart)
	step(write(History, true, 300))
	step(write(Urgent, true, 900, 900))
	step(send(Urgent, 2))
	step(func() bool { return q.NewEpoch() == nil })
	for range 28 { // and full
		step(write(History, true, 1000))
	}
	step(send(Urgent, 3))
	step(send(History, 9))
	step(send(History, 9)) // so that a full queue finds something to reclaim
	for range 12 {
		step(write(History, true, 1000))
	}
	for range 5 { // more than a quarter of the room
		step(write(Urgent, true, 1400, 1400))
	}
	step(restart)
	step(restart)
	step(write(History, true, 1200))
	step(write(Urgent, true, 10))
	step(send(History, 100))
	step(write(History, true, 1200))
	step(stop)
}

// next is a short run after a recovery: something new, some of the old.
func (w *world) next(q *Queue, seed uint64) {
	if q == nil {
		return
	}
	if _, ok := w.deliver(q, History, 3); !ok {
		w.fail("the history lane cannot be read")
	}
	// Not always: each append makes durable what came before it in its lane.
	if seed%3 < 1 && !w.append(q, Urgent, true, 50) || seed%3 < 2 && !w.append(q, History, true, 500) {
		w.fail("the queue cannot be written after a recovery: %v", q.Status().Err)
	}
}

// explorer plays a life and cuts it everywhere.
type explorer struct {
	prepare func(*faultdisk.Disk)
	seeds   uint64
	sites   map[string][]int // where syncs were called from, and in which cuts
	cuts    int              // lives, and recoveries, that were cut short

	lost, duplicated int
	wrong            string
}

func (e *explorer) disk(d *faultdisk.Disk) *faultdisk.Disk {
	if e.prepare != nil {
		e.prepare(d)
	}
	return d
}

// done notes what a future of the life cut at operation n did, and tells whether
// something was wrong.
func (e *explorer) done(n int, w *world, d *faultdisk.Disk, format string, args ...any) bool {
	for _, site := range d.SyncSites() {
		if cuts := e.sites[site]; len(cuts) == 0 || cuts[len(cuts)-1] != n {
			e.sites[site] = append(cuts, n)
		}
	}
	e.lost, e.duplicated = e.lost+w.lost, e.duplicated+w.duplicated
	if w.wrong != "" && e.wrong == "" {
		e.wrong = fmt.Sprintf(format, args...) + ": " + w.wrong
	}
	return e.wrong != ""
}

// cut ends the life during operation n, recovers, lives on a little, and loses
// power again.
func (e *explorer) cut(n int) bool {
	d, w := e.disk(faultdisk.New()), newWorld()
	d.CutAt(n)
	w.life(d)
	e.cuts++
	for seed := range e.seeds {
		after, f := e.disk(d.AfterCut(seed)), w.fork()
		q := f.recover(after)
		f.next(q, seed)
		if e.done(n, f, after, "cut at %d, seed %d", n, seed) {
			return true
		}
		// All that follows is told by what is on the disk now.
		again, g := e.disk(after.AfterCut(seed/2)), f.fork()
		g.finish(g.recover(again))
		f.finish(q)
		if e.done(n, g, again, "cut at %d, seed %d, and again", n, seed) || e.done(n, f, after, "cut at %d, seed %d", n, seed) {
			return true
		}
	}
	return false
}

// kill ends the process before operation n; the next one finds all that was
// written, and then the power fails.
func (e *explorer) kill(n int) bool {
	d, w := e.disk(faultdisk.New()), newWorld()
	d.KillAt(n)
	w.life(d)
	d.Restart()
	q := w.recover(d)
	w.next(q, uint64(n))
	if e.done(n, w, d, "killed at %d", n) {
		return true
	}
	for seed := range e.seeds {
		after, f := e.disk(d.AfterCut(seed)), w.fork()
		f.finish(f.recover(after))
		if e.done(n, f, after, "killed at %d, then cut, seed %d", n, seed) {
			return true
		}
	}
	return false
}

// cutRecovery cuts the life during operation n and then the recovery at each of
// its operations.
func (e *explorer) cutRecovery(n int, seed uint64) bool {
	d, w := e.disk(faultdisk.New()), newWorld()
	d.CutAt(n)
	w.life(d)
	for m := 1; ; m++ {
		after, f := e.disk(d.AfterCut(seed)), w.fork()
		after.CutAt(m)
		f.tick()
		q, _, ok := f.open(after)
		if ok {
			f.append(q, History, true, 500)
		}
		e.cuts++
		for second := range e.seeds {
			last, g := e.disk(after.AfterCut(second)), f.fork()
			g.finish(g.recover(last))
			if e.done(n, g, last, "cut at %d, seed %d, recovery cut at %d, seed %d", n, seed, m, second) {
				return true
			}
		}
		if after.Operations() < m {
			return false
		}
	}
}

func newExplorer(seeds uint64, prepare func(*faultdisk.Disk)) *explorer {
	return &explorer{prepare: prepare, seeds: seeds, sites: map[string][]int{}}
}

// operations counts the operations of the life on a disk without faults.
func operations(t *testing.T) int {
	t.Helper()
	d, w := faultdisk.New(), newWorld()
	w.life(d)
	if w.running || w.wrong != "" {
		t.Fatalf("the life does not come to its end: %s", w.wrong)
	}
	q, r, ok := w.open(d)
	if !ok || !r.Clean {
		t.Fatalf("recovery %+v", r)
	}
	w.finish(q)
	dropped := 0
	for _, g := range w.gaps {
		if g.Reason == telemetry.QueueFull {
			dropped++
		}
	}
	if w.wrong != "" || dropped < 2 {
		t.Fatalf("%s; %d drops in the life", w.wrong, dropped)
	}
	return d.Operations()
}

func TestPowerCutsAtEveryWriteLoseNothing(t *testing.T) {
	e := newExplorer(12, nil)
	for n, last := 1, operations(t); n <= last; n++ {
		if e.cut(n) || e.kill(n) {
			t.Fatal(e.wrong)
		}
	}
	t.Logf("writes_cut=%d lost=%d duplicated_after_dedupe=%d", e.cuts, e.lost, e.duplicated)
}

func TestPowerCutsDuringTheRecoveryLoseNothing(t *testing.T) {
	e := newExplorer(4, nil)
	for n, last := 1, operations(t); n <= last; n += 3 {
		if e.cutRecovery(n, uint64(n)) {
			t.Fatal(e.wrong)
		}
	}
	t.Logf("writes_cut=%d lost=%d duplicated_after_dedupe=%d", e.cuts, e.lost, e.duplicated)
}

func TestRemovingAnyOneSyncIsNoticed(t *testing.T) {
	last := operations(t)
	all := newExplorer(2, nil)
	for n := 1; n <= last; n++ {
		if all.cut(n) || all.kill(n) {
			t.Fatal(all.wrong)
		}
	}
	sites := slices.Sorted(maps.Keys(all.sites))
	if len(sites) < 8 {
		t.Fatalf("only %d sync sites: %q", len(sites), sites)
	}
	for _, site := range sites {
		e := newExplorer(12, func(d *faultdisk.Disk) { d.IgnoreSync(site) })
		for _, n := range all.sites[site] {
			if e.cut(n) || e.kill(n) {
				break
			}
		}
		for seed := range uint64(4) { // a sync that only a recovery does
			for _, n := range all.sites[site] {
				if e.wrong != "" || e.cutRecovery(n, seed) {
					break
				}
			}
		}
		if e.wrong == "" {
			t.Errorf("without the sync at %s nothing is lost", site)
		}
		t.Logf("%s: %s", site, e.wrong)
	}
}
