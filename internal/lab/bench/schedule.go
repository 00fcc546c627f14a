package bench

import (
	"context"
	"sync"
	"time"

	"penstock/internal/telemetry"
)

func init() {
	Register("schedule", "points read on time of 1, 8 and 32 pumps at 19200 baud, some of them dead (about 2 min)", schedule)
}

const (
	scheduleWarmUp = 15 * time.Second // in which the scheduler learns who is dead
	scheduleWindow = time.Minute      // in which slots count
)

func schedule(ctx context.Context, emit func(Metric)) error {
	plants := []struct{ pumps, dead int }{{1, 0}, {8, 0}, {8, 1}, {32, 0}, {32, 1}, {32, 8}}
	all, errs := make([][]Metric, len(plants)), make([]error, len(plants))
	var running sync.WaitGroup
	for i, p := range plants { // each on a line of its own, all at once
		running.Go(func() { all[i], errs[i] = measurePlant(ctx, p.pumps, p.dead) })
	}
	running.Wait()
	for i := range plants {
		if errs[i] != nil {
			return errs[i]
		}
		for _, m := range all[i] {
			emit(m)
		}
	}
	return nil
}

func measurePlant(ctx context.Context, pumps, dead int) (out []Metric, err error) {
	var t tally
	p, err := newPlant(ctx, pumps, dead, t.take)
	if err != nil {
		return nil, err
	}
	groups, longest, per := p.bus.Groups(), time.Duration(0), len(p.bus.Groups())/pumps
	for _, g := range groups {
		longest = max(longest, g.Period)
	}
	defer func() {
		if closed := p.close(); err == nil {
			err = closed
		}
	}()
	if err := wait(ctx, scheduleWarmUp); err != nil {
		return nil, err
	}
	began, spent := time.Now(), p.watch.spent.Load()
	t.begin(began, began.Add(scheduleWindow))
	if err := wait(ctx, scheduleWindow); err != nil {
		return nil, err
	}
	took, spent := time.Since(began), p.watch.spent.Load()-spent
	status := p.bus.Status()
	// What has begun in the window has until its next slot.
	if err := wait(ctx, longest+time.Second); err != nil {
		return nil, err
	}
	good, due, late := t.result(groups[:per*(pumps-dead)])
	keys := func() map[string]any {
		return map[string]any{
			"pumps": pumps, "dead": dead, "points": plantPoints, "baud": 19200,
			"stretched": status.Stretched, "planned": status.Planned, "occupancy": status.Occupancy,
		}
	}
	share := 0.0
	if due > 0 {
		share = float64(good) / float64(due)
	}
	return []Metric{
		{"points_efficiency", share, "1", keys()},
		{"points_per_s", float64(good) / took.Seconds(), "/s", keys()},
		{"lateness_max_ms", late.Seconds() * 1000, "ms", keys()},
		{"dead_share", float64(spent) / float64(took), "1", keys()},
	}, nil
}

// tally counts what became of the slots of a window. Its zero value counts
// nothing yet.
type tally struct {
	mu       sync.Mutex
	from, to time.Time
	groups   map[int]*slots
	late     time.Duration
}

// slots is what was seen of one group.
type slots struct {
	first, last time.Time
	good        int
}

func (t *tally) begin(from, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from, t.to, t.groups = from, to, map[int]*slots{}
}

func (t *tally) take(r telemetry.Reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.groups == nil || r.Slot.Before(t.from) || !r.Slot.Before(t.to) {
		return
	}
	s := t.groups[r.Group]
	if s == nil {
		s = &slots{first: r.Slot, last: r.Slot}
		t.groups[r.Group] = s
	}
	if r.Slot.Before(s.first) {
		s.first = r.Slot
	}
	if r.Slot.After(s.last) {
		s.last = r.Slot
	}
	if r.Quality != telemetry.Missing {
		s.good++
		t.late = max(t.late, r.Off)
	}
}

// result is how many readings of the groups came, how many were due between the
// first slot seen and the last, and the greatest lateness. A group of which
// nothing was seen was due once at least.
func (t *tally) result(groups []telemetry.Group) (good, due int, late time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, g := range groups {
		s := t.groups[i]
		if s == nil {
			due += len(g.Series) * max(1, int(t.to.Sub(t.from)/g.Period))
			continue
		}
		good += s.good
		due += len(g.Series) * (1 + int(s.last.Sub(s.first)/g.Period))
	}
	return good, due, t.late
}
