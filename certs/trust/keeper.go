package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/tuf"
)

// How often the auth service is asked.
const (
	askEvery   = 24 * time.Hour
	spread     = 5 * time.Second // of the first question: a fleet got its power back together
	retryFirst = time.Minute
	retryMost  = 4 * time.Hour
	askTimeout = 30 * time.Second
	// A server that cannot be verified makes a gateway ask at once, but not more often
	// than this.
	askAtMost = time.Minute
)

// maxAnswer bounds an answer: the roots, and the root metadata of many years.
const maxAnswer = 4 * tuf.MaxSize

// Clock is the trusted clock; *trustedtime.Clock is one.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
	// Known tells whether somebody has told the time.
	Known() bool
}

// Cert is a certificate with its key, as of now.
type Cert = func() (*tls.Certificate, error)

// Keeper keeps the roots up to date. Its fields are set before Keep is called.
type Keeper struct {
	Roots *Roots
	URL   string // of the auth service
	// Certs are what the gateway can show, as the service takes either identity: the
	// next one where the one before is refused. A factory identity may come from a root
	// that was withdrawn, an operational certificate may have expired.
	Certs []Cert
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Clock Clock
	Floor func() time.Time // it is later, for certain
	Rand  func() float64   // in [0, 1)
	Log   *slog.Logger
	// Changed, if any, is called when other roots have come into force: a connection
	// that stands may have been made under one that is gone.
	Changed func()

	once sync.Once
	wake chan struct{} // holds one: ask now

	mu    sync.Mutex
	said  string    // guarded by mu: what was wrong with the last try, "" if nothing
	tried time.Time // guarded by mu: when
}

func (k *Keeper) init() { k.once.Do(func() { k.wake = make(chan struct{}, 1) }) }

// Doubt tells the keeper why a connection failed. When a server's certificate could
// not be verified, the roots may be the reason, and it asks for others at once.
func (k *Keeper) Doubt(err error) {
	if !unverified(err) {
		return
	}
	k.init()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// unverified tells whether a handshake failed because no chain leads from the
// server's certificate to a root in date.
func unverified(err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &invalid)
}

// Trouble is what was wrong when the keeper last looked, and when that was.
func (k *Keeper) Trouble() (what string, when time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.said, k.tried
}

// Keep looks after the roots until ctx ends. Where no key was pinned there is nothing
// to do.
func (k *Keeper) Keep(ctx context.Context) {
	k.init()
	if k.Roots.Fixed() {
		return
	}
	wait, pause := time.Duration(k.Rand()*float64(spread)), retryFirst
	for k.sleep(ctx, wait) == nil {
		err := k.Look(ctx)
		if ctx.Err() != nil {
			return
		}
		k.note(err)
		if err == nil {
			pause = retryFirst
			wait = askEvery - time.Duration(k.Rand()*float64(askEvery/4))
			continue
		}
		wait = askAtMost + time.Duration(k.Rand()*float64(pause))
		pause = min(2*pause, retryMost)
	}
}

// sleep waits for d, or until there is a doubt; for askAtMost in any case but the
// first.
func (k *Keeper) sleep(ctx context.Context, d time.Duration) error {
	k.mu.Lock()
	first := k.tried.IsZero()
	k.mu.Unlock()
	least := min(d, askAtMost)
	if first {
		least = d
	}
	if err := k.Clock.Sleep(ctx, least); err != nil || d == least {
		return err
	}
	rest, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-k.wake:
			stop()
		case <-rest.Done():
		}
	}()
	_ = k.Clock.Sleep(rest, d-least) // its error says that it was cut short
	stop()
	<-watched
	return ctx.Err()
}

func (k *Keeper) note(err error) {
	k.mu.Lock()
	before := k.said
	k.said, k.tried = "", k.Clock.Now()
	if err != nil {
		k.said = err.Error()
	}
	said := k.said
	k.mu.Unlock()
	if said != before && said != "" {
		k.Log.Warn("the roots could not be looked after; those in force stay", "why", said)
	}
}

// Look asks once, and takes what is new into force if it works.
func (k *Keeper) Look(ctx context.Context) error {
	if k.Roots.Fixed() {
		return nil
	}
	// What an earlier look left may be the way to the service.
	earlier := k.Roots.candidate()
	if earlier != nil && k.try(ctx, earlier) == nil {
		return nil
	}
	a, err := k.ask(ctx)
	if err != nil {
		return fmt.Errorf("asking for signed roots: %w", err)
	}
	if err := k.Roots.follow(a.chain()); err != nil {
		return fmt.Errorf("the roots that the server shows: %w", err)
	}
	if a.Targets != nil {
		if err := k.Roots.offer(a.Targets, k.Floor()); err != nil {
			return fmt.Errorf("the roots that the server shows: %w", err)
		}
	}
	if next := k.Roots.candidate(); next != nil {
		return k.try(ctx, next)
	}
	return nil
}

// try connects with nothing but the new roots, and puts them into force when the
// service answers.
func (k *Keeper) try(ctx context.Context, next *set) error {
	config := k.dated(next.pool)
	if !k.Clock.Known() { // no date can be judged
		config = k.undated(next.certs)
	}
	if _, err := k.exchange(ctx, config); err != nil {
		return fmt.Errorf("version %d of the roots is signed, and does not work yet: %w", next.version, err)
	}
	before := k.Roots.Certificates()
	if err := k.Roots.adopt(next); err != nil {
		return fmt.Errorf("keeping version %d of the roots: %w", next.version, err)
	}
	if after := k.Roots.Certificates(); slices.EqualFunc(before, after, (*x509.Certificate).Equal) {
		return nil // those of the bench, signed
	}
	s := k.Roots.Status()
	k.Log.Info("other roots are in force", "version", s.Version, "roots", strings.Join(s.Names, ", "), "until", s.Until)
	if k.Changed != nil {
		k.Changed()
	}
	return nil
}

// answer is the service's.
type answer struct {
	Root    []json.RawMessage `json:"root"`
	Targets json.RawMessage   `json:"targets"`
}

func (a *answer) chain() (chain [][]byte) {
	for _, r := range a.Root {
		chain = append(chain, r)
	}
	return chain
}

// ask asks over a connection that is verified as any, and where it cannot be, over
// one on which dates do not count.
func (k *Keeper) ask(ctx context.Context) (*answer, error) {
	a, err := k.exchange(ctx, k.dated(k.Roots.Pool()))
	if !unverified(err) {
		return a, err
	}
	a, undated := k.exchange(ctx, k.undated(k.Roots.everyone()))
	if undated != nil {
		return nil, errors.Join(err, undated)
	}
	return a, nil
}

func (k *Keeper) host() string {
	u, err := url.Parse(k.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// configuration is how to connect, showing that certificate.
type configuration func(cert Cert) *tls.Config

func (k *Keeper) dated(roots *x509.CertPool) configuration {
	return func(cert Cert) *tls.Config { return pki.ForServer(k.host(), cert, roots, k.Clock.Now, nil) }
}

func (k *Keeper) undated(roots []*x509.Certificate) configuration {
	return func(cert Cert) *tls.Config { return pki.ForSignedRoots(k.host(), cert, roots) }
}

// exchange asks one question, with one certificate after the other until none is
// refused.
func (k *Keeper) exchange(ctx context.Context, config configuration) (a *answer, err error) {
	err = errors.New("there is no certificate to show")
	for _, cert := range k.Certs {
		if _, none := cert(); none != nil {
			continue
		}
		a, err = k.question(ctx, config(cert))
		var remote *net.OpError
		var status *statusError
		if !(errors.As(err, &remote) && remote.Op == "remote error") && !(errors.As(err, &status) && status.code == http.StatusForbidden) {
			break
		}
	}
	return a, err
}

// statusError: the service has read the question, and gives no roots.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return "the auth service answered " + e.text }

// question asks it on a connection of its own.
func (k *Keeper) question(ctx context.Context, config *tls.Config) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	root, roots := k.Roots.has()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v1/roots?root=%d&roots=%d", strings.TrimSuffix(k.URL, "/"), root, roots), nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: k.Dial, TLSClientConfig: config, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode == http.StatusNoContent:
		return &answer{}, nil
	case res.StatusCode != http.StatusOK:
		return nil, &statusError{res.StatusCode, res.Status}
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return parseAnswer(body)
}

func parseAnswer(body []byte) (*answer, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("the answer is not the JSON of signed roots: %w", err)
	}
	return &a, nil
}
