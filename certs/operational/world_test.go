package operational

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs"
	"penstock/certs/est"
	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

const (
	day         = 24 * time.Hour
	identityDir = "/identity"
	serial      = "GW-0001"
)

var ks = keys.File{Rand: rand.Reader}

// world is a gateway's identity with all that it meets, in virtual time: an
// authority, an endpoint, a session, a clock that can be wrong. It must be made in a
// synctest bubble.
type world struct {
	t    *testing.T
	a    *pkitest.Authorities
	disk disk.FS
	rand *mathrand.Rand
	log  *slog.Logger

	mu sync.Mutex // guards what follows
	// The trusted clock is off by that, and is vouched for or not.
	off   time.Duration
	known bool

	asked   []asking
	issued  map[[32]byte][]*x509.Certificate // by key
	revoked map[[32]byte]bool                // keys
	alarms  int                              // of clones
	// answer, if any, says what becomes of a request instead of an answer; after is
	// the same when a certificate has been issued, and its answer is lost.
	answer, after func(what string) error

	undated bool // servers show certificates that no clock finds out of date

	// endpoint decides about a certificate; nil: it is good when it is operational,
	// in date and not revoked.
	endpoint func(leaf *x509.Certificate) error
	up       bool // the endpoint is there
	sessions []session

	o      *Identity
	cancel context.CancelFunc
	over   chan struct{}
	again  chan struct{}
}

// asking is a request to the authority.
type asking struct {
	at   time.Time
	what string
	role pki.Role
	key  [32]byte // of the request
	err  error
}

// session is one that the endpoint let in.
type session struct {
	at   time.Time
	leaf *x509.Certificate
}

// play runs a test in virtual time with a gateway that has a factory identity and
// has never been started.
func play(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		test(w)
	})
}

func newWorld(t *testing.T) *world { return newWorldOn(t, faultdisk.New()) }

func newWorldOn(t *testing.T, d disk.FS) *world {
	w := &world{t: t, a: pkitest.At(t, clock.System), disk: d, rand: mathrand.New(mathrand.NewPCG(7, 11)), known: true, up: true,
		issued: map[[32]byte][]*x509.Certificate{}, revoked: map[[32]byte]bool{},
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	w.provision(w.disk)
	return w
}

func (w *world) provision(d disk.FS) {
	w.t.Helper()
	made, err := certs.Provision(d, identityDir, ks, certs.Order{Random: rand.Reader,
		Factory: certs.Factory{Serial: serial, Model: "cim550", Board: "lab", AuthURL: "https://auth.test"}})
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := w.a.CA.IssueGateway(made.Record, "lab")
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.a.CA.Chain(leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := certs.Install(d, identityDir, ks, pki.Bundle{Chain: chain, Roots: w.a.CA.Roots()}, time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

// start starts the gateway.
func (w *world) start() {
	w.t.Helper()
	factory, err := certs.Load(w.disk, identityDir, ks, w.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.again = make(chan struct{}, 1)
	o := Open(Config{Factory: factory, Keys: ks, FS: w.disk, Dir: identityDir, Server: w, Clock: clock.System, Time: w, Rand: w.rand.Float64, Log: w.log,
		Changed: func() {
			select {
			case w.again <- struct{}{}:
			default:
			}
		}})
	w.o = o
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.over = cancel, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { o.Run(ctx) })
	wg.Go(func() { w.session(ctx, o) })
	go func() { wg.Wait(); close(w.over) }()
}

// stop ends the gateway as kill -9 does: nothing is written any more.
func (w *world) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.over
		w.cancel = nil
	}
}

// session is what uplink does, as far as certificates matter.
func (w *world) session(ctx context.Context, o *Identity) {
	select {
	case <-o.Ready():
	case <-ctx.Done():
		return
	}
	wait := time.Second
	for ctx.Err() == nil {
		config := o.SessionTLS("endpoint.test")
		cert, err := config.GetClientCertificate(nil)
		if err != nil {
			w.t.Errorf("the session has nothing to show: %v", err)
			return
		}
		connected, err := w.connect(cert.Leaf)
		if connected || err != nil {
			o.Outcome(err)
		}
		if connected {
			wait = time.Second
			select {
			case <-w.again:
			case <-ctx.Done():
			}
			continue
		}
		sleep, cancel := context.WithCancel(ctx)
		go func(again chan struct{}) {
			select {
			case <-again:
				cancel()
			case <-sleep.Done():
			}
		}(w.again)
		_ = clock.System.Sleep(sleep, wait)
		cancel()
		wait = min(2*wait, 5*time.Minute)
	}
}

var errRefused = &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}

func (w *world) connect(leaf *x509.Certificate) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.up || w.dated() != nil {
		return false, nil
	}
	if err := w.judge(leaf, pki.Operational); err != nil {
		return false, err
	}
	if w.endpoint != nil {
		if err := w.endpoint(leaf); err != nil {
			return false, err
		}
	}
	w.sessions = append(w.sessions, session{time.Now(), leaf})
	return true, nil
}

// dated is what the gateway finds of a server's certificate by its clock; mu is held.
func (w *world) dated() error {
	if !w.undated && w.off.Abs() > 60*day {
		return errors.New("the certificate of the server has expired or is not yet valid")
	}
	return nil
}

// judge is what both services find of a certificate, by the true time; mu is held.
func (w *world) judge(leaf *x509.Certificate, role pki.Role) error {
	g, err := pki.ReadGateway(leaf)
	if err != nil {
		w.t.Error(err)
	}
	now := time.Now()
	if g.Role != role || now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) || w.revoked[keyOf(leaf)] {
		return errRefused
	}
	return nil
}

func keyOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Now and Known are the trusted clock.
func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.off).Round(0)
}

func (w *world) Known() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// read reads what mu guards.
func read[T any](w *world, get func() T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return get()
}

// keys is for how many keys there are certificates.
func (w *world) keys() int { return read(w, func() int { return len(w.issued) }) }

// sessionCount is how many sessions there have been.
func (w *world) sessionCount() int { return read(w, func() int { return len(w.sessions) }) }

// Host and what follows are the authority.
func (w *world) Host() string { return "auth.test" }

func (w *world) CACerts(_ context.Context, config *tls.Config) ([]*x509.Certificate, error) {
	return w.a.CA.Authorities(), w.let(config, "cacerts")
}

func (w *world) Attributes(_ context.Context, config *tls.Config) (est.Attributes, error) {
	return nil, w.let(config, "csrattrs")
}

// let lets either identity in.
func (w *world) let(config *tls.Config, what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.dated(); err != nil {
		return err
	}
	if w.answer != nil {
		if err := w.answer(what); err != nil {
			return err
		}
	}
	cert, err := config.GetClientCertificate(nil)
	if err != nil {
		return err
	}
	if w.judge(cert.Leaf, pki.Factory) != nil {
		return w.judge(cert.Leaf, pki.Operational)
	}
	return nil
}

func (w *world) Enroll(_ context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error) {
	return w.request(config, "simpleenroll", pki.Factory, request)
}

func (w *world) Reenroll(_ context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error) {
	return w.request(config, "simplereenroll", pki.Operational, request)
}

// request has the rules of backend/est.
func (w *world) request(config *tls.Config, what string, role pki.Role, request []byte) (certs []*x509.Certificate, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		w.t.Fatal(err)
	}
	key := sha256.Sum256(r.RawSubjectPublicKeyInfo)
	defer func() { w.asked = append(w.asked, asking{time.Now(), what, role, key, err}) }()
	if w.answer != nil {
		if err := w.answer(what); err != nil {
			return nil, err
		}
	}
	cert, err := config.GetClientCertificate(nil)
	if err != nil {
		return nil, err
	}
	if err := w.judge(cert.Leaf, role); err != nil {
		return nil, err
	}
	if w.revoked[key] {
		return nil, &est.Error{Status: 403, Detail: "That key was revoked; make another."}
	}
	good := func(c *x509.Certificate) bool { return time.Now().Before(c.NotAfter) }
	if role == pki.Factory && !slices.ContainsFunc(w.issued[key], good) {
		for other, certs := range w.issued {
			if !w.revoked[other] && slices.ContainsFunc(certs, good) {
				w.alarms++
				break
			}
		}
	}
	leaf, err := w.a.CA.IssueOperational(r)
	if err != nil {
		return nil, err
	}
	w.issued[key] = append(w.issued[key], leaf)
	if w.after != nil {
		if err := w.after(what); err != nil {
			return nil, err
		}
	}
	return []*x509.Certificate{leaf}, nil
}

// requests are those that were made, of that kind ("": all).
func (w *world) requests(what string) (all []asking) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.asked {
		if what == "" || a.what == what {
			all = append(all, a)
		}
	}
	return all
}

func (w *world) lastSession() session {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sessions) == 0 {
		w.t.Fatal("there never was a session")
	}
	return w.sessions[len(w.sessions)-1]
}

func (w *world) files() string {
	entries, err := w.disk.ReadDir(identityDir)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); n == certs.OperationalFile || n == certs.NextFile || n == certs.NextKeyFile {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}

func away(string) error { return errors.New("connection refused") }

func (w *world) mustHaveNoAlarm() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alarms > 0 {
		w.t.Errorf("%d false alarms of a clone", w.alarms)
	}
}

// part is how much of a certificate's life has passed at t.
func part(c *x509.Certificate, t time.Time) float64 {
	return float64(t.Sub(c.NotBefore)) / float64(c.NotAfter.Sub(c.NotBefore))
}
