package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// calendar is a clock that a test sets.
type calendar struct {
	mu    sync.Mutex
	now   time.Time // guarded by mu
	known bool      // guarded by mu
}

func at(t time.Time) *calendar { return &calendar{now: t, known: true} }

func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *calendar) Known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

func (c *calendar) set(now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.known = now, known
}

func (c *calendar) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

const (
	dir  = "/identity"
	year = 365 * 24 * time.Hour
)

// service is the auth service, on real TLS, as the authorities in ca have it today.
type service struct {
	t     *testing.T
	ca    *pki.CA
	clock *calendar
	url   string

	mu     sync.Mutex
	answer http.HandlerFunc // guarded by mu; instead of the honest one
	asked  int              // guarded by mu: requests that were read
	// guarded by mu: what is shown instead of the certificate of today.
	shows *tls.Certificate
}

func newService(t *testing.T, fsys disk.FS, clk *calendar) *service {
	t.Helper()
	ca, err := pki.OpenCA(fsys, pkitest.Dir, clk, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, ca: ca, clock: clk}
	server, err := ca.Server("auth", []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	cert := func() (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.shows != nil {
			return s.shows, nil
		}
		return server.Certificate()
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://localhost:" + port
	l := pki.Secure(plain, pki.ForGatewaysUnder(cert, ca.Pool, clk.Now, func(string, *x509.Certificate) error { return nil }),
		pki.DefaultLimits, func(net.Addr, error) {})
	h := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		<-ended
	})
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	instead := s.answer
	s.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	var has [2]int64
	for i, name := range []string{"root", "roots"} {
		has[i], _ = strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	}
	chain, targets, err := s.ca.SignedRoots(has[0], has[1])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if chain == nil && targets == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	serve(chain, targets)(w, r)
}

// serve answers with that metadata.
func serve(chain [][]byte, targets []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		a := answer{Targets: targets}
		for _, c := range chain {
			a.Root = append(a.Root, c)
		}
		json.NewEncoder(w).Encode(a) //nolint:errcheck // the gateway went away
	}
}

func (s *service) instead(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = h
}

// show has the server show that certificate from now on.
func (s *service) show(c *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shows = c
}

func (s *service) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *service) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// gateway is a gateway of today: its identity folder, with what the bench left in it.
type gateway struct {
	fsys  disk.FS
	clock *calendar
	floor time.Time
	cert  tls.Certificate
	*Keeper
}

func (s *service) gateway(fsys disk.FS) *gateway {
	s.t.Helper()
	key := pkitest.Key(s.t)
	text, _ := pkitest.Request(s.t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, key)
	leaf, err := s.ca.IssueGateway(text, "lab")
	s.must(err)
	chain, err := s.ca.ChainOf(leaf)
	s.must(err)
	pinned, err := s.ca.TUFRoot()
	s.must(err)
	s.must(disk.MkdirAll(fsys, dir, 0o700))
	s.must(disk.WriteFile(fsys, dir+"/"+PinnedFile, pinned, 0o644))
	s.must(disk.WriteFile(fsys, dir+"/roots.pem", s.ca.Roots(), 0o644))
	return s.boot(fsys, key, chain)
}

func (s *service) boot(fsys disk.FS, key *ecdsa.PrivateKey, chain []*x509.Certificate) *gateway {
	g := &gateway{fsys: fsys, clock: at(s.clock.Now()), cert: pkitest.Join(key, chain...)}
	g.Keeper = &Keeper{Roots: g.open(s.t), URL: s.url, Certs: []Cert{func() (*tls.Certificate, error) { return &g.cert, nil }},
		Clock: g.clock, Floor: func() time.Time { return g.floor }, Rand: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler)}
	return g
}

// open reads the folder, as a gateway does that starts.
func (g *gateway) open(t *testing.T) *Roots {
	t.Helper()
	text, err := disk.ReadFile(g.fsys, dir+"/roots.pem")
	if err != nil {
		t.Fatal(err)
	}
	bench, err := pki.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return Open(g.fsys, dir, bench)
}

// restart is the gateway after its power was gone.
func (g *gateway) restart(t *testing.T) {
	t.Helper()
	g.Roots = g.open(t)
}

// names are the roots in force.
func (g *gateway) names() string { return strings.Join(g.Roots.Status().Names, ", ") }

// meets tells whether the gateway's other connections work: with the roots in force,
// by the clock it has.
func (g *gateway) meets(t *testing.T) error {
	_, err := g.exchange(t.Context(), g.dated(g.Roots.Pool()))
	return err
}

var beginning = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// site is a backend and a gateway of the same day.
func site(t *testing.T) (*service, *gateway) {
	t.Helper()
	s := newService(t, faultdisk.New(), at(beginning))
	return s, s.gateway(faultdisk.New())
}
