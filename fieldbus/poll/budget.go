package poll

import "time"

// The share of the bus that devices which do not answer may take, and how much
// of it can be saved up for a retry.
const (
	defaultDeadShare = 0.1
	savedMost        = time.Second
)

// budget bounds the time that is spent on devices that do not answer. Time that
// passes is income at the set share; a request that nobody answers is paid from
// it. A request to a device that did not answer the last one is made only when
// it can be paid. So over any time the share is kept, but for what devices cost
// that were good until then: that is a debt, and is paid back first.
type budget struct {
	share   float64
	balance time.Duration
	last    time.Time // of the last income
}

func (b *budget) earn(now time.Time) {
	if !b.last.IsZero() {
		b.balance = min(b.balance+time.Duration(b.share*float64(now.Sub(b.last))), savedMost)
	}
	b.last = now
}

func (b *budget) pay(d time.Duration) { b.balance -= d }

// when is the time at which a request that would cost d may be made.
func (b *budget) when(d time.Duration, now time.Time) time.Time {
	short := min(d, savedMost) - b.balance
	if short <= 0 {
		return now
	}
	return now.Add(time.Duration(float64(short)/b.share) + time.Millisecond)
}
