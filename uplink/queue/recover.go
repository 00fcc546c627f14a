package queue

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

// Open opens the queue in dir, making it if there is none, and sets right what
// a power cut left. A full or read-only disk is no error: what is there can be
// read, and Append says what is wrong.
func Open(fsys disk.FS, dir string, o Options) (*Queue, Recovery, error) {
	if err := o.complete(); err != nil {
		return nil, Recovery{}, err
	}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, Recovery{}, fmt.Errorf("queue: %w", err)
	}
	q := &Queue{fsys: fsys, dir: dir, o: o, head: headFile{fsys: fsys, dir: dir}}
	recovery, err := q.recover()
	if err != nil {
		return nil, Recovery{}, err
	}
	q.commit.Lock()
	defer q.commit.Unlock()
	if err := q.prepare(); err != nil {
		q.failed(err)
		o.Log.Warn("queue: it can be read, but not written", "error", err)
	}
	return q, recovery, nil
}

func (o *Options) complete() error {
	if o.Limit == 0 {
		o.Limit = 64 << 20
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 256 << 10
	}
	if o.MaxRecord == 0 {
		o.MaxRecord = 64 << 10
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.EncodeGap == nil:
		return errors.New("queue: Options.EncodeGap is missing")
	case o.SegmentSize < blockSize:
		return fmt.Errorf("queue: a segment of %d bytes is less than a block of the disk (%d)", o.SegmentSize, blockSize)
	case o.Limit < 8*int64(o.SegmentSize):
		return fmt.Errorf("queue: a limit of %d bytes is less than 8 segments of %d", o.Limit, o.SegmentSize)
	case o.MaxRecord > maxPayload:
		return fmt.Errorf("queue: a record of %d bytes is more than the format holds (%d)", o.MaxRecord, maxPayload)
	}
	return nil
}

// recover reads what the last run left.
func (q *Queue) recover() (Recovery, error) {
	for i := range q.lanes {
		q.lanes[i] = lane{id: Lane(i + 1), next: 1, cursorStamp: noTime}
	}
	h, found, whole, err := q.head.read()
	if err != nil {
		return Recovery{}, err
	}
	files, err := q.list()
	if err != nil {
		return Recovery{}, err
	}
	if files == 0 && !found {
		q.begin(q.now(noTime))
		return Recovery{Clean: true}, q.drawEpoch()
	}
	clean := found && whole && h.clean
	last := int64(noTime)
	if found {
		last = h.runStart
	}
	var ends [2]laneEnd
	for i := range q.lanes {
		was := headLane{stamp: noTime}
		if found {
			was = h.lanes[i]
		}
		if ends[i], err = q.recoverLane(&q.lanes[i], was, found, clean); err != nil {
			return Recovery{}, err
		}
		clean = clean && ends[i].same
		last = max(last, ends[i].last)
	}
	now := q.now(last)
	intact := true // nothing but, perhaps, the last run's end is missing
	var damaged []span
	for i := range q.lanes {
		spans, err := q.lose(&q.lanes[i], ends[i], now)
		if err != nil {
			return Recovery{}, err
		}
		damaged = append(damaged, spans...)
		intact = intact && len(spans) == 0
	}

	r := Recovery{Clean: clean, NewEpoch: !clean || !intact}
	if !clean {
		// What is in the kernel's memory only, because a process and not
		// the power died, must be safe before anything relies on it.
		if err := q.syncTails(); err != nil {
			return Recovery{}, err
		}
		r.Gaps = append(r.Gaps, q.uncleanStop(h, found, now))
	}
	for _, s := range damaged {
		r.Gaps = append(r.Gaps, gapOf(telemetry.Damaged, s))
	}
	for _, g := range r.Gaps {
		q.gaps = append(q.gaps, gap{Gap: g})
		q.o.Log.Warn("queue: readings are lost", "reason", g.Reason.String(), "from", g.From, "to", g.To, "from_seq", g.FromSeq, "to_seq", g.ToSeq)
	}
	for _, t := range q.tombs {
		if t.lost.to <= q.lane(t.lost.lane).told {
			t.recorded = true // and its removal was lost
			continue
		}
		g := gapOf(telemetry.QueueFull, t.lost)
		r.Gaps = append(r.Gaps, g)
		q.gaps = append(q.gaps, gap{Gap: g, tomb: t})
	}
	q.begin(now)
	q.epoch = h.epoch
	if r.NewEpoch {
		err = q.drawEpoch()
	}
	return r, err
}

// begin starts a run: readings begin now.
func (q *Queue) begin(now int64) {
	q.headDue, q.unsettled = true, true
	q.runStart, q.runNext = now, q.lane(History).next
	for i := range q.lanes {
		l := &q.lanes[i]
		l.stamp, l.stampSeq = now, l.next-1
	}
}

// list finds segments and tombs and counts them.
func (q *Queue) list() (files int, err error) {
	entries, err := q.fsys.ReadDir(q.dir)
	if err != nil {
		return 0, fmt.Errorf("queue: %w", err)
	}
	for _, e := range entries {
		if s, err := parseLostName(e.Name()); err == nil {
			q.tombs = append(q.tombs, &tomb{name: e.Name(), lost: s})
			l := q.lane(s.lane)
			l.moveCursor(max(l.cursor, s.to), s.until)
			files++
			continue
		}
		lane, base, previous, err := parseSegmentName(e.Name())
		if err != nil {
			continue // not ours, or the head
		}
		info, err := e.Info()
		if err != nil {
			return 0, fmt.Errorf("queue: %w", err)
		}
		l := q.lane(lane)
		l.segments = append(l.segments, &segment{base: base, previous: previous, size: info.Size()})
		files++
	}
	for i := range q.lanes {
		slices.SortFunc(q.lanes[i].segments, func(a, b *segment) int {
			if a.base < b.base {
				return -1
			}
			return 1
		})
	}
	return files, nil
}

// now asks the clock when this run begins, once it has been told the last time that
// the runs before it knew.
func (q *Queue) now(last int64) int64 {
	if q.o.Last != nil {
		q.o.Last(timeOf(last))
	}
	return stampOf(q.o.Clock.Now())
}

// laneEnd is how a lane was found.
type laneEnd struct {
	tail        // of its last segment
	same  bool  // it ends exactly as the head says
	since int64 // a time before whatever is missing when no segment is left
	last  int64 // the last time in it
}

// recoverLane sets up a lane from its files and what the head says. found: there is
// a head.
func (q *Queue) recoverLane(l *lane, was headLane, found, clean bool) (end laneEnd, err error) {
	l.durable, l.told = was.cursor, was.told
	if was.cursor >= l.cursor { // else a tomb is beyond it
		l.moveCursor(was.cursor, was.stamp)
	}
	var t tail
	var last *segment
	since := l.cursorStamp // a time before whatever is missing when no segment is left
	for len(l.segments) > 0 {
		last = l.segments[len(l.segments)-1]
		limit := last.size
		if clean && last.base == was.base {
			limit = min(limit, was.size)
		}
		if t, err = q.scanSegment(l, last, limit); err != nil {
			return laneEnd{}, err
		}
		if t.records > 0 {
			break
		}
		// It was never confirmed, or all of it is damaged; its number begins the
		// next one.
		if since == noTime {
			since = t.max // of its opening
		}
		_ = q.remove(segmentName(l.id, last.base, last.previous))
		l.segments, last = l.segments[:len(l.segments)-1], nil
	}
	l.next = max(was.next, l.cursor+1, 1)
	same := was.base == 0 && last == nil || last != nil && last.base == was.base && t.good == was.size
	if last != nil {
		same = same && t.next == was.next
		l.next = max(l.next, t.next)
		l.previous = last.base
		l.stamp, l.stampSeq = t.stamp, t.stampSeq
		if t.good == last.size && t.opened && t.next == l.next {
			l.tail = last
		} else if f, err := q.fsys.OpenFile(q.path(segmentName(l.id, last.base, last.previous)), os.O_WRONLY, 0); err == nil {
			// The torn tail does not count; cutting it only gives back its room.
			_ = f.Truncate(t.good)
			_ = f.Close()
		}
		last.size = t.good
	}
	if !found && len(l.segments) > 0 {
		// Nobody knows what had arrived: all that is there is sent again.
		l.cursor = max(l.cursor, l.segments[0].base-1)
	}
	for len(l.segments) > 1 && l.segments[1].base <= l.durable+1 {
		first := l.segments[0]
		_ = q.remove(segmentName(l.id, first.base, first.previous)) // discarded
		l.segments = l.segments[1:]
	}
	end = laneEnd{tail: t, same: same, since: since, last: max(since, l.cursorStamp)}
	if last != nil {
		end.last = max(end.last, t.max, t.stamp)
	}
	return end, nil
}

// lose notes what is missing of a lane and had not arrived. now is the time of a
// loss that nothing dates.
func (q *Queue) lose(l *lane, end laneEnd, now int64) (lost []span, err error) {
	holes, err := q.holes(l, end.tail, end.since, now)
	if err != nil {
		return nil, err
	}
	for _, s := range holes {
		if s.from = max(s.from, l.cursor+1); s.from > s.to {
			continue // it had arrived
		}
		s = s.ordered()
		if s.since == noTime { // nothing tells when it was
			s.since, s.until = now, now
		}
		lost = append(lost, s)
		l.known = append(l.known, s)
		l.damaged += s.count()
	}
	return lost, nil
}

// holes is what the names of a lane's segments, and its end, say is missing. What
// is missing at the end may be as late as now; since is a time before all that is
// missing when no segment is there.
func (q *Queue) holes(l *lane, t tail, since, now int64) (holes []span, err error) {
	hole := func(from, to uint64, since, until int64) {
		holes = append(holes, span{lane: l.id, from: from, to: to, since: since, until: until})
	}
	for i, s := range l.segments {
		switch {
		case i == 0 && s.base > l.cursor+1:
			hole(l.cursor+1, s.base-1, l.cursorStamp, q.openingStamp(l, s, l.cursorStamp))
		case i > 0 && l.segments[i-1].base != s.previous:
			before, err := q.scanSegment(l, l.segments[i-1], l.segments[i-1].size)
			if err != nil {
				return nil, err
			}
			hole(before.next, s.base-1, before.max, q.openingStamp(l, s, before.max))
		}
	}
	if len(l.segments) > 0 {
		for _, s := range t.damaged {
			hole(s.from, s.to, s.since, s.until)
		}
		if t.next < l.next {
			hole(t.next, l.next-1, t.max, max(t.max, now))
		}
	} else if l.cursor+1 < l.next {
		hole(l.cursor+1, l.next-1, since, max(since, now))
	}
	return holes, nil
}

func (q *Queue) scanSegment(l *lane, s *segment, size int64) (tail, error) {
	f, err := q.open(l, s)
	if err != nil {
		return tail{}, fmt.Errorf("queue: %w", err)
	}
	defer f.Close()
	t, err := scanAll(newScanner(f, l.id, s.base, l.stop(l.at(s.base)), size), 0)
	if err != nil {
		return tail{}, fmt.Errorf("queue: %w", err)
	}
	return t, nil
}

// syncTails makes the last segments safe, and the names of all files.
func (q *Queue) syncTails() error {
	for i := range q.lanes {
		l := &q.lanes[i]
		if len(l.segments) == 0 {
			continue
		}
		f, err := q.open(l, l.segments[len(l.segments)-1])
		if err != nil {
			return fmt.Errorf("queue: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
	}
	if err := q.fsys.SyncDir(q.dir); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// uncleanStop is what the run that died took with it: its open block.
func (q *Queue) uncleanStop(h head, found bool, now int64) telemetry.Gap {
	l := q.lane(History)
	s := span{since: noTime, until: now}
	if len(l.segments) > 0 {
		s.since = l.stamp
	}
	if found && (s.since == noTime || l.stampSeq < h.runNext) {
		s.since = h.runStart
	}
	if s.since == noTime || s.since > now {
		// No head and no record; or a clock that has not been set yet.
		s = span{since: max(s.since, now), until: max(s.since, now)}
	}
	return gapOf(telemetry.UncleanStop, s)
}
