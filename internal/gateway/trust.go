package gateway

import (
	"context"
	"crypto/tls"
	mathrand "math/rand/v2"
	"strings"

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

// keepTrust looks after the roots until ctx ends. The time comes first: with a clock
// that is not set, every question would be asked twice.
func (g *Gateway) keepTrust(ctx context.Context) {
	g.time.firstTried(ctx)
	g.trust.Keep(ctx)
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
