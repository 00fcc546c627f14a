package endpoint

import (
	"context"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
)

// quiet is a store in which nothing is to be sent, and counts who asks.
type quiet struct {
	Store
	version int64
	looks   int
}

func (q *quiet) DownlinkVersion(context.Context) (int64, error) { return q.version, nil }

func (q *quiet) Downlinks(context.Context) (map[string]*store.Downlink, error) {
	q.looks++
	return nil, nil
}

type stepped struct {
	clock.Clock
	now time.Time
}

func (s *stepped) Now() time.Time { return s.now }

// TestNothingIsLookedUpWhereNothingHasChanged: half a second by half a second, the
// endpoint reads one number; it looks when that is another, and now and then.
func TestNothingIsLookedUpWhereNothingHasChanged(t *testing.T) {
	q, c := &quiet{version: 1}, &stepped{now: time.Unix(1e9, 0)}
	e := &Endpoint{cfg: Config{Store: q, Clock: c}}
	var d delivery
	looks := func(steps int) int {
		t.Helper()
		before := q.looks
		for range steps {
			if err := d.look(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			c.now = c.now.Add(lookEvery)
		}
		return q.looks - before
	}
	if n := looks(9); n != 1 {
		t.Errorf("%d looks in 9 steps, one was due", n)
	}
	q.version++
	if n := looks(1); n != 1 {
		t.Errorf("%d looks after a change", n)
	}
	d.again = true // somebody has subscribed
	if n := looks(1); n != 1 {
		t.Errorf("%d looks after a subscription", n)
	}
	if n := looks(100); n < 9 || n > 11 {
		t.Errorf("%d looks in 50 s, one is due in 5", n)
	}
	c.now = c.now.Add(-time.Hour) // the clock was set
	if n := looks(1); n != 1 {
		t.Errorf("%d looks after the clock went back", n)
	}
}
