package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"penstock/internal/clock"
)

// errTimeout is the cause of a context that withTimeout ended.
var errTimeout = errors.New("timed out")

// withTimeout is context.WithTimeout by a handed-in clock.
func withTimeout(ctx context.Context, clk clock.Clock, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		if clk.Sleep(ctx, d) == nil {
			cancel(fmt.Errorf("%w after %v", errTimeout, d))
		}
	}()
	return ctx, func() { cancel(nil) }
}

// cause prefers the reason for which ctx ended to "context canceled".
func cause(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// every calls send each d until ctx ends; a tick that nobody takes is dropped.
func every(ctx context.Context, clk clock.Clock, d time.Duration) <-chan struct{} {
	ticks := make(chan struct{}, 1)
	go func() {
		for clk.Sleep(ctx, d) == nil {
			select {
			case ticks <- struct{}{}:
			default:
			}
		}
	}()
	return ticks
}
