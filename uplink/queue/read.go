package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

// reader is where Peek stands in a lane.
type reader struct {
	mu    sync.Mutex
	seg   *segment // the one that is open
	file  disk.File
	scan  *scanner
	after uint64 // the last number it went past
	stamp int64  // the last time it went past
}

// place is what there is to be read after a number, at one moment.
type place struct {
	from  uint64   // the number before
	seg   *segment // the first segment that holds later ones; nil: it is gone
	next  *segment // the segment after that; nil: none
	size  int64    // of it
	end   uint64   // the number after its last
	stop  uint64
	since int64 // a time at or before from
	until int64 // a time at or after all of the lane
}

// Peek reads the first record after sequence number after that has not been
// discarded: after 0 is the oldest. ok is false when there is none (yet). The
// payload is appended to buf[:0] and belongs to the caller.
//
// Peeking in order is fast; stepping back, to send again after a reconnect, is
// slower. Records that cannot be read are skipped once the gap record that names
// them is durable; where that fails Peek does, and may be called again.
func (q *Queue) Peek(lane Lane, after uint64, buf []byte) (rec Record, ok bool, err error) {
	if !lane.valid() {
		return Record{}, false, fmt.Errorf("queue: there is no %v", lane)
	}
	l := q.lane(lane)
	l.read.mu.Lock()
	defer l.read.mu.Unlock()
	for {
		p, more, err := q.place(l, after)
		if err != nil || !more {
			return Record{}, false, err
		}
		lost := span{lane: lane, from: p.from + 1, since: p.since, until: p.until}
		if p.seg == nil || p.seg.base > p.from+1 { // the segment before is gone
			lost.to = p.end - 1
			if p.seg != nil {
				lost.to, lost.until = p.seg.base-1, q.openingStamp(l, p.seg, p.until)
			}
			if err := q.lost(l, lost); err != nil {
				return Record{}, false, err
			}
			after = lost.to
			continue
		}
		e, err := l.read.next(q, l, p)
		if l.read.stamp != noTime {
			lost.since = l.read.stamp
		}
		switch {
		case err == nil && e.seq > p.from+1:
			if e.upTo != noTime {
				lost.until = e.upTo
			}
			lost.to = e.seq - 1
			if err := q.lost(l, lost); err != nil {
				l.read.close()
				return Record{}, false, err
			}
			fallthrough
		case err == nil:
			if e.upTo != noTime {
				l.read.stamp = e.upTo
			}
			q.mu.Lock()
			l.peeked.put(e.seq, e.upTo)
			q.mu.Unlock()
			return Record{Epoch: e.epoch, Lane: lane, Seq: e.seq, UpTo: timeOf(e.upTo), Payload: append(buf[:0], e.payload...)}, true, nil
		case !errors.Is(err, io.EOF):
			l.read.close()
			return Record{}, false, fmt.Errorf("queue: reading the %s lane: %w", lane, err)
		}
		// The rest of the segment is not there; unless it is being dropped.
		l.read.close()
		if !q.still(l, p) {
			continue
		}
		lost.to = p.end - 1
		if p.next != nil {
			lost.until = q.openingStamp(l, p.next, p.until)
		}
		if err := q.lost(l, lost); err != nil {
			return Record{}, false, err
		}
		after = lost.to
	}
}

// place finds what follows a number, if anything does.
func (q *Queue) place(l *lane, after uint64) (p place, more bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return place{}, false, ErrClosed
	}
	p = place{from: max(after, l.cursor), since: l.cursorStamp, until: l.stamp}
	if p.from+1 >= l.next {
		return place{}, false, nil
	}
	i := l.at(p.from + 1)
	if i == len(l.segments) {
		p.end = l.next
		return p, true, nil
	}
	p.seg, p.size, p.end, p.stop = l.segments[i], l.segments[i].size, l.end(i), l.stop(i)
	if i+1 < len(l.segments) {
		p.next = l.segments[i+1]
	}
	return p, true, nil
}

// still tells whether the records after p are waiting in its segment, as they
// were, once whoever was removing segments is done.
func (q *Queue) still(l *lane, p place) bool {
	q.trim.Lock()
	defer q.trim.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	i := l.at(p.from + 1)
	return l.cursor <= p.from && i < len(l.segments) && l.segments[i] == p.seg
}

// next reads the first good record of p's segment after p.from. io.EOF: there
// is none, or no such file.
func (r *reader) next(q *Queue, l *lane, p place) (entry, error) {
	if r.seg != p.seg || r.after > p.from {
		r.close()
		f, err := q.open(l, p.seg)
		if errors.Is(err, fs.ErrNotExist) {
			return entry{}, io.EOF
		}
		if err != nil {
			return entry{}, err
		}
		var buf []byte
		if r.scan != nil {
			buf = r.scan.buf[:0]
		}
		r.seg, r.file, r.stamp = p.seg, f, noTime
		r.scan = newScanner(f, l.id, p.seg.base, p.stop, p.size)
		r.scan.buf = buf
	}
	r.scan.end, r.scan.stop = p.size, p.stop
	for {
		e, err := r.scan.next()
		if errors.Is(err, errShort) {
			err = io.EOF
		}
		if err != nil {
			return entry{}, err
		}
		if e.flags&flagOpen == 0 {
			r.after = e.seq
			if e.seq > p.from {
				return e, nil
			}
		}
		if e.upTo != noTime {
			r.stamp = e.upTo
		}
	}
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.seg, r.file, r.after = nil, nil, 0
}

func (q *Queue) open(l *lane, seg *segment) (disk.File, error) {
	return q.fsys.OpenFile(q.path(segmentName(l.id, seg.base, seg.previous)), os.O_RDONLY, 0)
}

// openingStamp is the last time before a segment, or otherwise.
func (q *Queue) openingStamp(l *lane, seg *segment, otherwise int64) int64 {
	f, err := q.open(l, seg)
	if err != nil {
		return otherwise
	}
	defer f.Close()
	e, err := newScanner(f, l.id, seg.base, seg.base+1, min(seg.size, int64(openingLen))).next()
	if err != nil || e.upTo == noTime {
		return otherwise
	}
	return e.upTo
}

// lost makes the gap record of damage that reading met. The caller holds the
// reader's lock.
func (q *Queue) lost(l *lane, s span) error {
	s = s.ordered()
	if s.since == noTime {
		s.since = stampOf(q.o.Clock.Now())
		s.until = s.since
	}
	q.commit.Lock()
	defer q.commit.Unlock()
	q.mu.Lock()
	if l.isKnown(s) || s.to <= l.cursor {
		q.mu.Unlock()
		return nil
	}
	g := gap{Gap: gapOf(telemetry.Damaged, s)}
	if !hasGap(q.gaps, g) {
		q.gaps = append(q.gaps, g)
	}
	q.mu.Unlock()
	if l.tail != nil && l.tail.base <= s.to && s.to < l.next {
		l.seal() // its file may be gone: nothing more goes there
	}
	if err := q.prepare(); err != nil {
		q.failed(err)
		return err
	}
	q.mu.Lock()
	l.known = append(l.known, s)
	l.damaged += s.count()
	q.mu.Unlock()
	q.o.Log.Error("queue: records on disk cannot be read", "lane", l.id, "from_seq", s.from, "to_seq", s.to, "from", g.From, "to", g.To)
	return nil
}

func hasGap(gaps []gap, g gap) bool {
	for _, have := range gaps {
		if have == g {
			return true
		}
	}
	return false
}
