package gateway

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/beevik/ntp"

	"penstock/certs/trustedtime"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/status"
)

// built is before any time at which this firmware can run: a clock that says less
// has lost its time.
var built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// How often time servers are asked, and how long each may take.
const (
	ntpEvery   = 30 * time.Minute
	ntpRetry   = time.Minute
	ntpTimeout = 5 * time.Second
	// How often the machine is asked whether an NTP service of its own keeps its
	// clock, until somebody has told the time.
	askMachine = 10 * time.Second
	// How long the first session waits for the first answer.
	firstTime = 5 * time.Second
)

// timekeeper keeps the gateway's time right.
type timekeeper struct {
	*trustedtime.Clock
	machine clock.Machine

	tried   chan struct{} // closed once the auth service has been asked, whatever it said
	once    sync.Once
	mu      sync.Mutex
	trouble string // guarded by mu: of the last try that failed, "" when it was good
}

func (g *Gateway) openTime() error {
	c, err := trustedtime.Open(g.clock, disk.OS, filepath.Join(g.opts.State, "state"), built, g.log.With("part", "time"))
	g.time = &timekeeper{Clock: c, machine: g.clock, tried: make(chan struct{})}
	return err
}

// keepTime asks our own service for signed time, and the time servers of the
// configuration, if there are any, until ctx ends.
func (g *Gateway) keepTime(ctx context.Context) {
	var wg sync.WaitGroup
	if servers := g.opts.Config.TimeServers; len(servers) > 0 {
		wg.Go(func() { g.time.askServers(ctx, servers) })
	}
	shown := &either{certs: g.identities()}
	signed := &trustedtime.Client{URL: g.identity.AuthURL(), Roots: g.identity.Roots, Cert: shown.cert,
		Dial: g.links.Dial, Rand: rand.Reader}
	wg.Go(func() { g.time.Persist(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil && !g.time.TakeKept() {
			_ = g.time.Sleep(ctx, askMachine) // its error says that it was cut short
		}
	})
	signed.Keep(ctx, g.time.Clock, mathrand.Float64, func(err error) {
		g.time.heard(err)
		shown.heard(err)
		g.trust.Doubt(err)
		g.enrolled.Look() // a certificate that was good by the clock may not be
		g.time.once.Do(func() { close(g.time.tried) })
	})
	wg.Wait()
}

// firstTried waits until the auth service has been asked for the time once: a
// command that comes with the first connection should not meet a clock that
// nobody has told yet. It is no condition: a session needs no signed time.
func (k *timekeeper) firstTried(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_ = k.Sleep(ctx, firstTime) // its error says that it was cut short
	}()
	select {
	case <-k.tried:
	case <-ctx.Done():
	}
}

// heard notes how a try went.
func (k *timekeeper) heard(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = ""
	if err != nil {
		k.trouble = err.Error()
	}
}

func (k *timekeeper) askServers(ctx context.Context, servers []string) {
	for {
		wait := ntpEvery
		if err := trustedtime.AskNTP(ctx, k.Clock, servers, k.askNTP); err != nil {
			wait = ntpRetry
			if !k.Known() { // signed time is as good
				k.heard(err)
			}
		}
		if k.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// askNTP asks one server (RFC 5905).
func (k *timekeeper) askNTP(_ context.Context, server string) (time.Duration, error) {
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: ntpTimeout, GetSystemTime: k.machine.Now})
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return 0, err
	}
	return r.ClockOffset, nil
}

// floor is a time that has certainly passed.
func (k *timekeeper) floor() time.Time { return k.Clock.Status().Floor }

func (k *timekeeper) status() status.Clock {
	s := k.Clock.Status()
	k.mu.Lock()
	defer k.mu.Unlock()
	c := status.Clock{Source: string(s.Source), Floor: s.Floor, Problem: k.trouble}
	if s.Source != trustedtime.System {
		c.Age = s.Since
	}
	return c
}

// clockTrusted is for commands: what must not be repeated later is not done by a guess
// at the time.
func (g *Gateway) clockTrusted() bool { return g.time.Known() }
