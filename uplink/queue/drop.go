package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"penstock/internal/telemetry"
)

const (
	// The cursors are written when this much can be removed behind them, or
	// when they have moved and the last writing is this long ago.
	reclaimBytes = 4 << 20
	headEvery    = time.Minute
)

// tomb is a dropped segment whose file still remembers the loss.
type tomb struct {
	name     string
	lost     span
	emptied  bool
	recorded bool // the gap record is durable
}

// gap is a loss that has no record yet.
type gap struct {
	telemetry.Gap
	tomb *tomb // the file that remembers it; nil: the log itself does
}

// gapOf says what a span means to the reader of a gap record, whose numbers are
// those of the history lane.
func gapOf(reason telemetry.GapReason, s span) telemetry.Gap {
	g := telemetry.Gap{Reason: reason, From: timeOf(s.since), To: timeOf(s.until)}
	if s.lane == History {
		g.FromSeq, g.ToSeq = s.from, s.to
	}
	return g
}

// writeGaps appends the gap records that are due to the urgent lane. The caller
// holds commit.
func (q *Queue) writeGaps() error {
	for {
		q.mu.Lock()
		gaps := slices.Clone(q.gaps)
		q.mu.Unlock()
		if len(gaps) == 0 {
			return nil
		}
		// Not before the loss itself is certain.
		q.trim.Lock()
		err := q.bury()
		q.trim.Unlock()
		if err != nil {
			return err
		}
		row := make([]*appending, len(gaps))
		for i, g := range gaps {
			payload := q.o.EncodeGap(g.Gap)
			row[i] = &appending{lane: Urgent, stamp: stampOf(g.From), payloads: [][]byte{payload}, gap: true, size: int64(recordHead + len(payload))}
		}
		err = q.write(q.lane(Urgent), row)
		q.trim.Lock()
		q.mu.Lock()
		for i, g := range gaps {
			if row[i].err != nil {
				continue
			}
			q.gaps = slices.DeleteFunc(q.gaps, func(have gap) bool { return have == g })
			if g.tomb != nil {
				g.tomb.recorded = true
				q.unsettled = true
				l := q.lane(g.tomb.lost.lane)
				l.told = max(l.told, g.tomb.lost.to)
			}
		}
		q.mu.Unlock()
		q.trim.Unlock()
		if err != nil {
			return err
		}
	}
}

// bury makes the renaming of dropped segments safe and empties their files. The
// caller holds trim.
func (q *Queue) bury() error {
	if q.dirDirty {
		if err := q.fsys.SyncDir(q.dir); err != nil {
			return fmt.Errorf("queue: dropping a segment: %w", err)
		}
		q.dirDirty = false
	}
	for _, t := range q.tombs {
		if t.emptied {
			continue
		}
		if f, err := q.fsys.OpenFile(q.path(t.name), os.O_WRONLY|os.O_TRUNC, 0); err == nil {
			_ = f.Close()
			t.emptied = true
		}
	}
	return nil
}

// settle writes the head where a run has begun or a gap record has taken the
// place of a dropped segment, and then forgets that segment. The caller holds
// trim, and all gap records are durable.
func (q *Queue) settle() error {
	recorded := slices.ContainsFunc(q.tombs, func(t *tomb) bool { return t.recorded })
	if !q.headDue && !recorded {
		return nil
	}
	if err := q.writeHead(false); err != nil {
		return err
	}
	q.headDue = false
	q.tombs = slices.DeleteFunc(q.tombs, func(t *tomb) bool {
		return t.recorded && q.remove(t.name) == nil
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsettled = false
	return nil
}

// remove removes a file; one that is gone already is no error.
func (q *Queue) remove(name string) error {
	if err := q.fsys.Remove(q.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeHead writes the cursors. The caller holds trim.
func (q *Queue) writeHead(clean bool) error {
	q.mu.Lock()
	h := head{clean: clean, epoch: q.epoch, runStart: q.runStart, runNext: q.runNext}
	for i := range q.lanes {
		l := &q.lanes[i]
		h.lanes[i] = headLane{cursor: l.cursor, stamp: l.cursorStamp, next: l.next, told: l.told}
		if n := len(l.segments); n > 0 {
			h.lanes[i].base, h.lanes[i].size = l.segments[n-1].base, l.segments[n-1].size
		}
	}
	q.mu.Unlock()
	if err := q.head.write(h); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.headAt = q.o.Clock.Now()
	for i := range q.lanes {
		q.lanes[i].durable = h.lanes[i].cursor
	}
	return nil
}

// Discard says that everything up to and including seq has arrived. The cursor
// is written down now and then, not each time: after a crash some records
// are peeked again.
func (q *Queue) Discard(lane Lane, seq uint64) error {
	if !lane.valid() {
		return fmt.Errorf("queue: there is no %v", lane)
	}
	l := q.lane(lane)
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	if seq >= l.next {
		q.mu.Unlock()
		return fmt.Errorf("queue: discarding up to %d of the %s lane, whose last record is %d", seq, lane, l.next-1)
	}
	if seq <= l.cursor {
		q.mu.Unlock()
		return nil
	}
	l.moveCursor(seq, l.peeked.before(seq))
	_, bytes := l.consumed(l.cursor)
	since := q.o.Clock.Now().Sub(q.headAt)
	q.mu.Unlock()
	if bytes < reclaimBytes && since >= 0 && since < headEvery {
		return nil
	}
	q.trim.Lock()
	defer q.trim.Unlock()
	_, err := q.reclaim()
	return err
}

// reclaim writes the cursors and removes the segments behind them. The caller
// holds trim.
func (q *Queue) reclaim() (freed int64, err error) {
	if q.headDue {
		return 0, nil // Open has not finished: what it found is still in the old head
	}
	if err := q.writeHead(false); err != nil {
		return 0, err
	}
	for i := range q.lanes {
		l := &q.lanes[i]
		for {
			q.mu.Lock()
			count, _ := l.consumed(l.durable)
			var seg *segment
			if count > 0 {
				seg = l.segments[0]
			}
			q.mu.Unlock()
			if seg == nil {
				break
			}
			if err := q.remove(segmentName(l.id, seg.base, seg.previous)); err != nil {
				return freed, fmt.Errorf("queue: removing a discarded segment: %w", err)
			}
			q.mu.Lock()
			l.segments = l.segments[1:]
			q.mu.Unlock()
			freed += seg.footprint()
		}
	}
	return freed, nil
}

// makeRoom keeps the queue within its limit when size more bytes of records
// come: discarded segments go first, then the oldest history. Urgent records
// have a quarter of the room for themselves: beyond it their oldest go. The
// caller holds commit.
func (q *Queue) makeRoom(l *lane, size int64) error {
	over := func() (total, urgent bool) {
		grow := roundUp(int64(openingLen) + size)
		if l.tail != nil && l.tail.size+size <= int64(q.o.SegmentSize) {
			grow = roundUp(l.tail.size+size) - l.tail.footprint()
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.bytes()+grow > q.o.Limit, l.id == Urgent && len(l.segments) > 1 && l.bytes()+grow > q.o.Limit/4
	}
	total, urgent := over()
	if !total && !urgent {
		return nil
	}
	q.trim.Lock()
	defer q.trim.Unlock()
	if _, err := q.reclaim(); err != nil {
		return err
	}
	for {
		victim := q.lane(History)
		switch total, urgent = over(); {
		case urgent:
			victim = l
		case !total:
			return nil
		}
		freed, err := q.drop(victim)
		if err != nil {
			return err
		}
		if freed == 0 {
			return fmt.Errorf("queue: %d bytes do not fit in the limit of %d", size, q.o.Limit)
		}
	}
}

// yield makes room on a full disk: what is discarded, or else the oldest history,
// until size bytes are free. It tells whether it did. The caller holds commit.
func (q *Queue) yield(size int64) bool {
	q.trim.Lock()
	defer q.trim.Unlock()
	freed, err := q.reclaim()
	for freed < size && !q.futile {
		n, dropErr := q.drop(q.lane(History))
		if n == 0 {
			err = dropErr
			break
		}
		freed += n
	}
	if err != nil {
		q.o.Log.Warn("queue: the disk is full and no room can be made", "error", err)
	}
	return freed > 0
}

// drop removes the oldest segment of a lane and notes the gap. The caller
// holds commit and trim.
func (q *Queue) drop(l *lane) (freed int64, err error) {
	q.mu.Lock()
	if len(l.segments) == 0 {
		q.mu.Unlock()
		return 0, nil
	}
	seg, end, cursor := l.segments[0], l.end(0), l.cursor
	q.mu.Unlock()
	if seg == l.tail {
		l.seal()
	}
	name := segmentName(l.id, seg.base, seg.previous)
	lost := span{lane: l.id, from: max(seg.base, cursor+1), to: end - 1}
	if lost.from > lost.to {
		// All of it has arrived, and the head says so, if it could be written.
		if q.headDue {
			return 0, nil
		}
		if err := q.remove(name); err != nil {
			return 0, fmt.Errorf("queue: removing a discarded segment: %w", err)
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		l.segments = l.segments[1:]
		return seg.footprint(), nil
	}
	lost.since, lost.until = q.times(l, seg, end, cursor)
	t := &tomb{name: lostName(lost), lost: lost}
	if err := q.fsys.Rename(q.path(name), q.path(t.name)); err != nil {
		return 0, fmt.Errorf("queue: dropping a segment: %w", err)
	}
	q.dirDirty = true
	q.tombs = append(q.tombs, t)
	g := gapOf(telemetry.QueueFull, lost)
	q.mu.Lock()
	l.segments = l.segments[1:]
	l.moveCursor(lost.to, lost.until)
	l.dropped += lost.count()
	q.gaps = append(q.gaps, gap{Gap: g, tomb: t})
	q.mu.Unlock()
	q.o.Log.Warn("queue: full, the oldest records were dropped", "lane", l.id, "from_seq", lost.from, "to_seq", lost.to, "from", g.From, "to", g.To)
	return seg.footprint(), q.bury()
}

// times is the time that the records of a segment beyond cursor cover.
func (q *Queue) times(l *lane, seg *segment, end, cursor uint64) (since, until int64) {
	t := tail{min: noTime, max: noTime}
	if f, err := q.open(l, seg); err == nil {
		t, _ = scanAll(newScanner(f, l.id, seg.base, end, seg.size), cursor)
		_ = f.Close()
	}
	if t.min == noTime || t.next < end { // some of it cannot be read
		q.mu.Lock()
		t.widen(l.cursorStamp)
		t.widen(l.stamp)
		q.mu.Unlock()
	}
	if t.min == noTime { // records of no time at all
		t.widen(stampOf(q.o.Clock.Now()))
	}
	return t.min, t.max
}
