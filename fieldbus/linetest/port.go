package linetest

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"penstock/fieldbus"
)

// Port is a serial port in memory. Its zero value is of no use; see NewPort.
type Port struct {
	// OnWrite is called with each frame that is sent and the time of its first
	// bit. It belongs to the test, and may call Deliver. The frame is valid
	// until it returns.
	OnWrite func(frame []byte, at time.Time)

	// Far is the mode of the devices on the line. Where the port is opened in
	// another, bytes arrive as a real receiver would hand them over: zero for
	// each wrong parity bit, nonsense at another speed. Zero means that any
	// mode fits.
	Far fieldbus.Mode

	// WriteLimit, if not zero, is how many bytes of a write the driver takes.
	WriteLimit int

	clk  *Clock
	mode fieldbus.Mode

	mu       sync.Mutex
	coming   []delivery // by time
	timeout  time.Duration
	open     bool
	vanished bool
	trouble  error // what opening reports instead
}

type delivery struct {
	at    time.Time
	bytes []byte
}

// NewPort returns a port whose far end is silent.
func NewPort(clk *Clock) *Port { return &Port{clk: clk} }

// Open is a fieldbus.Opener for this port, whatever the path.
func (p *Port) Open(path string, mode fieldbus.Mode) (fieldbus.Port, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trouble != nil {
		return nil, &fieldbus.PortError{Path: path, Kind: p.trouble}
	}
	p.open, p.mode, p.timeout = true, mode, -1
	now := p.clk.Now()
	p.coming = slices.DeleteFunc(p.coming, func(d delivery) bool { return d.at.Before(now) })
	return p, nil
}

// Line returns an open line on the port.
func (p *Port) Line(mode fieldbus.Mode) *fieldbus.Line {
	l := fieldbus.NewLine("fake", mode, p.Open, p.clk)
	if err := l.Open(); err != nil {
		panic(err) // the test has set Fail before
	}
	return l
}

// Fail makes the next openings fail with kind, one of fieldbus.ErrMissing and
// its like; nil lets them succeed again.
func (p *Port) Fail(kind error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = kind
	p.vanished = false
}

// Vanish pulls the adapter out: the port fails from now on, and cannot be opened
// until Fail(nil).
func (p *Port) Vanish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vanished, p.trouble, p.coming = true, fieldbus.ErrMissing, nil
}

// Deliver makes bytes arrive at a time, all at once, as a receiver in the mode of
// that time hands them over. Deliveries may be made in any order, and outlast the
// port's closing: the wire does not know of it.
func (p *Port) Deliver(at time.Time, b ...byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := len(p.coming)
	for i > 0 && p.coming[i-1].at.After(at) {
		i--
	}
	p.coming = slices.Insert(p.coming, i, delivery{at, slices.Clone(b)})
}

// garble changes b as a receiver in the port's mode does with bytes that were sent in
// the far end's.
func (p *Port) garble(b []byte) {
	if p.Far == (fieldbus.Mode{}) || p.Far == p.mode {
		return
	}
	for i := range b {
		switch {
		case p.Far.Baud != p.mode.Baud:
			b[i] = b[i]<<3 | b[i]>>6 ^ 0x5A
		case p.Far.Parity != p.mode.Parity && p.mode.Parity != fieldbus.NoParity:
			if parityBit(b[i], p.Far.Parity) != parityBit(b[i], p.mode.Parity) {
				b[i] = 0
			}
		}
	}
}

// parityBit is the bit that a sender puts after the data. A sender without
// parity puts its stop bit there, a one.
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

var errClosed = errors.New("port is closed")

func (p *Port) check() error {
	switch {
	case !p.open:
		return errClosed
	case p.vanished:
		return syscall.EIO
	}
	return nil
}

// Read is fieldbus.Port's. Waiting moves the clock.
func (p *Port) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.check(); err != nil {
		return 0, err
	}
	now := p.clk.Now()
	if len(p.coming) == 0 || p.timeout >= 0 && p.coming[0].at.Sub(now) > p.timeout {
		if p.timeout < 0 {
			return 0, errors.New("linetest: a read without a time-out, and nothing will come")
		}
		p.clk.Advance(p.timeout)
		return 0, nil
	}
	p.clk.AdvanceTo(p.coming[0].at)
	now = p.clk.Now()
	n := 0
	for len(p.coming) > 0 && !p.coming[0].at.After(now) && n < len(b) {
		d := &p.coming[0]
		k := copy(b[n:], d.bytes)
		p.garble(b[n : n+k])
		n += k
		if d.bytes = d.bytes[k:]; len(d.bytes) == 0 {
			p.coming = slices.Delete(p.coming, 0, 1)
		}
	}
	return n, nil
}

// Write is fieldbus.Port's. It takes no time.
func (p *Port) Write(b []byte) (int, error) {
	p.mu.Lock()
	err := p.check()
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if p.WriteLimit > 0 && len(b) > p.WriteLimit {
		b = b[:p.WriteLimit]
	}
	if p.OnWrite != nil {
		p.OnWrite(b, p.clk.Now())
	}
	return len(b), nil
}

// SetReadTimeout is fieldbus.Port's.
func (p *Port) SetReadTimeout(d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = d
	return nil
}

// ResetInputBuffer is fieldbus.Port's.
func (p *Port) ResetInputBuffer() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clk.Now()
	p.coming = slices.DeleteFunc(p.coming, func(d delivery) bool { return !d.at.After(now) })
	return p.check()
}

// Drain is fieldbus.Port's.
func (p *Port) Drain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check()
}

// Close is fieldbus.Port's.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.check(); err != nil {
		return err
	}
	p.open = false
	return nil
}
