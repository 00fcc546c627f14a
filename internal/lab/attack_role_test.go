package lab

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"penstock/backend/auth"
	backendest "penstock/backend/est"
	"penstock/backend/store"
	"penstock/certs/est"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/status"
)

// TestAttackIdentityOfTheWrongRole shows each identity on every route of a live
// backend.
func TestAttackIdentityOfTheWrongRole(t *testing.T) {
	t.Parallel()
	p := newCloud(t).player("ROLE-0001")
	for _, r := range routes {
		for role, cert := range p.identities() {
			before := p.certificates()
			err := r.use(p, p.config(cert))
			granted := p.certificates() - before
			if r.role == "" || r.role == role { // the control
				if err != nil {
					t.Errorf("%s with the %s identity: %v", r.name, role, err)
				}
				continue
			}
			if err == nil || granted != 0 {
				t.Errorf("%s with the %s identity: %v, %d certificates issued", r.name, role, err, granted)
			}
			// A handshake that is refused, or a plain 403 before anything was done.
			var status answered
			var refused *est.Error
			if errors.As(err, &status) && status != http.StatusForbidden || errors.As(err, &refused) && refused.Status != http.StatusForbidden {
				t.Errorf("%s with the %s identity: %v", r.name, role, err)
			}
		}
	}
}

// TestAttackRedirectToAnotherHost: the auth service, with a certificate in order,
// points a running firmware elsewhere with every answer.
func TestAttackRedirectToAnotherHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	defer elsewhere.Close()
	var reached atomic.Int64
	go func() {
		for {
			conn, err := elsewhere.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			conn.Close()
		}
	}()

	// The service of this test is the backend's own, in this process; it redirects until
	// it is told otherwise.
	ca, err := pki.LoadCA(disk.OS, c.path("cloud", "ca"), clock.System, rand.Reader)
	c.must(err)
	db, err := store.Open(t.Context(), c.Database(), clock.System, slog.New(slog.DiscardHandler))
	c.must(err)
	defer db.Close()
	server, err := ca.Server("auth", []string{"localhost", "127.0.0.1"})
	c.must(err)
	quiet := slog.New(slog.DiscardHandler)
	_, endpointPort, err := net.SplitHostPort(c.addresses.Endpoint)
	c.must(err)
	honest := auth.New(auth.Config{Store: db, Certificate: server.Certificate, Endpoint: "mqtts://" + net.JoinHostPort("localhost", endpointPort),
		EST: backendest.New(backendest.Config{Authority: ca, Store: db, Clock: clock.System, Log: quiet}), Roots: ca, Clock: clock.System, Log: quiet})
	var redirects atomic.Bool
	redirects.Store(true)
	asked := make(chan string, 1000)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !redirects.Load() {
			honest.ServeHTTP(w, r)
			return
		}
		select {
		case asked <- r.URL.Path:
		default:
		}
		http.Redirect(w, r, "https://"+elsewhere.Addr().String()+r.URL.Path, http.StatusTemporaryRedirect)
	})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(quiet.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() {
		ended <- srv.Serve(pki.Secure(plain, pki.ForGatewaysUnder(server.Certificate, ca.Pool, time.Now, func(string, *x509.Certificate) error { return nil }),
			pki.DefaultLimits, func(net.Addr, error) {}))
	}()
	defer func() {
		srv.Close()
		<-ended
	}()

	own := c.addresses.Auth
	c.addresses.Auth = plain.Addr().String()
	c.must(c.Provision(t.Context()))
	c.addresses.Auth = own
	c.must(c.StartPumps(t.Context()))
	c.must(c.StartGateway(t.Context()))
	// everywhere waits until each question was asked, here alone.
	everywhere := func(questions ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*longest)
		defer cancel()
		var paths []string
		for slices.ContainsFunc(questions, func(q string) bool {
			return !slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, q) })
		}) {
			select {
			case path := <-asked:
				paths = append(paths, path)
			case <-ctx.Done():
				t.Fatalf("asked were only %q", paths)
			}
		}
		shows(t, c.Site, "a gateway that says why", func(s status.Snapshot) bool {
			text, err := json.Marshal(s)
			return err == nil && !connected(s) && strings.Contains(string(text), "redirects are not followed")
		})
		if n := reached.Load(); n != 0 {
			t.Errorf("the other host was reached %d times", n)
		}
	}
	everywhere("/v1/time", "/v1/roots", "/.well-known/est/")
	redirects.Store(false) // the control, and a gateway that has enrolled
	shows(t, c.Site, "a session", connected)
	c.must(c.GatewayProc.Stop(t.Context()))
	c.must(os.Remove(c.path("gateway", "state", "assignment.json")))
	redirects.Store(true)
	c.must(c.StartGateway(t.Context()))
	everywhere("/v1/time", "/v1/roots", "/v1/assignment")
	redirects.Store(false)
	shows(t, c.Site, "a session", connected)
	if n := reached.Load(); n != 0 {
		t.Errorf("the other host was reached %d times", n)
	}
}
