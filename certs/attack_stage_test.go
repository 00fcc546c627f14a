package certs_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/certs"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/disk/faultdisk"
)

// The attack matrix. A row holds when the attacked side's application has seen
// nothing: the handshake alone is no measure, since a client of TLS 1.3 believes
// that it has finished before the server has looked at its certificate. Where the
// server is the liar, the gateway must have sent it nothing. Each row has a control
// that differs in the fault alone, and succeeds.

// patience bounds what a test waits for; nothing is expected to take it.
const patience = 30 * time.Second

// versions that a row is played in.
var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// stage is a server that gateways connect to, as auth service and endpoint are.
// Its application counts what reaches it, and answers a line with "welcome".
type stage struct {
	*pkitest.Authorities
	addr    string
	refused chan error

	mu    sync.Mutex
	check pki.GatewayCheck // the handshake's, may be changed in a test

	conns, bytes atomic.Int64 // that reached the application
}

func newStage(t *testing.T, limits pki.Limits) *stage {
	t.Helper()
	s := &stage{Authorities: pkitest.New(t), refused: make(chan error, 100)}
	s.admit(func(string, *x509.Certificate) error { return nil })
	s.listen(t, limits)
	return s
}

// admit changes who may come in.
func (s *stage) admit(check pki.GatewayCheck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check = check
}

func (s *stage) listen(t *testing.T, limits pki.Limits) {
	t.Helper()
	server := s.Server(t, "localhost")
	config := pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, s.CA.Pool(), time.Now, func(serial string, leaf *x509.Certificate) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.check(serial, leaf)
	})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = plain.Addr().String()
	l := pki.Secure(plain, config, limits, func(_ net.Addr, err error) { s.refused <- err })
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { s.application(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
}

func (s *stage) application(c net.Conn) {
	defer c.Close()
	s.conns.Add(1)
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		s.bytes.Add(int64(len(line)))
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, "welcome\n"); err != nil {
			return
		}
	}
}

// show forces a certificate on the server: a Go client would leave one out that the
// server does not list.
func show(c tls.Certificate) func(*tls.Config) {
	return func(config *tls.Config) {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	}
}

// knock connects as an attacker does, who does not care whom it speaks to, and
// tells what the application answered.
func (s *stage) knock(t *testing.T, version uint16, change func(*tls.Config)) (string, tls.ConnectionState, error) {
	t.Helper()
	config := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
	change(config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return "", tls.ConnectionState{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", tls.ConnectionState{}, err
	}
	_, _ = io.WriteString(c, "let me in\n") // the refusal may be here already
	answer, err := bufio.NewReader(c).ReadString('\n')
	return answer, c.(*tls.Conn).ConnectionState(), err
}

// mustServe is the control.
func (s *stage) mustServe(t *testing.T, version uint16, change func(*tls.Config)) tls.ConnectionState {
	t.Helper()
	answer, state, err := s.knock(t, version, change)
	if answer != "welcome\n" {
		t.Fatalf("the control failed: %q, %v", answer, err)
	}
	return state
}

// mustHold plays a row: nothing reaches the application, and the log says why.
func (s *stage) mustHold(t *testing.T, version uint16, says string, change func(*tls.Config)) {
	t.Helper()
	conns, bytes := s.conns.Load(), s.bytes.Load()
	if answer, _, err := s.knock(t, version, change); err == nil || answer != "" {
		t.Errorf("the attacker was answered with %q", answer)
	}
	s.mustHaveRefused(t, says)
	if c, b := s.conns.Load()-conns, s.bytes.Load()-bytes; c != 0 || b != 0 {
		t.Errorf("%d connections and %d bytes reached the application", c, b)
	}
}

func (s *stage) mustHaveRefused(t *testing.T, says string) {
	t.Helper()
	select {
	case err := <-s.refused:
		if why := pki.Explain(err); !strings.Contains(why, says) {
			t.Errorf("the log says %q; want %q", why, says)
		}
	case <-time.After(patience):
		t.Fatal("the server has not refused")
	}
}

// row plays an attack on a server by a certificate, in both versions of TLS, with
// its control.
func row(t *testing.T, says string, forge func(t *testing.T, s *stage) (attack, control tls.Certificate)) {
	t.Helper()
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			attack, control := forge(t, s)
			s.mustServe(t, version, show(control))
			s.mustHold(t, version, says, show(attack))
			s.mustServe(t, version, show(control))
		})
	}
}

// gatewayLike is what the operational authority signs for a gateway.
func gatewayLike(t *testing.T, a *pkitest.Authorities, serial string) *x509.Certificate {
	t.Helper()
	return likeThat(a.Enrolled(t, serial).Leaf)
}

// serverLike is what the servers' authority signs for a server.
func serverLike(t *testing.T, a *pkitest.Authorities, host string) *x509.Certificate {
	t.Helper()
	return likeThat(a.Server(t, host).Leaf)
}

// likeThat is a template of what is in a certificate.
func likeThat(c *x509.Certificate) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: c.Subject.CommonName}, DNSNames: c.DNSNames, IPAddresses: c.IPAddresses,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, BasicConstraintsValid: true, KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage, Policies: c.Policies}
}

// authorityLike is a template of an intermediate.
func authorityLike(c *x509.Certificate) *x509.Certificate {
	like := likeThat(c)
	like.Subject.CommonName += " (forged)"
	like.IsCA, like.Policies = true, c.Policies
	return like
}

func expired(c *x509.Certificate) *x509.Certificate {
	c.NotBefore, c.NotAfter = time.Now().Add(-50*time.Minute), time.Now().Add(-30*time.Minute)
	return c
}

func notYet(c *x509.Certificate) *x509.Certificate {
	c.NotBefore = time.Now().Add(2 * time.Hour)
	return c
}

// selfSigned signs a template by its own key.
func selfSigned(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key := pkitest.Key(t)
	c, err := (&pki.Authority{Key: key}).Sign(template, key.Public(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pkitest.Join(key, c)
}

// identity is a real gateway's, from its folder.
func identity(t *testing.T, a *pkitest.Authorities) *certs.Identity {
	t.Helper()
	d := faultdisk.New()
	if !bench(t, a, d, facts, false) {
		t.Fatal("no identity")
	}
	id, err := certs.Load(d, dir, ks, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// liar is a server that a gateway is led to. It takes any client, and counts what
// the gateway's application sends it.
type liar struct {
	addr  string
	bytes atomic.Int64
	done  chan struct{} // receives at the end of each connection
}

func lie(t *testing.T, serve func(c net.Conn) net.Conn) *liar {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{addr: plain.Addr().String(), done: make(chan struct{}, 100)}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			raw, err := plain.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { l.done <- struct{}{} }()
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(patience))
				line, _ := bufio.NewReader(serve(raw)).ReadString('\n')
				l.bytes.Add(int64(len(line)))
			})
		}
	})
	t.Cleanup(func() {
		plain.Close()
		work.Wait()
	})
	return l
}

// overTLS makes a liar that speaks TLS.
func overTLS(t *testing.T, config *tls.Config) *liar {
	t.Helper()
	return lie(t, func(c net.Conn) net.Conn { return tls.Server(c, config) })
}

// reach lets a gateway connect to a liar under a name, and send.
func (l *liar) reach(t *testing.T, id *certs.Identity, name string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := (&tls.Dialer{Config: id.ClientTLS(name)}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c, "a reading\n")
	return errors.Join(err, c.Close())
}

// mustBeTrusted is the control.
func (l *liar) mustBeTrusted(t *testing.T, id *certs.Identity, name string) {
	t.Helper()
	if err := l.reach(t, id, name); err != nil {
		t.Fatalf("the control failed: %v", err)
	}
	<-l.done
	if l.bytes.Load() == 0 {
		t.Fatal("the control failed: nothing came")
	}
}

// mustGetNothing plays a row against the gateway.
func (l *liar) mustGetNothing(t *testing.T, id *certs.Identity, name, says string) {
	t.Helper()
	err := l.reach(t, id, name)
	if err == nil {
		t.Error("the gateway took the liar for its server")
	} else if why := pki.Explain(err); !strings.Contains(why, says) {
		t.Errorf("the gateway says %q; want %q", why, says)
	}
	select {
	case <-l.done:
	case <-time.After(patience):
		t.Fatal("the liar still has a connection")
	}
	if n := l.bytes.Load(); n != 0 {
		t.Errorf("the gateway sent the liar %d bytes", n)
	}
}

// serverRow plays an attack on a gateway by a server's certificate, in both
// versions of TLS, with its control.
func serverRow(t *testing.T, says string, forge func(t *testing.T, a *pkitest.Authorities) (attack, control tls.Certificate)) {
	t.Helper()
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			a := pkitest.New(t)
			id := identity(t, a)
			attack, control := forge(t, a)
			with := func(c tls.Certificate) *tls.Config {
				return &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: tls.RequestClientCert,
					GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c, nil }}
			}
			overTLS(t, with(control)).mustBeTrusted(t, id, "localhost")
			overTLS(t, with(attack)).mustGetNothing(t, id, "localhost", says)
		})
	}
}

var errStolen = errors.New("it is revoked: stolen")
