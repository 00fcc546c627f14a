package operational

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"penstock/certs"
	"penstock/certs/est"
	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// Server is an EST server; *est.Client is one.
type Server interface {
	// Host is the name that the server's certificate must be for.
	Host() string
	CACerts(ctx context.Context, config *tls.Config) ([]*x509.Certificate, error)
	Attributes(ctx context.Context, config *tls.Config) (est.Attributes, error)
	// Enroll and Reenroll ask for a certificate (DER request). It comes first, then
	// whatever else the server sent of its chain.
	Enroll(ctx context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error)
	Reenroll(ctx context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error)
}

// Time is the trusted clock; *trustedtime.Clock is one.
type Time interface {
	Now() time.Time
	// Known tells whether somebody vouches for Now.
	Known() bool
}

// Config is what an Identity needs. Fields without another word are required.
type Config struct {
	Factory *certs.Identity
	Keys    keys.Store
	FS      disk.FS
	Dir     string // the identity folder
	Server  Server
	Clock   clock.Clock // that nobody sets, such as the machine's uptime; attempts are paced by it
	Time    Time
	Rand    func() float64 // in [0, 1), for jitter
	// Changed is told that another certificate is to be used than the session's:
	// it should connect anew. It must not block.
	Changed func()
	// Failed, if any, is told why an attempt failed. It must not block.
	Failed func(err error)
	Log    *slog.Logger
}

// Identity is a gateway's operational identity. Run keeps it; the other methods may
// be called from any goroutine.
type Identity struct {
	cfg    Config
	folder folder
	key    *keyed        // that is being asked for, nil when none is; owned by Run
	wake   chan struct{} // holds one: look again
	ready  chan struct{} // closed once there is a certificate

	mu      sync.Mutex // guards what follows
	current *pair      // that has been let in; nil: none
	next    *pair      // that has not yet; nil: none
	inUse   *pair      // that was handed out to the session last
	pace    pace
	last    attempt
	trouble string // of the disk
}

// attempt is the last one that was made.
type attempt struct {
	at  time.Time // by the clock that paces; zero: none in this run
	do  step
	err error
}

// Open reads what is in the identity folder. It never fails: what cannot be read
// is asked for again.
func Open(cfg Config) *Identity {
	o := &Identity{cfg: cfg, folder: folder{cfg.FS, cfg.Dir, cfg.Keys, cfg.Log}, pace: pace{rand: cfg.Rand},
		wake: make(chan struct{}, 1), ready: make(chan struct{})}
	o.current, o.next, o.key = o.folder.open(cfg.Factory.Serial())
	if o.current != nil || o.next != nil {
		close(o.ready)
	}
	return o
}

// Ready is closed once there is a certificate to connect with.
func (o *Identity) Ready() <-chan struct{} { return o.ready }

// ErrNone: the gateway has not been enrolled yet.
var ErrNone = errors.New("there is no operational certificate yet")

// Certificate is what the gateway shows to the services.
func (o *Identity) Certificate() (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.chosen(); p != nil {
		return &p.cert, nil
	}
	return nil, ErrNone
}

// SessionTLS is the configuration for the session's next connection to the server
// of that name. The outcome that is told next is taken for that of the certificate
// in it.
func (o *Identity) SessionTLS(serverName string) *tls.Config {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inUse = o.chosen()
	return o.clientTLS(o.inUse, serverName)
}

// ClientTLS is the configuration for a connection beside the session.
func (o *Identity) ClientTLS(serverName string) *tls.Config {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.clientTLS(o.chosen(), serverName)
}

func (o *Identity) clientTLS(p *pair, serverName string) *tls.Config {
	if p == nil {
		return pki.ForServer(serverName, func() (*tls.Certificate, error) { return nil, ErrNone }, o.cfg.Factory.Roots(), o.cfg.Time.Now, nil)
	}
	return pki.ForServer(serverName, func() (*tls.Certificate, error) { return &p.cert, nil }, o.cfg.Factory.Roots(), o.cfg.Time.Now, p.sessions)
}

// chosen is the pair to use: the next one, unless it is refused and the one before
// is not. mu is held.
func (o *Identity) chosen() *pair {
	switch n, c := o.next, o.current; {
	case n == nil:
		return c
	case c == nil || n.refused < patience || c.refused >= patience || o.expired(c):
		return n
	default:
		return c
	}
}

// expired tells whether a pair has, for certain.
func (o *Identity) expired(p *pair) bool {
	return o.cfg.Time.Known() && o.cfg.Time.Now().After(p.life().to)
}

// Outcome is told how the session's connection began: nil when the endpoint let it
// in, else why it, or the auth service, refused the certificate. What has nothing to
// do with the certificate is not told.
func (o *Identity) Outcome(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.inUse
	if p == nil {
		return
	}
	if err == nil {
		p.refused = 0
		if p == o.next {
			p.proven = true
			o.look()
		}
		return
	}
	p.refused++
	if p.refused != patience {
		return
	}
	if p == o.next && o.chosen() != p {
		o.cfg.Log.Warn("the new certificate is refused; back to the one before", "err", err)
		o.pace.attempted(o.cfg.Clock.Now(), calm, span(p), 0)
		o.last = attempt{o.cfg.Clock.Now(), renew, fmt.Errorf("the certificate that came was refused: %w", err)}
	} else {
		o.cfg.Log.Warn("the services refuse the operational certificate; the factory identity asks for another", "err", err)
	}
	o.look()
}

func span(p *pair) time.Duration { l := p.life(); return l.to.Sub(l.from) }

// Look makes Run look again, now and not in its own time: the clock was corrected.
func (o *Identity) Look() { o.look() }

func (o *Identity) look() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// lookEvery bounds how long a clock that was moved goes unnoticed.
const lookEvery = time.Hour

// Run enrols and renews until ctx ends.
func (o *Identity) Run(ctx context.Context) {
	known := o.cfg.Time.Known()
	for ctx.Err() == nil {
		o.settle()
		if k := o.cfg.Time.Known(); k != known {
			known = k
			o.mu.Lock()
			o.pace.until = time.Time{} // what failed for want of the time fails no more
			o.mu.Unlock()
		}
		do, wait, why := o.nextStep()
		if do != rest && wait <= 0 {
			o.attempt(ctx, do, why)
			continue
		}
		o.sleep(ctx, min(wait, lookEvery))
	}
}

// nextStep is what comes next, and in what time.
func (o *Identity) nextStep() (do step, wait time.Duration, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do, due, why := decide(o.view())
	if do == rest {
		if o.next == nil {
			// What comes next has nothing to do with what failed. Not before: a wrong clock
			// would have each new certificate replaced at once.
			o.pace.reset()
		}
		if due.IsZero() {
			return rest, lookEvery, why
		}
		return rest, due.Sub(o.cfg.Time.Now()) + time.Millisecond, why
	}
	if o.pace.until.IsZero() {
		return do, 0, why
	}
	return do, o.pace.until.Sub(o.cfg.Clock.Now()), why
}

// view is the moment. mu is held.
func (o *Identity) view() view {
	v := view{now: o.cfg.Time.Now(), known: o.cfg.Time.Known()}
	if p := o.chosen(); p != nil {
		v.have, v.life, v.refused = true, p.life(), p.refused >= patience
	}
	return v
}

// sleep waits until d has passed, there is something to look at, or ctx ends.
func (o *Identity) sleep(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-o.wake:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = o.cfg.Clock.Sleep(ctx, d) // its error says that it was cut short
	cancel()
	<-done
}

// settle puts a pair that was let in into the place of the one before.
func (o *Identity) settle() {
	o.mu.Lock()
	p := o.next
	proven := p != nil && p.proven
	o.mu.Unlock()
	if !proven {
		return
	}
	err := o.folder.promote()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trouble = ""
	if err != nil {
		// It serves all the same, and is found again as what it was.
		o.trouble = "the new certificate could not be put in its place: " + err.Error()
		o.cfg.Log.Error("the new certificate could not be put in its place; trying again", "err", err)
		p.proven = false // until the next good session
		return
	}
	o.current, o.next = p, nil
	o.cfg.Log.Info("the operational certificate is in use", "until", p.life().to, "issuer", p.chain[0].Issuer.CommonName)
}

// attempt makes one attempt, and notes how it went.
func (o *Identity) attempt(ctx context.Context, do step, why string) {
	o.cfg.Log.Info("asking for an operational certificate", "with", map[step]string{enrol: "the factory identity", renew: "the operational certificate"}[do], "because", why)
	at := o.cfg.Clock.Now()
	p, err := o.ask(ctx, do)
	if ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = attempt{at, do, err}
	before := o.chosen()
	h, whole := calm, time.Duration(0)
	switch {
	case do == enrol && err == nil:
		h = fruitless // what was issued is worth something once a session is good
	case do == enrol && refused(err):
		h = unwelcome
	case do == enrol:
		h = pressing
	default:
		whole = span(before)
	}
	o.pace.attempted(o.cfg.Clock.Now(), h, whole, retryAfter(err))
	if err != nil {
		if o.cfg.Failed != nil {
			o.cfg.Failed(err)
		}
		o.cfg.Log.Warn("no operational certificate", "err", err, "retry_in", o.pace.until.Sub(o.cfg.Clock.Now()).Round(time.Second))
		return
	}
	o.next = p
	o.cfg.Log.Info("an operational certificate has come", "until", p.life().to)
	select {
	case <-o.ready:
		o.cfg.Changed()
	default:
		close(o.ready)
	}
}
