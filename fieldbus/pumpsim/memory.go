package pumpsim

import (
	"errors"
	"syscall"
	"time"

	"penstock/fieldbus"
	"penstock/internal/clock"
)

// MovableClock is a clock that time does not move by itself: a line in memory
// moves it to whatever happens next. linetest.Clock is one.
type MovableClock interface {
	clock.Clock
	AdvanceTo(t time.Time)
}

// Open is a fieldbus.Opener for a line in memory (see Options.Clock). A read
// that waits moves the clock, so the time of the wire passes as on a real line
// and costs nothing. The format counts here: a request in another one than the
// line's is not understood.
//
// A port may be opened once at a time, is used by one goroutine, and gives
// ErrMissing while the fault unplug has it away.
func (s *Simulator) Open(path string, mode fieldbus.Mode) (fieldbus.Port, error) {
	if s.move == nil {
		return nil, errors.New("this line is a real serial port: open it by its Path")
	}
	if err := mode.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.move.Now()
	s.catchUp(now)
	switch {
	case now.Before(s.plugIn):
		return nil, &fieldbus.PortError{Path: path, Kind: fieldbus.ErrMissing}
	case s.near != nil && !s.near.vanished:
		return nil, &fieldbus.PortError{Path: path, Kind: fieldbus.ErrBusy}
	}
	s.near = &memoryPort{s: s, mode: mode, timeout: -1}
	return s.near, nil
}

// memoryPort is the near end of a line in memory. Its fields are guarded by the
// simulator's lock.
type memoryPort struct {
	s        *Simulator
	mode     fieldbus.Mode
	timeout  time.Duration // negative: for ever
	received []byte        // and not yet read
	vanished bool
	closed   bool
}

// received holds no more than a terminal's buffer; what comes on top is lost.
const bufferMax = 4096

var errPortClosed = errors.New("port is closed")

// catchUp lets everything happen that is due up to now, each thing at its own
// time. The caller holds mu.
func (s *Simulator) catchUp(now time.Time) {
	for {
		next := s.next()
		if next.IsZero() || next.After(now) {
			return
		}
		s.happen(next)
	}
}

// next is when something happens if nobody does anything. The caller holds mu.
func (s *Simulator) next() time.Time { return sooner(s.bus.next(), s.nextEvent()) }

// happen lets happen what is due at a time. The caller holds mu.
func (s *Simulator) happen(at time.Time) {
	s.play(at)
	s.bus.due(at, func(b []byte) time.Time {
		if p := s.near; p != nil {
			b = heardIn(p.mode, s.bus.mode, b)
			p.received = append(p.received, b[:min(len(b), bufferMax-len(p.received))]...)
		}
		return at
	})
	if away := s.bus.unplug; away > 0 {
		s.bus.unplug = 0
		s.plugIn = at.Add(away)
		if s.near != nil {
			s.near.vanished, s.near.received = true, nil
			s.near = nil
		}
	}
}

// use locks the line, brings it up to now and runs f, unless the port is of no
// use any more. What was served meanwhile is told when the lock is off again.
func (p *memoryPort) use(f func(now time.Time)) (err error) {
	s := p.s
	s.mu.Lock()
	now := s.move.Now()
	s.catchUp(now)
	switch {
	case p.closed:
		err = errPortClosed
	case p.vanished:
		err = syscall.EIO
	default:
		f(now)
		if p.vanished {
			err = syscall.EIO
		}
	}
	told := s.told[:0]
	s.collect(func(e Served) { told = append(told, e) })
	s.told = nil
	s.mu.Unlock()
	for i := range told {
		if s.enc != nil && s.writing == nil {
			s.writing = s.enc.Encode(&told[i])
		}
		if s.o.OnServed != nil {
			s.o.OnServed(told[i])
		}
	}
	s.mu.Lock()
	s.told = told
	s.mu.Unlock()
	return err
}

// Read is fieldbus.Port's. Waiting moves the clock.
func (p *memoryPort) Read(b []byte) (n int, err error) {
	stuck := false
	err = p.use(func(now time.Time) {
		end := now.Add(p.timeout)
		for len(p.received) == 0 && !p.vanished {
			next := p.s.next()
			if p.timeout < 0 && next.IsZero() {
				stuck = true
				return
			}
			if p.timeout >= 0 && (next.IsZero() || next.After(end)) {
				p.s.move.AdvanceTo(end)
				return
			}
			p.s.move.AdvanceTo(next)
			p.s.happen(next)
		}
		n = copy(b, p.received)
		p.received = p.received[:copy(p.received, p.received[n:])]
	})
	if stuck {
		return 0, errors.New("a read without a time-out, and nothing will come")
	}
	return n, err
}

// Write is fieldbus.Port's. It takes no time; the wire does.
func (p *memoryPort) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := p.use(func(now time.Time) { p.s.bus.hear(b, now, p.mode) }); err != nil {
		return 0, err
	}
	return len(b), nil
}

// SetReadTimeout is fieldbus.Port's.
func (p *memoryPort) SetReadTimeout(d time.Duration) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.timeout = d
	return nil
}

// ResetInputBuffer is fieldbus.Port's.
func (p *memoryPort) ResetInputBuffer() error {
	return p.use(func(time.Time) { p.received = p.received[:0] })
}

// Drain is fieldbus.Port's: it waits for the last bit of what was written.
func (p *memoryPort) Drain() error {
	return p.use(func(now time.Time) {
		if len(p.s.bus.heard) == 0 || !p.s.bus.ends.After(now) {
			return
		}
		p.s.move.AdvanceTo(p.s.bus.ends)
		p.s.catchUp(p.s.bus.ends)
	})
}

// Close is fieldbus.Port's.
func (p *memoryPort) Close() error {
	return p.use(func(time.Time) {
		p.closed, p.received = true, nil
		p.s.near = nil
	})
}

// heardIn is what a receiver in the mode to makes of bytes sent in the mode
// from: as they are; at another speed nonsense; with another parity a zero for
// each byte whose parity bit is wrong, as Linux hands them over.
func heardIn(to, from fieldbus.Mode, b []byte) []byte {
	speed := to.Baud != from.Baud
	if !speed && (to.Parity == from.Parity || to.Parity == fieldbus.NoParity) {
		return b
	}
	out := make([]byte, len(b))
	for i, v := range b {
		switch {
		case speed:
			out[i] = v<<3 | v>>6 ^ 0x5A
		case parityBit(v, to.Parity) == parityBit(v, from.Parity):
			out[i] = v
		}
	}
	return out
}

// parityBit is the bit after the data. A sender without parity has its stop bit
// there, a one.
func parityBit(b byte, parity fieldbus.Parity) byte {
	ones := byte(0)
	for ; b != 0; b &= b - 1 {
		ones ^= 1
	}
	switch parity {
	case fieldbus.EvenParity:
		return ones
	case fieldbus.OddParity:
		return ones ^ 1
	}
	return 1
}
