package bench

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// virtual is a clock that jumps: when everybody who lives by it sleeps, it goes on
// to the next who is to wake. Everybody is counted: those who begin by add, and
// those who end by done.
type virtual struct {
	mu      sync.Mutex
	now     time.Time
	awake   int
	waiting sleepers
}

type sleeper struct {
	until time.Time
	wake  chan struct{}
}

func newVirtual() *virtual {
	return &virtual{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (v *virtual) add(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.awake += n
}

func (v *virtual) done() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rest()
}

func (v *virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

func (v *virtual) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	v.mu.Lock()
	s := &sleeper{v.now.Add(d), make(chan struct{})}
	heap.Push(&v.waiting, s)
	v.rest()
	v.mu.Unlock()
	<-s.wake
	return ctx.Err()
}

// rest notes that one is not awake any more; the last one moves the clock. mu is
// held.
func (v *virtual) rest() {
	if v.awake--; v.awake > 0 || len(v.waiting) == 0 {
		return
	}
	v.now = v.waiting[0].until
	for len(v.waiting) > 0 && !v.waiting[0].until.After(v.now) {
		close(heap.Pop(&v.waiting).(*sleeper).wake)
		v.awake++
	}
}

type sleepers []*sleeper

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].until.Before(s[j].until) }
func (s sleepers) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sleepers) Push(x any)        { *s = append(*s, x.(*sleeper)) }
func (s *sleepers) Pop() any {
	old := *s
	last := old[len(old)-1]
	*s = old[:len(old)-1]
	return last
}
