package pki_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/disk/faultdisk"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// calendar is a clock that a test turns.
type calendar struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *calendar) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func (c *calendar) turn(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
}

// era is a backend that lives for decades, and the gateways that it has issued for.
type era struct {
	t      *testing.T
	clock  *calendar
	begin  time.Time
	ca     *pki.CA
	config *tls.Config
}

func newEra(t *testing.T) *era {
	t.Helper()
	e := &era{t: t, begin: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	e.clock = &calendar{now: e.begin}
	var err error
	if e.ca, err = pki.OpenCA(faultdisk.New(), pkitest.Dir, e.clock, rand.Reader); err != nil {
		t.Fatal(err)
	}
	server, err := e.ca.Server("auth", []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	e.config = pki.ForGatewaysUnder(server.Certificate, e.ca.Pool, e.clock.Now, func(string, *x509.Certificate) error { return nil })
	return e
}

// after turns the clock to so long after the beginning.
func (e *era) after(d time.Duration) { e.clock.turn(e.begin.Add(d)) }

func (e *era) rotate(names ...string) {
	e.t.Helper()
	for _, name := range names {
		if err := e.ca.Rotate(name); err != nil {
			e.t.Fatal(err)
		}
	}
}

// aged is a gateway with a certificate and roots of its day.
type aged struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

func (e *era) gateway(role pki.Role) aged {
	e.t.Helper()
	key := pkitest.Key(e.t)
	text, request := pkitest.Request(e.t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, key)
	var leaf *x509.Certificate
	var err error
	if role == pki.Factory {
		leaf, err = e.ca.IssueGateway(text, "lab")
	} else {
		leaf, err = e.ca.IssueOperational(request)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	chain, err := e.ca.ChainOf(leaf)
	if err != nil {
		e.t.Fatal(err)
	}
	return aged{pkitest.Join(key, chain...), rootsOf(e.t, e.ca.Roots())}
}

// meet is nil when the gateway and the server believe each other today.
func (e *era) meet(g aged) error {
	return meet(e.t, e.config, pki.ForServer("localhost", func() (*tls.Certificate, error) { return &g.cert, nil }, g.roots, e.clock.Now, nil))
}

func (e *era) meets(when string, g aged) {
	e.t.Helper()
	if err := e.meet(g); err != nil {
		e.t.Errorf("%s: %s", when, pki.Explain(err))
	}
}

func (e *era) refused(when string, g aged, why string) {
	e.t.Helper()
	if err := e.meet(g); err == nil || !strings.Contains(err.Error(), why) {
		e.t.Errorf("%s: %v; it should fail for %q", when, err, why)
	}
}

// TestRotationOfARootPastItsExpiry follows gateways of both roots from the rotation to
// beyond the end of the first one.
func TestRotationOfARootPastItsExpiry(t *testing.T) {
	e := newEra(t)
	e.after(19 * year)
	e.rotate("factory")
	// The servers' authority has ended twice by then; a cautious operator rotates before.
	e.rotate("servers", "operational")
	old := e.gateway(pki.Factory)
	e.meets("before the rotation, the gateway of the first root", old)

	e.after(20 * year)
	e.rotate("root")
	young := e.gateway(pki.Factory)
	e.meets("the day of the rotation, the gateway of the first root", old)
	e.meets("the day of the rotation, the gateway of the second root", young)

	e.after(28 * year)
	e.rotate("servers", "operational")
	e.after(30*year - day)
	e.meets("the last day of the first root, its gateway", old)
	e.meets("the last day of the first root, the gateway of the second", young)

	e.after(30*year + day)
	// Nothing that the first root stands for outlives it: not the servers for its
	// gateways, not its gateways for the servers.
	e.refused("after the end of the first root, its gateway", old, "expired")
	e.meets("after the end of the first root, the gateway of the second", young)
	old.roots = young.roots // a gateway that has taken the new root …
	e.refused("with the new root and the old identity", old, "expired")
	enrolled := e.gateway(pki.Operational)
	old.cert = enrolled.cert // … and has enrolled under it
	e.meets("with the new root and a certificate of today", old)

	// Rotating on goes without the key, or the signature, of what has expired.
	e.after(31 * year)
	e.rotate("root", "signing")
	e.meets("after a third root, the gateway of the second", young)
	var trusted []string
	_, roots := e.ca.Trusted()
	for _, r := range roots {
		trusted = append(trusted, r.Subject.CommonName)
	}
	if got := strings.Join(trusted, ", "); got != "Penstock Root 2, Penstock Root 3" {
		t.Errorf("gateways shall trust %s", got)
	}
	for _, c := range e.ca.Authorities() {
		if c.Subject.CommonName == "Penstock Root 3" && c.Issuer.CommonName == "Penstock Root" {
			t.Error("an expired root vouches for the third")
		}
	}
}

// TestIntermediatesOverlap: what an intermediate has issued is good to its own end,
// whatever has followed the intermediate since.
func TestIntermediatesOverlap(t *testing.T) {
	e := newEra(t)
	factory := e.gateway(pki.Factory)
	t.Run("servers", func(t *testing.T) {
		e := newEra(t)
		g := e.gateway(pki.Factory)
		for years := range 20 {
			e.after(time.Duration(years) * year)
			if years%8 == 7 {
				e.rotate("servers")
			}
			e.meets(fmt.Sprintf("after %d years", years), g)
		}
		// The control: an authority that nobody rotates has nothing more to give.
		e = newEra(t)
		g = e.gateway(pki.Factory)
		e.after(10*year + day)
		if err := e.meet(g); err == nil {
			t.Error("an expired authority serves on")
		}
	})
	t.Run("factory", func(t *testing.T) {
		e.after(19 * year)
		e.rotate("factory", "servers")
		later := e.gateway(pki.Factory)
		for _, years := range []time.Duration{19, 20} {
			e.after(years*year - day)
			if years == 20 {
				e.meets("the last day of the early gateway", factory)
			}
			e.after(years*year + day)
			e.meets("the late gateway", later)
		}
		e.refused("after its own end, the early gateway", factory, "expired")
		e.after(25*year + day) // the end of the first factory authority
		e.meets("after the end of the first authority, the late gateway", later)
	})
	t.Run("operational", func(t *testing.T) {
		e := newEra(t)
		e.after(9 * year)
		e.rotate("servers")
		early := e.gateway(pki.Operational)
		e.rotate("operational")
		late := e.gateway(pki.Operational)
		e.after(9*year + 89*day)
		e.meets("before its end, a certificate of the first authority", early)
		e.meets("before its end, a certificate of the second", late)
		e.after(9*year + 91*day)
		e.refused("after its end, a certificate of the first authority", early, "expired")
		e.after(10*year + 30*day) // the first authority has ended
		e.meets("a certificate of the second authority, enrolled today", e.gateway(pki.Operational))
	})
}
