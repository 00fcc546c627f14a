package gateway

import (
	mathrand "math/rand/v2"
	"path/filepath"
	"time"

	"penstock/certs/est"
	"penstock/certs/operational"
	"penstock/internal/disk"
	"penstock/internal/status"
	"penstock/uplink"
)

// openEnrolled opens the operational identity, or finds that there is none yet. It
// is asked for over the link that the session would take.
func (g *Gateway) openEnrolled() error {
	server, err := est.NewClient(g.identity.AuthURL(), g.links.Dial, g.time)
	if err != nil {
		return err
	}
	g.enrolled = operational.Open(operational.Config{
		Factory: g.identity,
		Keys:    g.keys,
		FS:      disk.OS,
		Dir:     filepath.Join(g.opts.State, "identity"),
		Server:  server,
		Clock:   g.steady,
		Time:    g.time,
		Rand:    mathrand.Float64,
		Changed: func() { g.session.Reconnect() },
		Failed:  g.trust.Doubt,
		Log:     g.log.With("part", "identity"),
	})
	return nil
}

// identityStatus is the operational identity in everybody's words.
func (g *Gateway) identityStatus(now time.Time) status.Identity {
	s := g.enrolled.Status()
	return status.Identity{Issuer: s.Issuer, NotAfter: s.NotAfter, Days: s.Days, Unproven: s.Unproven, Problem: s.Problem,
		LastAttempt: s.LastAttempt, LastError: s.LastError, NextAttempt: s.NextAttempt, Why: s.Why,
		Factory: status.Factory{Issuer: g.identity.Issuer(), NotAfter: g.identity.NotAfter(), Problem: g.identity.Problem(now)}}
}

// uplinkState is what the session does; before it has begun, what it waits for.
func (g *Gateway) uplinkState(s uplink.State) string {
	select {
	case <-g.enrolled.Ready():
		return string(s)
	default:
		return "enrolling"
	}
}
