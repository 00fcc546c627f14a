package backend

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
)

// ledger is a store's revocations, in memory.
type ledger struct {
	mu    sync.Mutex
	all   []store.Revocation
	fails error
}

func (l *ledger) Revocations(_ context.Context, after int64) (fresh []store.Revocation, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.all {
		if r.ID > after {
			fresh = append(fresh, r)
		}
	}
	return fresh, l.fails
}

func (l *ledger) Standing(_ context.Context, serial, number string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.all {
		if r.Gateway == serial && (r.Number == "" || r.Number == number) && r.Lifted.IsZero() {
			return &store.RevokedError{Gateway: serial}
		}
	}
	return nil
}

func (l *ledger) add(r store.Revocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.ID = int64(len(l.all) + 1)
	l.all = append(l.all, r)
}

func TestARevocationActsOnLiveConnectionsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		l.add(store.Revocation{Gateway: "GW-OLD", Reason: "of before"})
		seen, err := lastRevocation(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var dropped []string
		calls := func() []string {
			mu.Lock()
			defer mu.Unlock()
			defer func() { dropped = nil }()
			return dropped
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			dropRevoked(ctx, l, seen, clock.System, func(serial, number string) {
				mu.Lock()
				defer mu.Unlock()
				dropped = append(dropped, serial+number)
			}, slog.New(slog.DiscardHandler))
		}()
		time.Sleep(5 * time.Second)
		if got := calls(); len(got) != 0 {
			t.Errorf("dropped before anything happened: %v", got)
		}
		l.add(store.Revocation{Gateway: "GW-0001", Reason: "stolen"})
		l.add(store.Revocation{Gateway: "GW-0002", Number: "77", Reason: "replaced"})
		time.Sleep(time.Second)
		if got := calls(); !slices.Contains(got, "GW-0001") || !slices.Contains(got, "GW-000277") {
			t.Errorf("a second later were dropped: %v", got)
		}
		// A handshake that was under way then stands a few seconds later.
		time.Sleep(10 * time.Second)
		if got := calls(); !slices.Contains(got, "GW-0001") || !slices.Contains(got, "GW-000277") || slices.Contains(got, "GW-0002") {
			t.Errorf("during the handshakes that were under way were dropped: %v", got)
		}
		time.Sleep(25 * time.Second)
		calls()
		time.Sleep(time.Minute)
		if got := calls(); len(got) != 0 {
			t.Errorf("long after were dropped: %v", got)
		}
		// A store that fails for a while is asked again.
		l.mu.Lock()
		l.fails = errors.New("locked")
		l.mu.Unlock()
		time.Sleep(time.Minute)
		l.mu.Lock()
		l.fails = nil
		l.mu.Unlock()
		l.add(store.Revocation{Gateway: "GW-0003", Reason: "stolen"})
		time.Sleep(time.Second)
		if got := calls(); !slices.Contains(got, "GW-0003") || slices.Contains(got, "GW-OLD") {
			t.Errorf("after the store had failed were dropped: %v", got)
		}
		stop()
		<-ended
	})
}
