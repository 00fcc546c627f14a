package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"penstock/certs/trust"
	"penstock/internal/status"
)

// openTrust makes the keeper of the roots that servers must come from.
func (g *Gateway) openTrust() {
	g.trust = &trust.Keeper{
		Roots:   g.identity.Trust(),
		URL:     g.identity.AuthURL(),
		Certs:   []trust.Cert{g.identity.Certificate, func() (*tls.Certificate, error) { return g.enrolled.Certificate() }},
		Dial:    g.links.Dial,
		Clock:   g.time.Clock,
		Floor:   g.time.floor,
		Rand:    mathrand.Float64,
		Log:     g.log.With("part", "trust"),
		Changed: func() { g.session.Reconnect() }, // under what is trusted now
	}
}

// either is whichever of the two identities the auth service does not refuse, for
// what both may ask.
type either struct {
	certs []trust.Cert
	mu    sync.Mutex
	n     int // guarded by mu: of certs
}

// identities are the factory identity, and the operational certificate for the case
// that the factory identity comes from a root that was withdrawn.
func (g *Gateway) identities() []trust.Cert {
	return []trust.Cert{g.identity.Certificate, func() (*tls.Certificate, error) { return g.enrolled.Certificate() }}
}

// cert is what to show now.
func (e *either) cert() (*tls.Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err := e.certs[e.n](); err == nil {
		return c, nil
	}
	e.n = 0 // which a gateway always has
	return e.certs[0]()
}

// heard is told how it went: after a refusal the other one is shown next.
func (e *either) heard(err error) {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.n = (e.n + 1) % len(e.certs)
	}
}

// keepTrust looks after the roots until ctx ends. The time comes first: with a clock
// that is not set, every question would be asked twice. A fleet whose power came back
// together is spread as its sessions are.
func (g *Gateway) keepTrust(ctx context.Context) {
	g.time.firstTried(ctx)
	if g.clock.Sleep(ctx, time.Duration(mathrand.Float64()*float64(g.spread()))) == nil {
		g.trust.Keep(ctx)
	}
}

func (g *Gateway) trustStatus() status.Trust {
	r := g.identity.Trust().Status()
	s := status.Trust{Roots: r.Names, Until: r.Until, Version: r.Version, Fixed: r.Fixed}
	said, _ := g.trust.Trouble()
	var problems []string
	for _, p := range []string{r.Trouble, said} {
		if p != "" {
			problems = append(problems, p)
		}
	}
	s.Problem = strings.Join(problems, "; ")
	return s
}
