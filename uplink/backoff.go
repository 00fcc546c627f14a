package uplink

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// pacer waits between attempts with full jitter: a random part of an interval
// that doubles. Full jitter spreads a crowd that failed together evenly over the
// interval, where a fixed share of it would only smear the peak.
type pacer struct {
	exp  *backoff.ExponentialBackOff
	b    Backoff
	rand func() float64
}

func newPacer(b Backoff, rand func() float64) *pacer {
	p := &pacer{b: b, rand: rand}
	p.exp = backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(b.Min), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0), // the jitter is ours
		backoff.WithMaxInterval(b.Max), backoff.WithMaxElapsedTime(0),
	)
	return p
}

// next is the wait before the next attempt. A gateway that nobody wants slows
// down to once an hour.
func (p *pacer) next(refused bool) time.Duration {
	p.exp.MaxInterval = p.b.Max
	if refused {
		p.exp.MaxInterval = max(p.b.Max, refusedMax)
	}
	return time.Duration(p.rand() * float64(min(p.exp.NextBackOff(), p.exp.MaxInterval)))
}

// herd makes the next interval one that a whole fleet can be spread over.
func (p *pacer) herd() {
	for interval := p.b.Min; interval < p.b.Herd; interval *= 2 {
		p.exp.NextBackOff()
	}
}

func (p *pacer) reset() { p.exp.Reset() }
