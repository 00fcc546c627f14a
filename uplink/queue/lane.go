package queue

import (
	"math"
	"slices"

	"penstock/internal/disk"
)

// segment is one file of a lane, as far as it is durable.
type segment struct {
	base, previous uint64
	size           int64 // durable bytes; nothing beyond counts
}

// lane is the state of one lane. Queue.mu guards it, but for what says otherwise.
type lane struct {
	id       Lane
	segments []*segment // oldest first, the one being written last
	next     uint64     // the next sequence number
	cursor   uint64     // the last number discarded
	durable  uint64     // the cursor as it was last written down
	// cursorStamp is the time of the record at the cursor, as far as known: the
	// waiting records begin there or later.
	cursorStamp int64
	stamp       int64  // the last time that an Append gave
	stampSeq    uint64 // its record
	told        uint64 // the last number dropped whose gap record is durable
	dropped     uint64
	damaged     uint64
	known       []span // damage beyond the cursor that has its gap record
	peeked      stamps
	previous    uint64 // the base of the newest segment, there or not

	// Queue.commit guards these; next, stamp, stampSeq and previous are
	// written with both locks held.
	tail   *segment  // the last segment, if it takes more records
	active disk.File // that segment, open for appending; nil: not yet

	read reader // guards itself
}

// end is the number after the last record of segment i.
func (l *lane) end(i int) uint64 {
	if i+1 < len(l.segments) {
		return l.segments[i+1].base
	}
	return l.next
}

// at returns the index of the segment that holds seq or, where that is gone, of
// the next one; len(l.segments) when there is none.
func (l *lane) at(seq uint64) int {
	i, exact := slices.BinarySearchFunc(l.segments, seq, func(s *segment, seq uint64) int {
		switch {
		case s.base < seq:
			return -1
		case s.base > seq:
			return 1
		}
		return 0
	})
	if !exact && i > 0 && seq < l.end(i-1) {
		i--
	}
	return i
}

// stop is the number from which on segment i does not count.
func (l *lane) stop(i int) uint64 {
	if i+1 < len(l.segments) {
		return l.segments[i+1].base
	}
	return math.MaxUint64
}

// footprint is the room that a segment takes on disk.
func (s *segment) footprint() int64 { return roundUp(s.size) }

func roundUp(size int64) int64 { return (size + blockSize - 1) &^ (blockSize - 1) }

func (l *lane) bytes() (n int64) {
	for _, s := range l.segments {
		n += s.footprint()
	}
	return n
}

// consumed is how many segments at the front, and how many bytes, have been
// discarded up to cursor. The one being written stays.
func (l *lane) consumed(cursor uint64) (count int, bytes int64) {
	for count+1 < len(l.segments) && l.end(count) <= cursor+1 {
		bytes += l.segments[count].footprint()
		count++
	}
	return count, bytes
}

// moveCursor discards up to seq; stamp is the time there, noTime if unknown.
func (l *lane) moveCursor(seq uint64, stamp int64) {
	l.cursor = seq
	if stamp != noTime {
		l.cursorStamp = stamp
	}
	l.known = slices.DeleteFunc(l.known, func(s span) bool { return s.to <= seq })
}

func (l *lane) isKnown(s span) bool {
	return slices.ContainsFunc(l.known, func(k span) bool { return k.from <= s.from && s.to <= k.to })
}

// stamps remembers the times of the records peeked last, for the cursor: a ring,
// because nobody says how far Peek may run ahead of Discard.
type stamps struct {
	ring [64]struct {
		seq   uint64
		stamp int64
	}
	n int
}

func (s *stamps) put(seq uint64, stamp int64) {
	at := &s.ring[s.n%len(s.ring)]
	at.seq, at.stamp = seq, stamp
	s.n++
}

// before is the time of the newest remembered record up to seq.
func (s *stamps) before(seq uint64) int64 {
	found, stamp := uint64(0), int64(noTime)
	for _, at := range s.ring {
		if at.seq <= seq && at.seq > found && at.stamp != noTime {
			found, stamp = at.seq, at.stamp
		}
	}
	return stamp
}
