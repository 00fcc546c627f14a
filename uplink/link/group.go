package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

const (
	// downAfter failures in a row a link is down; upAfter successes in a row it is
	// back, if they span its hold.
	downAfter = 3
	upAfter   = 3
	// The hold grows while a link comes back and does not stay.
	holdFirst = 20 * time.Second
	holdMost  = 30 * time.Minute
	stays     = 10 * time.Minute

	look       = time.Second // how often carriers are looked at
	countEvery = 10          // looks between two of the byte counters

	probeAgain = 10 * time.Second // after a probe that succeeded
	probeFirst = 10 * time.Second // after one that failed, then doubled
	probeMost  = 5 * time.Minute
	probeTime  = 15 * time.Second
)

// Path is the link that was chosen for one attempt to connect. Its methods may be
// called from any goroutine.
type Path interface {
	Name() string
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Traits() Traits
	// Answered says that one of our services answered over it, Failed that none
	// did.
	Answered()
	Failed(err error)
	// Left is closed when another link should be taken.
	Left() <-chan struct{}
	// History tells whether anything but alarms and commands may go over it.
	History() bool
}

// Config is what a Group needs. Every field but Date is required.
type Config struct {
	Links []Link // the most preferred first
	// Probe makes one TLS handshake with one of our services over a link.
	Probe func(ctx context.Context, l Link) error
	// Warn takes a warning of a data budget to the cloud. It returns nil once that
	// is durable, and is asked again otherwise. It must not call the group.
	Warn  func(Warning) error
	FS    disk.FS
	Dir   string // keeps budget.json
	Clock clock.Clock
	// Date is the time of day, by which months end; zero while it is not known for
	// certain. nil: Clock's.
	Date func() time.Time
	Rand func() float64 // in [0,1), for jitter
	Log  *slog.Logger
}

// Group chooses among links. Run looks after them; the other methods may be
// called from any goroutine.
type Group struct {
	cfg    Config
	probes sync.WaitGroup

	mu      sync.Mutex // guards what follows
	links   []*state
	current *choice
	meter   *meter
}

// state is what is known of one link.
type state struct {
	Link
	rank      int
	up        bool
	problem   error // why not up, or the last failure
	since     time.Time
	failures  int
	successes int
	first     time.Time // of the successes in a row
	hold      time.Duration
	cameBack  time.Time
	tried     time.Time

	probing   bool
	nextProbe time.Time
	probeWait time.Duration
}

// choice is a Path: one link, taken once.
type choice struct {
	*state
	g    *Group
	left chan struct{}
	once sync.Once
}

// NewGroup makes a group. All links count as up until they have failed.
func NewGroup(cfg Config) (*Group, error) {
	if len(cfg.Links) == 0 {
		return nil, errors.New("no link: name at least one way out")
	}
	if cfg.Date == nil {
		cfg.Date = cfg.Clock.Now
	}
	g := &Group{cfg: cfg, meter: openMeter(cfg.FS, cfg.Dir, cfg.Warn, cfg.Log)}
	now := cfg.Clock.Now()
	for i, l := range cfg.Links {
		g.links = append(g.links, &state{Link: l, rank: i, up: true, since: now, hold: holdFirst, probeWait: probeFirst})
	}
	return g, nil
}

// Next is the link to use for the next attempt. There always is one.
func (g *Group) Next() Path {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.choose()
	s.tried = g.cfg.Clock.Now()
	if g.current == nil || g.current.state != s {
		g.cfg.Log.Info("going over", "link", s.Name())
	}
	g.current = &choice{state: s, g: g, left: make(chan struct{})}
	return g.current
}

// choose picks a link. mu is held.
func (g *Group) choose() *state {
	var best *state
	better := func(a, b *state) bool {
		aReady, bReady := a.Ready() == nil, b.Ready() == nil
		switch {
		case aReady != bReady:
			return aReady
		case a.up != b.up:
			return a.up
		case a.up:
			return a.rank < b.rank
		// All are down. The one that answered last is worth more than an opinion;
		// otherwise each has its turn.
		case (a.successes > 0) != (b.successes > 0):
			return a.successes > 0
		case !a.tried.Equal(b.tried):
			return a.tried.Before(b.tried)
		}
		return a.rank < b.rank
	}
	for _, s := range g.links {
		if best == nil || better(s, best) {
			best = s
		}
	}
	return best
}

func (c *choice) Left() <-chan struct{} { return c.left }

func (c *choice) leave() { c.once.Do(func() { close(c.left) }) }

func (c *choice) Answered() {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.succeeded(c.state)
}

func (c *choice) Failed(err error) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.failed(c.state, err)
}

func (c *choice) History() bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return !c.g.meter.spent(c.Name(), c.Traits())
}

// succeeded notes an exchange with one of our services. mu is held.
func (g *Group) succeeded(s *state) {
	now := g.cfg.Clock.Now()
	if s.successes == 0 {
		s.first = now
	}
	s.failures = 0
	s.successes++
	if s.up || s.successes < upAfter || now.Sub(s.first) < s.hold {
		return
	}
	s.up, s.since, s.cameBack, s.problem = true, now, now, nil
	s.probeWait = probeFirst
	g.cfg.Log.Info("a link is back", "link", s.Name(), "successes", s.successes)
	if g.current != nil && g.current.rank > s.rank {
		g.current.leave()
	}
}

// failed notes an attempt or session that ended badly. mu is held.
func (g *Group) failed(s *state, err error) {
	s.successes = 0
	s.failures++
	s.problem = err
	if s.up && s.failures >= downAfter {
		g.down(s, err)
	}
}

// down gives a link up for now. mu is held.
func (g *Group) down(s *state, err error) {
	now := g.cfg.Clock.Now()
	if !s.cameBack.IsZero() && now.Sub(s.cameBack) < stays {
		s.hold = min(2*s.hold, holdMost)
	} else {
		s.hold = holdFirst
	}
	s.up, s.since, s.problem, s.successes = false, now, err, 0
	s.nextProbe = now.Add(g.jitter(probeFirst))
	g.cfg.Log.Warn("a link is down", "link", s.Name(), "err", err)
	if g.current == nil || g.current.state != s || len(g.links) == 1 {
		return
	}
	// Without carrier it cannot carry anything: do not wait for time-outs. And for a
	// link that is up nobody has to wait.
	if best := g.choose(); s.Ready() != nil || best != s && best.up {
		g.current.leave()
	}
}

// jitter is between half of d and d.
func (g *Group) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(g.cfg.Rand()*float64(d/2))
}

// Run looks after the links until ctx ends.
func (g *Group) Run(ctx context.Context) {
	for n := 0; ; n++ {
		g.lookAt(ctx, n%countEvery == 0)
		if g.cfg.Clock.Sleep(ctx, look) != nil {
			break
		}
	}
	wg := &g.probes
	wg.Wait() // they end with ctx
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count()
	g.meter.save()
}

// lookAt takes in carriers and counters and begins the probes that are due.
func (g *Group) lookAt(ctx context.Context, count bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Clock.Now()
	if count {
		g.count()
	}
	for _, s := range g.links {
		if err := s.Ready(); err != nil {
			if s.up && len(g.links) > 1 {
				g.down(s, err)
			} else if !s.up {
				s.successes = 0 // it has to hold anew
			}
			continue
		}
		// A link that carries proves itself; a lesser one need not be asked, since
		// that would cost and change nothing.
		if s.up || s.probing || now.Before(s.nextProbe) || g.current == nil || s.rank >= g.current.rank {
			continue
		}
		s.probing = true
		g.probes.Go(func() { g.probe(ctx, s) })
	}
}

// probe makes one bounded handshake over a link that is down.
func (g *Group) probe(ctx context.Context, s *state) {
	within, cancel := context.WithCancelCause(ctx)
	go func() {
		if g.cfg.Clock.Sleep(within, probeTime) == nil {
			cancel(fmt.Errorf("no answer within %v", probeTime))
		}
	}()
	err := g.cfg.Probe(within, s.Link)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		err = context.Cause(within)
	}
	cancel(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	s.probing = false
	now := g.cfg.Clock.Now()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.successes, s.problem = 0, err
		s.nextProbe = now.Add(g.jitter(s.probeWait))
		s.probeWait = min(2*s.probeWait, probeMost)
		g.cfg.Log.Debug("a link is still down", "link", s.Name(), "err", err)
	default:
		g.succeeded(s)
		s.nextProbe = now.Add(probeAgain)
	}
}

// count reads the counters of all links. mu is held.
func (g *Group) count() {
	for _, s := range g.links {
		if n, err := s.Bytes(); err == nil { // a device that is not there has carried nothing
			g.meter.count(s.Name(), n, s.Traits(), g.cfg.Date())
		}
	}
}

// Status is a link at one moment.
type Status struct {
	Name     string
	Current  bool // the session uses it, or tries to
	Up       bool
	Since    time.Time // of Up
	Problem  string    // why it is not up
	Advice   []string  // what an installer has to see to
	Month    string    // "2026-11"
	Bytes    uint64    // in that month, both ways
	Budget   int64     // 0: no limit
	Metered  bool
	Failures int // in a row
}

// Status tells how the links are, the most preferred first.
func (g *Group) Status() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Status
	for _, s := range g.links {
		t, u := s.Traits(), g.meter.of(s.Name())
		st := Status{Name: s.Name(), Current: g.current != nil && g.current.state == s, Since: s.since,
			Advice: s.Problems(), Month: u.Month, Bytes: u.Bytes, Budget: t.Budget, Metered: t.Metered, Failures: s.failures}
		st.Up = s.Ready() == nil && (s.up || st.Current && s.successes > 0)
		switch err := s.Ready(); {
		case err != nil:
			st.Problem = err.Error()
		case s.problem != nil && !st.Up:
			st.Problem = s.problem.Error()
		}
		if p := g.meter.problem(s.Name(), t); p != "" {
			st.Advice = append(st.Advice, p)
		}
		all = append(all, st)
	}
	return all
}
