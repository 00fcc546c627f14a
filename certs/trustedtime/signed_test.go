package trustedtime

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk/faultdisk"
)

// service is an auth service's time route, honest unless it is told otherwise.
type service struct {
	cert   tls.Certificate
	now    func() time.Time
	answer func(nonce []byte) (pki.TimeAnswer, error) // instead of the honest one
	asked  int
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	var q struct{ Nonce []byte }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a, err := pki.SignTime(&s.cert, q.Nonce, s.now())
	if s.answer != nil {
		a, err = s.answer(q.Nonce)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(a)
}

// start serves on the loopback and returns a client of it.
func (s *service) start(t *testing.T, a *pkitest.Authorities) *Client {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The server judges the gateway by its own clock.
	config := pki.ForGateways(func() (*tls.Certificate, error) { return &s.cert, nil }, a.CA.Pool(), s.now,
		func(string, *x509.Certificate) error { return nil })
	l := pki.Secure(plain, config, pki.DefaultLimits, func(_ net.Addr, err error) { t.Log("refused:", err) })
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) //nolint:errcheck // it ends with Close
	t.Cleanup(func() { server.Close() })
	gateway := a.Gateway(t, "GW-0001")
	var d net.Dialer
	return &Client{URL: "https://" + plain.Addr().String(), Roots: a.CA.Pool, Dial: d.DialContext, Rand: rand.Reader,
		Cert: func() (*tls.Certificate, error) { return &gateway, nil }}
}

func TestSignedTimeReachesAGatewayThatKnowsNone(t *testing.T) {
	a := pkitest.New(t)
	s := &service{cert: a.Server(t, "127.0.0.1"), now: time.Now}
	k := s.start(t, a)
	b := booted(time.Unix(1000, 0)) // 1970: every certificate is "not yet valid"
	c, err := Open(b, faultdisk.New(), "/state", time.Unix(0, 0), quiet)
	if err != nil {
		t.Fatal(err)
	}
	strict := pki.ForServer("127.0.0.1", k.Cert, k.Roots(), c.Now, nil)
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(k.URL, "https://"), strict); err == nil {
		conn.Close()
		t.Fatal("a gateway in 1970 gets through the ordinary check: the test shows nothing")
	}
	if err := k.Ask(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := c.Now(); !about(got, time.Now(), 5*time.Second) || c.Status().Source != Signed {
		t.Errorf("the clock says %s (%s)", got, c.Status().Source)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(k.URL, "https://"), pki.ForServer("127.0.0.1", k.Cert, k.Roots(), c.Now, nil))
	if err != nil {
		t.Fatalf("and now the ordinary check: %v", err)
	}
	conn.Close()
}

// TestNoFalseTimeIsBelieved: each row is a liar; the floor stays, and so does the
// clock.
func TestNoFalseTimeIsBelieved(t *testing.T) {
	a, other := pkitest.New(t), pkitest.New(t)
	now := time.Now()
	honest := a.Server(t, "127.0.0.1")
	for name, tc := range map[string]struct {
		cert   tls.Certificate
		answer func(nonce []byte) (pki.TimeAnswer, error)
		says   string
	}{
		"time beyond the server's certificate": {honest, func(n []byte) (pki.TimeAnswer, error) {
			return pki.SignTime(&honest, n, honest.Leaf.NotAfter.Add(time.Hour))
		}, "by its own certificate it cannot"},
		"time before it": {honest, func(n []byte) (pki.TimeAnswer, error) {
			return pki.SignTime(&honest, n, honest.Leaf.NotBefore.Add(-time.Hour))
		}, "by its own certificate it cannot"},
		"an answer to another question": {honest, func([]byte) (pki.TimeAnswer, error) {
			return pki.SignTime(&honest, make([]byte, pki.NonceSize), now)
		}, "not for this question"},
		"a time that was changed": {honest, func(n []byte) (pki.TimeAnswer, error) {
			a, err := pki.SignTime(&honest, n, now)
			a.Millis += 1000
			return a, err
		}, "signature"},
		"another authority's server":  {other.Server(t, "127.0.0.1"), nil, "unknown authority"},
		"a server of another name":    {a.Server(t, "other.example"), nil, "127.0.0.1"},
		"a gateway that plays server": {a.Gateway(t, "GW-0002"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{cert: tc.cert, now: time.Now, answer: tc.answer}
			k := s.start(t, a)
			c := open(t, booted(time.Unix(0, 0)), faultdisk.New())
			err := k.Ask(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if got := c.Now(); !got.Equal(built) || c.Known() {
				t.Errorf("the clock was moved to %s", got)
			}
		})
	}
}

// TestKeepAsksUntilItKnowsAndThenSeldom.
func TestKeepAsksUntilItKnowsAndThenSeldom(t *testing.T) {
	a := pkitest.New(t)
	s := &service{cert: a.Server(t, "127.0.0.1"), now: time.Now}
	k := s.start(t, a)
	c, err := Open(clock.System, faultdisk.New(), "/state", built, quiet)
	if err != nil {
		t.Fatal(err)
	}
	dead := *k
	dead.URL = "https://127.0.0.1:1"
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	none := func() float64 { return 0 } // no wait at all
	dead.Keep(ctx, c, none, func(err error) {
		if tries++; tries == 3 {
			dead.URL = k.URL
		}
		if err == nil {
			cancel()
		}
	})
	if !c.Known() || tries != 4 || s.asked != 1 {
		t.Errorf("known %v after %d tries, %d of which reached the service", c.Known(), tries, s.asked)
	}
}

// TestASlowConnectionMakesNoWorseTime: what the connection took to come up does not
// count, since nobody signs before he is asked.
func TestASlowConnectionMakesNoWorseTime(t *testing.T) {
	a := pkitest.New(t)
	s := &service{cert: a.Server(t, "127.0.0.1"), now: time.Now}
	k := s.start(t, a)
	b := booted(time.Unix(1000, 0))
	dial := k.Dial
	k.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		b.pass(8 * time.Second)
		return dial(ctx, network, address)
	}
	c := open(t, b, faultdisk.New())
	if err := k.Ask(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := c.Now(); !about(got, time.Now(), 2*time.Second) {
		t.Errorf("the clock says %s", got)
	}
}

// TestKeepAsksAgainWhereAnAnswerLeavesDoubt: a few times, not for ever.
func TestKeepAsksAgainWhereAnAnswerLeavesDoubt(t *testing.T) {
	a := pkitest.New(t)
	b := booted(time.Unix(1000, 0))
	now := func() time.Time { return time.Now().Add(b.Uptime()) }
	s := &service{cert: a.Server(t, "127.0.0.1"), now: now}
	k := s.start(t, a)
	c := open(t, b, faultdisk.New())
	slow := true
	s.answer = func(nonce []byte) (pki.TimeAnswer, error) {
		a, err := pki.SignTime(&s.cert, nonce, now())
		if slow {
			b.pass(3 * time.Second)
		}
		return a, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var doubts []time.Duration
	k.Keep(ctx, c, func() float64 { return 0 }, func(err error) {
		if err != nil {
			t.Error(err)
		}
		doubts = append(doubts, c.Doubt())
		if slow = len(doubts) < 3; len(doubts) == 3 {
			cancel()
		}
	})
	if len(doubts) != 3 || doubts[0] < time.Second || b.Uptime() > time.Minute {
		t.Errorf("doubts %v after %v", doubts, b.Uptime())
	}
}

// TestAGatewayThatKnowsTheTimeAsksNoExpiredServer: the dates are left out only as
// long as they cannot be judged.
func TestAGatewayThatKnowsTheTimeAsksNoExpiredServer(t *testing.T) {
	a := pkitest.New(t)
	s := &service{cert: a.Server(t, "127.0.0.1"), now: time.Now}
	k := s.start(t, a)
	b := booted(time.Unix(1000, 0))
	c, err := Open(b, faultdisk.New(), "/state", time.Unix(0, 0), quiet)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(s.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Ask(t.Context(), c); err != nil {
		t.Fatal("a gateway that knows no time:", err)
	}
	if err := k.Ask(t.Context(), c); err != nil {
		t.Fatal("a gateway that knows the time, while the server is good:", err)
	}
	up := b.Uptime()
	if err := c.Raise(leaf.NotAfter.Add(time.Hour), up, up); err != nil {
		t.Fatal(err)
	}
	before := s.asked
	err = k.Ask(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "expired") || s.asked != before {
		t.Errorf("%v, and %d questions reached the expired server", err, s.asked-before)
	}
}
