// Package clock hands time in, so that every wait and every time stamp can be
// played in a test.
//
// Code below cmd and internal/gateway never calls time.Now or time.Sleep; it
// is given a Clock. Tests of code that waits run in a testing/synctest bubble
// with System, or with a simulated clock of their own.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and waits.
type Clock interface {
	// Now is the current time, with a monotonic reading where there is one.
	Now() time.Time
	// Sleep waits until d has passed or ctx ends; then it returns ctx's error.
	Sleep(ctx context.Context, d time.Duration) error
}

// System is the machine's own clock, and how long it has run.
var System Machine = system{}

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	if ctx.Done() == nil {
		time.Sleep(d) // needs no timer of its own, so it allocates nothing
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
