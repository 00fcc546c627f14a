package poll

import "time"

// The share of the bus that devices which do not answer may take, and how much
// of it can be saved up for a retry.
const (
	defaultDeadShare = 0.1
	savedMost        = time.Second
)

// budget bounds the time that is spent on devices that do not answer. Time that
// passes is income at the set share; a request that such a device does not answer
// is paid from it, and is made only when it can be paid. A device that answers at
// least a quarter of its requests is alive (health), and its retries cost the
// budget nothing: otherwise a few disturbed frames would silence a living pump.
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
