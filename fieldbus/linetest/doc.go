// Package linetest has a serial port that exists only in memory, on a clock
// that moves only when somebody waits.
//
// A test scripts the far end: Port.OnWrite sees each frame as it is sent and
// says, with Port.Deliver, which bytes come back and when. A million
// transactions with their time-outs take seconds, and each plays the same way
// every time.
//
// TestPort is the conformance suite of fieldbus.Port. The port in memory and a
// real one on a pseudo-terminal both pass it.
package linetest

import (
	"context"
	"sync"
	"time"
)

// Clock is a clock that moves only by waiting: Sleep, and reads of a Port,
// return at once and leave it later. It is a clock.Clock, safe for several
// goroutines.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Epoch is where a new Clock starts.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// NewClock returns a clock at Epoch.
func NewClock() *Clock { return &Clock{now: Epoch} }

// Now is the simulated time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Sleep moves the clock by d.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.Advance(d)
	return nil
}

// Advance moves the clock by d; backwards it does not go.
func (c *Clock) Advance(d time.Duration) { c.AdvanceTo(c.Now().Add(d)) }

// AdvanceTo moves the clock to t, unless it is there already.
func (c *Clock) AdvanceTo(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.now) {
		c.now = t
	}
}
