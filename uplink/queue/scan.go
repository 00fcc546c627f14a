package queue

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	window    = 64 << 10 // what a scanner reads at once
	blockSize = 4096     // what a disk may fail to read, and what a file takes at least
)

// scanner reads the records of one segment in order and steps over damage. It
// holds one window of the file, or one record where that is larger.
type scanner struct {
	file io.ReaderAt
	lane Lane
	off  int64  // where the next record should begin
	end  int64  // nothing beyond counts
	want uint64 // the number it should have
	stop uint64 // the base of the next segment: from there on nothing counts

	buf   []byte // file content from bufAt on
	bufAt int64
	good  int64 // where the last good record ended
}

func newScanner(file io.ReaderAt, lane Lane, base, stop uint64, end int64) *scanner {
	return &scanner{file: file, lane: lane, end: end, want: base, stop: stop}
}

// next returns the next good record; its payload is valid until the call after.
// A number higher than s.want was means that those between are lost. io.EOF: no
// good record follows. Damage itself is no error: a block that cannot be read
// counts as zeros.
func (s *scanner) next() (entry, error) {
	for ; s.off+recordHead <= s.end; s.off++ {
		b, err := s.peek(recordHead)
		if err != nil {
			return entry{}, err
		}
		size, seq, ok := plausible(b, s.lane)
		if !ok || seq < s.want || seq >= s.stop || s.off+int64(size) > s.end {
			continue
		}
		if b, err = s.peek(size); err != nil {
			return entry{}, err
		}
		e, ok := parse(b)
		if !ok {
			continue
		}
		s.off += int64(size)
		s.good = s.off
		if e.flags&flagOpen == 0 {
			s.want = e.seq + 1
		}
		return e, nil
	}
	return entry{}, io.EOF
}

// peek returns the n bytes at s.off, which are within s.end.
func (s *scanner) peek(n int) ([]byte, error) {
	at := int(s.off - s.bufAt)
	if at >= 0 && at+n <= len(s.buf) {
		return s.buf[at : at+n], nil
	}
	size := int(min(max(window, int64(n)), s.end-s.off))
	if cap(s.buf) < size {
		s.buf = make([]byte, size)
	}
	s.buf, s.bufAt = s.buf[:size], s.off
	got, err := s.file.ReadAt(s.buf, s.off)
	if got == size {
		return s.buf[:n], nil
	}
	if errors.Is(err, io.EOF) {
		s.buf = s.buf[:got]
		return nil, errShort
	}
	return s.buf[:n], s.salvage()
}

// errShort: the file is shorter than it was.
var errShort = errors.New("segment is shorter than it was")

// salvage reads the window block by block, with zeros for what cannot be read.
func (s *scanner) salvage() error {
	for at := 0; at < len(s.buf); {
		n := min(blockSize-int((s.bufAt+int64(at))%blockSize), len(s.buf)-at)
		if got, err := s.file.ReadAt(s.buf[at:at+n], s.bufAt+int64(at)); got < n {
			if errors.Is(err, io.EOF) {
				return errShort
			}
			clear(s.buf[at : at+n])
		}
		at += n
	}
	return nil
}

// tail is what a scan of a whole segment found.
type tail struct {
	opened   bool   // its first record is the opening of this format
	records  uint64 // good ones
	next     uint64 // the number after the last good record
	good     int64  // where that ended
	damaged  []span // rows of lost records between good ones
	stamp    int64  // of the last whole Append
	stampSeq uint64 // its record
	min, max int64  // over all stamps, the opening's included; noTime if none
}

// scanAll reads a segment from begin to end. Records up to and including after
// are not looked at.
func scanAll(s *scanner, after uint64) (tail, error) {
	t := tail{next: s.want, stamp: noTime, min: noTime, max: noTime}
	last := int64(noTime) // the stamp before the record at hand
	for {
		expected := s.want
		e, err := s.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errShort) {
			return t, nil
		}
		if err != nil {
			return t, err
		}
		t.good = s.good
		if e.flags&flagOpen != 0 {
			if seq, ok := e.stampSeq(); ok {
				t.opened, t.stamp, t.stampSeq, last = true, e.upTo, seq, e.upTo
			}
			if e.seq > after {
				t.widen(e.upTo)
			}
			continue
		}
		if e.seq > expected {
			t.damaged = append(t.damaged, span{lane: s.lane, from: expected, to: e.seq - 1, since: last, until: e.upTo}.ordered())
		}
		t.records++
		t.next = e.seq + 1
		if e.upTo != noTime {
			last = e.upTo
			if e.flags&(flagMore|flagGap) == 0 {
				t.stamp, t.stampSeq = e.upTo, e.seq
			}
		}
		if e.seq >= after {
			t.widen(e.upTo)
		}
	}
}

func (t *tail) widen(stamp int64) {
	if stamp == noTime {
		return
	}
	if t.min == noTime || stamp < t.min {
		t.min = stamp
	}
	if t.max == noTime || stamp > t.max {
		t.max = stamp
	}
}

// ordered is the span with its times in order, where the clock was set back
// between them, and with one of them for both where only one is known.
func (s span) ordered() span {
	switch {
	case s.since == noTime:
		s.since = s.until
	case s.until == noTime:
		s.until = s.since
	case s.since > s.until:
		s.since, s.until = s.until, s.since
	}
	return s
}

func (s span) count() uint64 { return s.to - s.from + 1 }

func putUint64s(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}
