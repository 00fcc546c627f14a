package pumpsim

import (
	"time"

	"penstock/fieldbus"
)

// fifo is how many bytes a UART collects before it hands them over.
const fifo = 16

// transmission is a run of bytes that devices put on the wire.
type transmission struct {
	start time.Time // of the first bit, if the wire is free then
	clear bool      // wants the silence between frames before it
	shy   bool      // is not sent at all if the wire is busy then
	parts []part
	entry *Served // the answer whose end this is; nil for other people's bytes
	order int     // of two that start together, the earlier made goes first
}

// part is bytes without a pause between them.
type part struct {
	pause time.Duration // before the first bit
	bytes []byte
}

func (t *transmission) wire(m fieldbus.Mode) (d time.Duration) {
	for _, p := range t.parts {
		d += p.pause + m.Wire(len(p.bytes))
	}
	return d
}

// sending is the transmission that has the wire.
type sending struct {
	*transmission
	from time.Time // first bit of the part that is being sent
	part int
	sent int // bytes of it
}

// due is when the next bytes have arrived at the master's UART, and what they
// are: a FIFO full, or the rest of the part.
func (s *sending) due(m fieldbus.Mode) (time.Time, []byte) {
	b := s.parts[s.part].bytes
	to := min(s.sent+fifo, len(b))
	return s.from.Add(m.Wire(to)), b[s.sent:to]
}

// advance goes on behind the bytes that due gave, and tells whether more follow.
func (s *sending) advance(m fieldbus.Mode) bool {
	b := s.parts[s.part].bytes
	s.sent = min(s.sent+fifo, len(b))
	if s.sent < len(b) {
		return true
	}
	s.from = s.from.Add(m.Wire(len(b)))
	s.part++
	s.sent = 0
	if s.part == len(s.parts) {
		return false
	}
	s.from = s.from.Add(s.parts[s.part].pause)
	return true
}
