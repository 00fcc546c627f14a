package uplink

import (
	"context"
	"log/slog"
	"path/filepath"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/uplink/link"
)

// Simulation is a session without a network: what it would ask, dial and wait for
// is real, and somebody else plays what comes of it. A fleet of ten thousand fits
// into a benchmark this way.
type Simulation struct {
	// Assign plays the auth service; failed names the endpoint that could not be
	// reached.
	Assign func(ctx context.Context, failed string) (Assignment, error)
	// Connect plays a connection from its first packet to its end, and returns
	// why it ended; good says, once the endpoint has acknowledged something.
	Connect func(ctx context.Context, endpoint string, good func()) error

	FS    disk.FS // keeps assignment.json in Dir
	Dir   string
	Clock clock.Clock
	Rand  func() float64
	// As in Config.
	Config Config
}

type assignFunc func(ctx context.Context, failed string) (Assignment, error)

func (f assignFunc) Assign(ctx context.Context, failed string) (Assignment, error) {
	return f(ctx, failed)
}

// Run plays a session until ctx ends. Of its Config, Spread and Backoff count.
func (m Simulation) Run(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	cfg := m.Config
	cfg.Clock, cfg.Rand, cfg.Log, cfg.Links = m.Clock, m.Rand, log, usualWay{}
	if cfg.Backoff == (Backoff{}) {
		cfg.Backoff = DefaultBackoff
	}
	s := &Session{cfg: cfg, director: newDirector(assignFunc(m.Assign), m.FS, filepath.Clean(m.Dir), log),
		pacer: newPacer(cfg.Backoff, cfg.Rand), path: usualWay{}, poke: make(chan struct{}, 1), again: make(chan struct{}, 1)}
	s.connect = func(ctx context.Context, endpoint string) error { return m.Connect(ctx, endpoint, s.proven) }
	return s.Run(ctx)
}

var _ link.Path = usualWay{}
