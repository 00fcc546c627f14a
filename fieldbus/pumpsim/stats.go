package pumpsim

import (
	"slices"
	"time"
)

// Stats are figures of a line since it was made.
type Stats struct {
	Requests int // frames heard
	Unheard  int // frames that were damaged, in another mode, or for nobody here
	Served   int // answers, as many as the log has
	Lateness Lateness
}

// Lateness is how much later than on a wire the last bytes of answers were
// released: the simulator's own error. It is never early.
type Lateness struct {
	Answers            int
	P50, P90, P99, Max time.Duration
}

// latenesses keeps the last of them, and the greatest ever.
type latenesses struct {
	n    int
	max  time.Duration
	last [1 << 14]time.Duration
}

func (l *latenesses) add(d time.Duration) {
	l.last[l.n%len(l.last)] = d
	l.n++
	l.max = max(l.max, d)
}

func (l *latenesses) figures() Lateness {
	sorted := slices.Clone(l.last[:min(l.n, len(l.last))])
	if len(sorted) == 0 {
		return Lateness{}
	}
	slices.Sort(sorted)
	at := func(share float64) time.Duration { return sorted[int(share*float64(len(sorted)-1))] }
	return Lateness{Answers: l.n, P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: l.max}
}
