package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// configurations are all that a TLS connection of Penstock's may be made under.
func configurations(t *testing.T) map[string]*tls.Config {
	t.Helper()
	a := pkitest.New(t)
	cert := a.Server(t, "localhost")
	get := func() (*tls.Certificate, error) { return &cert, nil }
	return map[string]*tls.Config{
		"for gateways": pki.ForGateways(get, a.CA.Pool(), time.Now, func(string, *x509.Certificate) error { return nil }),
		"for browsers": pki.ForBrowsers(get, time.Now),
		"for servers":  pki.ForServer("localhost", get, a.CA.Pool(), time.Now, nil),
	}
}

func TestThePolicyIsTheSameEverywhere(t *testing.T) {
	safe := map[uint16]bool{}
	for _, s := range tls.CipherSuites() {
		safe[s.ID] = true
	}
	for name, c := range configurations(t) {
		if c.MinVersion != tls.VersionTLS12 || c.MaxVersion != 0 || c.Renegotiation != tls.RenegotiateNever || c.InsecureSkipVerify || c.Time == nil {
			t.Errorf("%s: version %x to %x, renegotiation %v, unverified %v", name, c.MinVersion, c.MaxVersion, c.Renegotiation, c.InsecureSkipVerify)
		}
		if len(c.CipherSuites) == 0 {
			t.Errorf("%s: Go's own suites of TLS 1.2, which have CBC among them", name)
		}
		for _, id := range c.CipherSuites {
			n := tls.CipherSuiteName(id)
			if !safe[id] || !slices.Contains([]string{"TLS_ECDHE_ECDSA", "TLS_ECDHE_RSA_W"}, n[:15]) || !slices.ContainsFunc([]string{"GCM_SHA256", "GCM_SHA384", "POLY1305_SHA256"}, func(end string) bool { return len(n) > len(end) && n[len(n)-len(end):] == end }) {
				t.Errorf("%s: the suite %s", name, n)
			}
		}
	}
	all := configurations(t)
	if c := all["for gateways"]; c.ClientAuth != tls.RequireAndVerifyClientCert || c.ClientCAs == nil || c.VerifyConnection == nil {
		t.Error("a server for gateways must demand a certificate and check it in VerifyConnection")
	}
	if c := all["for servers"]; c.ServerName != "localhost" || c.RootCAs == nil || c.VerifyConnection == nil {
		t.Error("a gateway must know the name and the roots of its server")
	}
	if c := all["for browsers"]; c.ClientAuth != tls.NoClientCert {
		t.Error("a browser has no certificate")
	}
}

// TestWhereDatesDoNotCountTheRestOfThePolicyDoes: the two connections of a gateway that
// cannot judge dates.
func TestWhereDatesDoNotCountTheRestOfThePolicyDoes(t *testing.T) {
	a := pkitest.New(t)
	cert := a.Gateway(t, "GW-0001")
	get := func() (*tls.Certificate, error) { return &cert, nil }
	strict := pki.ForServer("localhost", get, a.CA.Pool(), time.Now, nil)
	for name, c := range map[string]*tls.Config{
		"for time":         pki.ForTime("localhost", get, a.CA.Pool()),
		"for signed roots": pki.ForSignedRoots("localhost", get, []*x509.Certificate{a.Root.Certificate}),
	} {
		if c.MinVersion != strict.MinVersion || c.MaxVersion != strict.MaxVersion || c.Renegotiation != strict.Renegotiation || !slices.Equal(c.CipherSuites, strict.CipherSuites) {
			t.Errorf("%s: versions %x to %x, suites %x", name, c.MinVersion, c.MaxVersion, c.CipherSuites)
		}
		if c.ServerName != "localhost" || c.VerifyConnection == nil || c.GetClientCertificate == nil || c.ClientSessionCache != nil {
			t.Errorf("%s: name %q; the checks are its own, and nothing of it is resumed elsewhere", name, c.ServerName)
		}
		if err := c.VerifyConnection(tls.ConnectionState{}); err == nil {
			t.Errorf("%s: a server without a certificate is believed", name)
		}
	}
}

func TestACallerCannotWeakenThePolicyOfOthers(t *testing.T) {
	all := configurations(t)
	all["for gateways"].CipherSuites[0] = tls.TLS_RSA_WITH_RC4_128_SHA
	for name, c := range configurations(t) {
		if slices.Contains(c.CipherSuites, tls.TLS_RSA_WITH_RC4_128_SHA) {
			t.Errorf("%s has the suite that was put into another's", name)
		}
	}
}

// flood is a listener on which a peer that says nothing of sense waits at any time.
type flood struct {
	accepted atomic.Int64
	closed   chan struct{}
	once     sync.Once
}

func (f *flood) Accept() (net.Conn, error) {
	select {
	case <-f.closed:
		return nil, net.ErrClosed
	default:
	}
	f.accepted.Add(1)
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		_, _ = io.WriteString(there, "GET / HTTP/1.1\r\n\r\n")
		_, _ = io.Copy(io.Discard, there)
	}()
	return here, nil
}

func (f *flood) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func (f *flood) Addr() net.Addr { return &net.TCPAddr{} }

func TestAFloodOfHandshakesIsPaced(t *testing.T) {
	server := configurations(t)["for gateways"]
	synctest.Test(t, func(t *testing.T) {
		f := &flood{closed: make(chan struct{})}
		var refused atomic.Int64
		start := time.Now()
		l := pki.Secure(f, server, pki.Limits{Handshake: time.Second, Conns: 100, PerSecond: 20}, func(net.Addr, error) { refused.Add(1) })
		time.Sleep(10 * time.Second)
		if n, most := f.accepted.Load(), int64(20+20*10+1); n > most || n < most-3 {
			t.Errorf("%d handshakes in %v; want %d", n, time.Since(start), most)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after its end: %v, %v", c, err)
		}
		if refused.Load() == 0 {
			t.Error("nobody was refused")
		}
	})
}

func TestAsManyConnectionsAsThereArePlaces(t *testing.T) {
	a := pkitest.New(t)
	server, client := a.Server(t, "localhost"), a.Enrolled(t, "GW-0001")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, a.CA.Pool(), time.Now, func(string, *x509.Certificate) error { return nil })
	l := pki.Secure(plain, config, pki.Limits{Handshake: 30 * time.Second, Conns: 1}, func(_ net.Addr, err error) { t.Errorf("refused: %v", err) })
	defer l.Close()
	dial := func() <-chan *tls.Conn {
		done := make(chan *tls.Conn, 1)
		go func() {
			c, err := tls.Dial("tcp", plain.Addr().String(), pki.ForServer("localhost", func() (*tls.Certificate, error) { return &client, nil }, a.CA.Pool(), time.Now, nil))
			if err != nil {
				t.Errorf("dialling: %v", err)
			}
			done <- c
		}()
		return done
	}
	first := <-dial()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := dial() // waits in the kernel
	served.Close()
	first.Close()
	(<-second).Close() // comes in now that there is a place
	next, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
}
