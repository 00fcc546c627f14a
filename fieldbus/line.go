package fieldbus

import (
	"errors"
	"fmt"
	"io"
	"time"

	"penstock/internal/clock"
)

// ErrTimeout is returned by Read when the deadline passed without a byte.
// Its Timeout method tells it apart where this package is not known.
var ErrTimeout error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "nothing was heard before the deadline" }
func (timeoutError) Timeout() bool { return true }

// ErrBabble is returned by Quiet when the line does not fall silent.
var ErrBabble = errors.New("the line does not fall silent: another master, a stuck transmitter, or A and B swapped")

// babble is how long Quiet puts up with a line that is never silent.
const babble = 2 * time.Second

// Line is one serial line. It outlives its port: when an adapter vanishes, the
// same Line is opened again, and its counters go on.
//
// A Line belongs to one goroutine.
type Line struct {
	path string
	mode Mode
	open Opener
	clk  clock.Clock

	port Port      // nil while closed
	last time.Time // when the wire was last known to carry a bit, ours or theirs

	count Counters
}

// NewLine returns the line at path, not yet open.
func NewLine(path string, mode Mode, open Opener, clk clock.Clock) *Line {
	return &Line{path: path, mode: mode, open: open, clk: clk}
}

// Path is the port's name, as it was given.
func (l *Line) Path() string { return l.path }

// Mode is the speed and format in force.
func (l *Line) Mode() Mode { return l.mode }

// Counters are the line's counters. They may be read from any goroutine.
func (l *Line) Counters() *Counters { return &l.count }

// Clock is the clock that the line's deadlines are told by.
func (l *Line) Clock() clock.Clock { return l.clk }

// Open opens the port. The error is a *PortError unless the mode is impossible.
// Opening an open line does nothing.
func (l *Line) Open() error {
	if l.port != nil {
		return nil
	}
	port, err := l.open(l.path, l.mode)
	if err != nil {
		return err
	}
	l.port = port
	l.last = l.clk.Now() // somebody may be in the middle of a frame
	l.count.Opened.Add(1)
	return nil
}

// IsOpen tells whether the port is open.
func (l *Line) IsOpen() bool { return l.port != nil }

// Remarks are things about the open port that a technician should know: a
// direction control that the driver does not have, an adapter that holds bytes
// back.
func (l *Line) Remarks() []string { return remarksOf(l.port) }

func remarksOf(p Port) []string {
	if r, ok := p.(interface{ Remarks() []string }); ok {
		return r.Remarks()
	}
	return nil
}

// Close gives the port back.
func (l *Line) Close() error {
	if l.port == nil {
		return nil
	}
	err := l.port.Close()
	l.port = nil
	return err
}

// SetMode changes speed and format. An open port is opened anew.
func (l *Line) SetMode(mode Mode) error {
	if err := mode.Validate(); err != nil {
		return err
	}
	if l.mode == mode {
		return nil
	}
	was := l.IsOpen()
	if err := l.Close(); err != nil {
		return fmt.Errorf("closing %s to change its mode: %w", l.path, err)
	}
	l.mode = mode
	if !was {
		return nil
	}
	return l.Open()
}

// Write sends a frame in one write and returns when its first bit left. It does
// not wait for the last one.
func (l *Line) Write(frame []byte) (time.Time, error) {
	at := l.clk.Now()
	if l.port == nil {
		return at, &PortError{Path: l.path, Kind: ErrClosed}
	}
	n, err := l.port.Write(frame)
	if err == nil && n < len(frame) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return at, l.failed(err)
	}
	l.count.Sent.Add(uint64(n))
	l.last = at.Add(l.mode.Wire(n))
	return at, nil
}

// Read waits for bytes until the deadline and returns those that are there. It
// returns ErrTimeout when the deadline passes first; a deadline in the past
// returns what has already arrived.
func (l *Line) Read(p []byte, deadline time.Time) (int, error) {
	for {
		left := deadline.Sub(l.clk.Now())
		n, err := l.read(p, left)
		if n > 0 || err != nil {
			return n, err
		}
		if left <= 0 {
			return 0, ErrTimeout
		}
	}
}

// read is one Read of the port. (0, nil) is the port's way to say time-out.
func (l *Line) read(p []byte, wait time.Duration) (int, error) {
	if l.port == nil {
		return 0, &PortError{Path: l.path, Kind: ErrClosed}
	}
	// The port counts in microseconds; rounding down would end a wait early.
	wait = max(0, wait+time.Microsecond-1).Truncate(time.Microsecond)
	if err := l.port.SetReadTimeout(wait); err != nil {
		return 0, l.failed(err)
	}
	n, err := l.port.Read(p)
	if n > 0 {
		l.last = l.clk.Now()
		l.count.Received.Add(uint64(n))
		return n, nil
	}
	if err != nil {
		return 0, l.failed(err)
	}
	return 0, nil
}

// Quiet waits until the wire has carried nothing for d. What arrives meanwhile
// is put into heard, from its start again when it is full, and n is how much of
// heard holds such bytes; they are of no use but to tell what is going on. The
// receive buffer is empty at the end, so that what Read returns next came after
// Quiet. It returns ErrBabble when there is no silence to be had.
func (l *Line) Quiet(d time.Duration, heard []byte) (n int, err error) {
	began := l.clk.Now()
	for now, first := began, true; ; first = false {
		left := d - now.Sub(l.last)
		if left <= 0 && !first {
			break
		}
		if n == len(heard) {
			n = 0
		}
		// The first look does not wait when the line has long been idle: it
		// only asks whether somebody is talking right now.
		k, err := l.read(heard[n:], left)
		if err != nil {
			return n, err
		}
		n += k
		now = l.clk.Now()
		if k > 0 && now.Sub(began) > babble+d {
			l.count.Babble.Add(1)
			return n, ErrBabble
		}
	}
	if err := l.port.ResetInputBuffer(); err != nil {
		return n, l.failed(err)
	}
	return n, nil
}

// failed closes the port after an error of the operating system.
func (l *Line) failed(err error) error {
	l.count.Vanished.Add(1)
	l.port.Close() // it is lost already; its own complaint adds nothing
	l.port = nil
	return portError(l.path, err, ErrVanished)
}
