package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// appending is one call of Append. The caller owns it until it is in
// Queue.waiting, then whoever holds commit.
type appending struct {
	lane     Lane
	stamp    int64
	payloads [][]byte
	gap      bool
	size     int64 // encoded
	err      error
	done     bool
}

// Append adds records to a lane, in order, and returns when they are durable.
// Concurrent Appends share one fsync.
//
// In the history lane upTo says that all readings up to then are in this or
// earlier records; after a power cut the gap begins there. A record that says
// nothing about readings (a catalogue) has the zero time. In the urgent lane
// upTo is the time of the event.
//
// The payloads of one Append are never separated by a drop, and are at most a
// quarter of Options.Limit together. After an error none of them is in the
// queue and they may be appended again; where the disk is full or read-only,
// that works once it no longer is. (If the power fails before it is, they may be
// found nevertheless.)
func (q *Queue) Append(lane Lane, upTo time.Time, payloads ...[]byte) error {
	if !lane.valid() {
		return fmt.Errorf("queue: there is no %v", lane)
	}
	if len(payloads) == 0 {
		return nil
	}
	a := &appending{lane: lane, stamp: stampOf(upTo), payloads: payloads}
	for _, p := range payloads {
		if len(p) > q.o.MaxRecord {
			return fmt.Errorf("queue: a payload of %d bytes: %w (%d bytes)", len(p), ErrTooLarge, q.o.MaxRecord)
		}
		a.size += int64(recordHead + len(p))
	}
	if a.size > q.o.Limit/4 {
		return fmt.Errorf("queue: payloads of %d bytes in one Append: %w (%d bytes, a quarter of the queue)", a.size, ErrTooLarge, q.o.Limit/4)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.waiting = append(q.waiting, a)
	q.mu.Unlock()

	// Whoever comes first commits for all who wait by then; the others find
	// their records done when they get here.
	q.commit.Lock()
	defer q.commit.Unlock()
	if !a.done {
		q.flush()
	}
	return a.err
}

// flush writes what waits. The caller holds commit.
func (q *Queue) flush() {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()

	err, failed := q.prepare(), error(nil)
	for _, lane := range []Lane{Urgent, History} {
		var row []*appending
		for _, a := range waiting {
			if a.lane == lane {
				row = append(row, a)
			}
		}
		if err != nil {
			finish(row, err)
		} else {
			failed = errors.Join(failed, q.write(q.lane(lane), row))
		}
	}
	if err == nil {
		err = q.prepare() // what had to be dropped to make room is told at once
	}
	q.failed(errors.Join(err, failed))
}

// failed notes how the last write went, for Status.
func (q *Queue) failed(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
}

// prepare does what must be on disk before any other record: gap records and
// what Open could not finish. The caller holds commit.
func (q *Queue) prepare() error {
	if err := q.writeGaps(); err != nil {
		return err
	}
	q.mu.Lock()
	due := q.unsettled
	q.mu.Unlock()
	if !due {
		return nil // without waiting for whoever writes the cursors
	}
	q.trim.Lock()
	defer q.trim.Unlock()
	if err := q.settle(); err != nil && q.headDue {
		return err
	}
	return nil
}

func finish(row []*appending, err error) {
	for _, a := range row {
		a.err, a.done = err, true
	}
}

// write writes a row of Appends to a lane, as many at once as fit in a segment.
// The caller holds commit.
func (q *Queue) write(l *lane, row []*appending) error {
	for len(row) > 0 {
		chunk, size := 1, row[0].size
		for chunk < len(row) && l.fill()+size+row[chunk].size <= int64(q.o.SegmentSize) {
			size += row[chunk].size
			chunk++
		}
		err := q.makeRoom(l, size)
		if err == nil {
			err = q.writeChunk(l, row[:chunk], size)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = q.writeChunk(l, row[:chunk], size) // the segment was deleted by hand: the next one
		}
		if errors.Is(err, syscall.ENOSPC) && q.yield(size) {
			err = q.writeChunk(l, row[:chunk], size)
			q.futile = errors.Is(err, syscall.ENOSPC)
		}
		if err != nil {
			finish(row, err)
			return err
		}
		q.futile = false
		finish(row[:chunk], nil)
		row = row[chunk:]
	}
	return nil
}

// fill is how full the segment is that the next records go to.
func (l *lane) fill() int64 {
	if l.tail == nil {
		return int64(openingLen)
	}
	return l.tail.size
}

// writeChunk writes and syncs records that go to one segment, and only then
// shows them to the reader. After a failure what was written can never be
// taken for part of the log: the segment ends where it ended before, and the
// next one, which says so by its name, has another epoch.
func (q *Queue) writeChunk(l *lane, chunk []*appending, size int64) error {
	if q.stale {
		if err := q.drawEpoch(); err != nil {
			return err
		}
	}
	seg := l.tail
	if seg == nil || seg.size+size > int64(q.o.SegmentSize) {
		l.seal()
		seg = &segment{base: l.next, previous: l.previous}
	}
	buf, next, created := q.buf[:0], l.next, seg.size == 0
	if created {
		buf = appendOpening(buf, l.id, q.epoch, seg.base, l.stamp, l.stampSeq)
	}
	stamp, stampSeq := l.stamp, l.stampSeq
	for _, a := range chunk {
		for i, p := range a.payloads {
			e := entry{epoch: q.epoch, seq: next, upTo: a.stamp, payload: p}
			if i < len(a.payloads)-1 {
				e.flags |= flagMore
			}
			if a.gap {
				e.flags |= flagGap
			}
			buf = appendRecord(buf, l.id, e)
			next++
		}
		if a.stamp != noTime && !a.gap {
			stamp, stampSeq = a.stamp, next-1
		}
	}
	q.buf = buf
	if cap(q.buf) > 1<<20 {
		q.buf = nil
	}
	if err := q.put(l, seg, buf, created); err != nil {
		q.abandon(l, seg)
		return fmt.Errorf("queue: appending to the %s lane: %w", l.id, err)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	if created {
		l.segments = append(l.segments, seg)
		l.previous, l.tail = seg.base, seg
	}
	seg.size += int64(len(buf))
	l.next, l.stamp, l.stampSeq = next, stamp, stampSeq
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
	return nil
}

// put brings buf to the end of a segment and to the disk.
func (q *Queue) put(l *lane, seg *segment, buf []byte, create bool) error {
	if l.active == nil {
		flag := os.O_WRONLY | os.O_APPEND
		if create {
			// A failed attempt may have left a file of this name.
			flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		}
		f, err := q.fsys.OpenFile(q.path(segmentName(l.id, seg.base, seg.previous)), flag, 0o600)
		if err != nil {
			return err
		}
		l.active = f
	}
	if _, err := l.active.Write(buf); err != nil {
		return err
	}
	if err := l.active.Sync(); err != nil {
		return err
	}
	if create {
		return q.fsys.SyncDir(q.dir)
	}
	return nil
}

// abandon leaves a segment after a failed write. What it holds beyond its size
// does not count; the room is given back if that works.
func (q *Queue) abandon(l *lane, seg *segment) {
	q.stale = true
	if l.active != nil {
		_ = l.active.Truncate(seg.size)
	}
	l.seal()
}

// seal ends the segment being written: the next record begins another.
func (l *lane) seal() {
	if l.active != nil {
		_ = l.active.Close() // what counts of it was synced
	}
	l.active, l.tail = nil, nil
}

func (q *Queue) path(name string) string { return filepath.Join(q.dir, name) }
