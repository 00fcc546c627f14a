package stamp

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

const (
	// patience is how long an urgent record waits for the time to be known, once
	// somebody would send it.
	patience = 30 * time.Second
	// How corrections of the clock are followed, in milliseconds: not below
	// deadband, back by at most slew a block, and at once beyond leap.
	deadband = 10
	slew     = 50
	leap     = 10_000
	// noted is how far the corrections have to go to be written down, in milliseconds.
	noted = 1000
	// forgotten is how far the times of a boot may be off of which nothing is known.
	forgotten = 10 * 365 * 24 * time.Hour
)

// Clock is what is known of the time; trustedtime.Clock is one.
type Clock interface {
	// Boot names this boot of the machine, Uptime is how long it lasts.
	Boot() string
	Uptime() time.Duration
	// Booted is when it began. known: somebody has told the time. sure: our own
	// service has.
	Booted() (at time.Time, known, sure bool)
	// Doubt is how far that may be off, either way.
	Doubt() time.Duration
	// Claim is when it began by the machine's own clock, and whether that can be.
	Claim() (at time.Time, possible bool)
	// Floor is a time that has passed.
	Floor() time.Time
}

// Queue is a queue whose records come out with true times. Its methods may be
// called from any goroutine.
type Queue struct {
	*queue.Queue
	clk Clock
	log *slog.Logger

	mu      sync.Mutex // guards what follows; held while boots.json is written
	boots   boots
	offset  int64         // when the present boot began, as records are dated for good; 0: none was yet
	waiting time.Duration // the uptime since which an urgent record waits for the time; 0: none does
	told    bool          // the log says that history waits
	again   bool          // an earlier run was in this boot
}

// Open opens the queue in dir. Of o it sets the clock and what goes with it, and
// has EncodeGap's records dated like others.
func Open(fsys disk.FS, dir string, o queue.Options, clk Clock) (*Queue, queue.Recovery, error) {
	q := &Queue{clk: clk, log: o.Log, boots: boots{fsys: fsys, file: filepath.Join(dir, fileName), log: o.Log}}
	q.boots.load()
	encode := o.EncodeGap
	o.Clock = ownScale{q}
	o.Last = func(last time.Time) {
		q.mu.Lock()
		defer q.mu.Unlock()
		at := int64(0)
		if !last.IsZero() {
			at = last.UnixMilli()
		}
		if n := len(q.boots.list); n > 0 {
			q.again = q.boots.list[n-1].Name == markOf(clk.Boot())
		}
		q.boots.enter(markOf(clk.Boot()), at, clk.Uptime(), clk)
		q.keep()
	}
	o.EncodeGap = func(g telemetry.Gap) []byte { return q.stampGap(encode(g)) }
	inner, found, err := queue.Open(fsys, dir, o)
	if err != nil {
		return nil, found, err
	}
	q.Queue = inner
	if s := inner.Status(); s.Urgent.Waiting == 0 && s.History.Waiting == 0 {
		q.mu.Lock()
		q.boots.forgetOld() // it is written down with the next change
		q.mu.Unlock()
	}
	for i, g := range found.Gaps {
		found.Gaps[i].From, found.Gaps[i].To = q.Shown(g.From), q.Shown(g.To)
	}
	return q, found, nil
}

// Again tells whether the run before was in the same boot: the process was started
// again, and the machine was not.
func (q *Queue) Again() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.again
}

// ownScale is the clock that the queue itself goes by.
type ownScale struct{ *Queue }

func (s ownScale) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.UnixMilli(s.boots.present().Scale + s.clk.Uptime().Milliseconds()).UTC()
}

// keep writes the table of boots, if it has changed, and tells whether it is on disk.
// Where the disk refuses, what is written now goes on; what was marked before waits.
func (q *Queue) keep() (kept bool) {
	if err := q.boots.save(); err != nil {
		q.log.Warn("when the machine was booted cannot be kept on disk; trying again", "err", err)
		return false
	}
	return true
}

// Append is queue.Queue's. The times in blocks, events and gaps, and upTo of the
// history lane, are uptimes, as clock.SinceBoot shows them.
func (q *Queue) Append(lane queue.Lane, upTo time.Time, payloads ...[]byte) error {
	stamped := make([][]byte, len(payloads))
	for i, p := range payloads {
		var err error
		if stamped[i], err = q.stamp(p); err != nil {
			return err
		}
	}
	if lane == queue.Urgent {
		upTo = ownScale{q}.Now()
	} else if !upTo.IsZero() {
		q.mu.Lock()
		upTo = time.UnixMilli(q.boots.present().Scale + upTo.UnixMilli()).UTC()
		q.mu.Unlock()
	}
	return q.Queue.Append(lane, upTo, stamped...)
}

// stamp dates a payload for good, or marks it with its boot.
func (q *Queue) stamp(payload []byte) ([]byte, error) {
	kind, err := wire.KindOf(payload)
	if err != nil {
		return nil, err
	}
	switch kind {
	case wire.KindBlock, wire.KindEvent, wire.KindGap:
	default:
		return payload, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	began, unsure, sure := q.sure(kind == wire.KindBlock)
	switch {
	case sure:
		return wire.Redate(nil, payload, func(up int64) int64 { return began + up }, unsure)
	case kind == wire.KindGap:
		scale := q.boots.present().Scale
		if payload, err = wire.Redate(nil, payload, func(up int64) int64 { return scale + up }, 0); err != nil {
			return nil, err
		}
	}
	q.keep()
	return wire.Undated(uint64(q.boots.present().Name), payload), nil
}

// beyondTolerance is how far times may be off, in milliseconds, where that is more than
// a reading may be off its slot without saying so; else 0.
func beyondTolerance(ms int64) int64 {
	if ms <= telemetry.LateTolerance.Milliseconds() {
		return 0
	}
	return ms
}

// stampGap dates a gap that the queue has found, whose times are on its own scale.
func (q *Queue) stampGap(payload []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if began, _, sure := q.sure(false); sure {
		if dated, ok := q.dateGap(payload, len(q.boots.list)-1, began); ok {
			return dated
		}
	}
	q.keep()
	return wire.Undated(uint64(q.boots.present().Name), payload)
}

// sure is when the present boot began, if records may be dated by it for good. next:
// with the record that comes, a correction may come into force. unsure is how far it
// may be off, with what of a correction is not in force yet.
func (q *Queue) sure(next bool) (began int64, unsure time.Duration, ok bool) {
	t, _, sure := q.clk.Booted()
	if !sure {
		return 0, 0, false
	}
	at := t.UnixMilli()
	if q.boots.present().Began == 0 {
		q.boots.settle(at, beyondTolerance(q.clk.Doubt().Milliseconds()))
		q.keep()
	}
	was := q.boots.present().Began
	if q.offset == 0 {
		if q.offset = at; max(at-was, was-at) <= deadband {
			q.offset = was
		}
	}
	if next {
		switch d := at - q.offset; {
		case d > deadband || d < -leap:
			q.offset = at
		case d < -deadband:
			q.offset -= min(-d, slew)
		}
		b := q.boots.present()
		if d := q.offset - b.ended(); max(d, -d) > noted {
			b.Corrected, q.boots.dirty = q.offset, true
			q.keep()
		}
	}
	return q.offset, time.Duration(beyondTolerance(q.clk.Doubt().Milliseconds()+max(at-q.offset, q.offset-at))) * time.Millisecond, true
}

// Peek is queue.Queue's, with all times true. What cannot be dated yet is not there
// yet.
func (q *Queue) Peek(lane queue.Lane, after uint64, buf []byte) (queue.Record, bool, error) {
	r, ok, err := q.Queue.Peek(lane, after, buf)
	if err != nil || !ok {
		return queue.Record{}, false, err
	}
	name, payload, undated := wire.CutUndated(r.Payload)
	if !undated {
		return r, true, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.Payload, ok = q.date(mark(name), lane, payload); !ok {
		return queue.Record{}, false, nil
	}
	return r, true, nil
}

// date gives a record that was marked its times, always the same. What they follow
// from is on disk before the record can be sent: after a power cut it would be dated
// anew otherwise, and the endpoint would take the second content for a clone's.
func (q *Queue) date(name mark, lane queue.Lane, payload []byte) (dated []byte, ok bool) {
	if t, known, _ := q.clk.Booted(); known {
		q.boots.settle(t.UnixMilli(), beyondTolerance(q.clk.Doubt().Milliseconds()))
	}
	if i := q.boots.find(name); i >= 0 && q.boots.list[i].Undated && lane == queue.Urgent {
		return q.undated(i, payload), q.keep()
	}
	kind, err := wire.KindOf(payload)
	switch {
	case err != nil:
		return payload, true // the endpoint keeps what it cannot read
	case kind == wire.KindGap:
		own, began := q.boots.find(name), int64(0)
		if own >= 0 {
			began = q.boots.list[own].Began
		}
		dated, ok = q.dateGap(payload, own, began)
	default:
		dated, ok = q.dateReadings(name, payload)
	}
	if ok {
		q.waiting, q.told = 0, false
		return dated, q.keep()
	}
	if lane == queue.History {
		if !q.told {
			q.log.Info("readings wait on disk until the time is known")
		}
		q.told = true
		return nil, false
	}
	now := q.clk.Uptime()
	if q.waiting == 0 {
		q.waiting = now
	}
	i := q.boots.find(name)
	if now-q.waiting < patience || i < 0 {
		return nil, false
	}
	q.log.Warn("the time is not known; what is urgent is sent without it")
	q.boots.undate(i)
	return q.undated(i, payload), q.keep()
}

// dateReadings dates a block or an event of a boot.
func (q *Queue) dateReadings(name mark, payload []byte) ([]byte, bool) {
	i := q.boots.find(name)
	if i < 0 && q.boots.list[0].Began != 0 {
		ends := int64(0)
		if _, err := wire.Redate(nil, payload, func(up int64) int64 { ends = up; return up }, 0); err == nil {
			q.boots.recall(name, ends)
			i = 0
		}
	}
	if i < 0 || q.boots.list[i].Began == 0 {
		return nil, false
	}
	b := q.boots.list[i]
	return redate(payload, func(up int64) int64 { return b.Began + up }, max(b.Early, b.Late)), true
}

// dateGap dates a gap, whose times are on the queue's own scale, wide enough to
// cover what it should. own is the boot in which it was written, began when that one
// is taken to have begun, whether it lasts or was followed by others: its corrections
// came after. ok is false where an end of it is in a boot that is not settled.
func (q *Queue) dateGap(payload []byte, own int, began int64) (dated []byte, ok bool) {
	ok = true
	first, from := true, int64(0) // the first time is where it begins
	dated = redate(payload, func(ms int64) int64 {
		if ms == 0 {
			first = false
			return 0
		}
		i, up := q.boots.onScale(ms)
		if i < 0 { // of before this gateway counted its boots: it was true then
			first, from = false, ms
			return ms
		}
		b := q.boots.list[i]
		off := b.Late
		if first {
			off = -b.Early
		}
		then := b.ended()
		if i == own {
			then = began
		}
		ok = ok && then != 0
		at := max(then+up+off, from, 1)
		first, from = false, at
		return at
	}, 0)
	return dated, ok
}

// undated takes from an urgent record the times that were in doubt.
func (q *Queue) undated(i int, payload []byte) []byte {
	kind, _ := wire.KindOf(payload) // it has been read before
	doubt := q.boots.list[i].DatedTo
	return redate(payload, func(ms int64) int64 {
		if kind != wire.KindGap || ms >= doubt {
			return 0
		}
		j, up := q.boots.onScale(ms)
		if j < 0 {
			return ms
		}
		return max(q.boots.list[j].ended()+up, 1)
	}, 0)
}

// redate is wire.Redate for a payload that has been read before.
func redate(payload []byte, date func(ms int64) int64, unsure int64) []byte {
	dated, err := wire.Redate(nil, payload, date, time.Duration(unsure)*time.Millisecond)
	if err != nil {
		return payload // the endpoint keeps what it cannot read
	}
	return dated
}

// Shown is the time, as well as it is known, that the queue's own scale calls t.
func (q *Queue) Shown(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	at, _, _ := q.clk.Booted()
	q.mu.Lock()
	defer q.mu.Unlock()
	i, up := q.boots.onScale(t.UnixMilli())
	if i < 0 {
		return t
	}
	began := q.boots.list[i].Began
	switch {
	case i == len(q.boots.list)-1:
		began = at.UnixMilli()
	case began == 0:
		began = q.boots.list[i].Scale // nobody knows better
	}
	return time.UnixMilli(began + up).UTC()
}

// Status is queue.Queue's.
func (q *Queue) Status() queue.Status {
	s := q.Queue.Status()
	s.Urgent.Oldest, s.History.Oldest = q.Shown(s.Urgent.Oldest), q.Shown(s.History.Oldest)
	return s
}

func (s ownScale) Sleep(ctx context.Context, d time.Duration) error {
	return errors.New("stamp: the queue does not wait by its clock")
}

var _ clock.Clock = ownScale{}
