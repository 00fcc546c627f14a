package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// Rows where the connection is what is wrong: versions, ciphers, no certificate,
// revocations and tickets, sizes and slowness.

func TestAttackGatewayOldTLS(t *testing.T) {
	s := newStage(t, pki.DefaultLimits)
	good := show(s.Enrolled(t, "GW-0001"))
	for name, version := range map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11} {
		t.Run(name, func(t *testing.T) {
			s.mustServe(t, tls.VersionTLS12, good)
			s.mustHold(t, version, "TLS versions that are too old", good)
		})
	}
}

// weak are suites of TLS 1.2 that Go still speaks when it is told to.
var weak = map[string]uint16{
	"CBC":              tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"CBC, SHA-256":     tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
	"RSA key exchange": tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	"RSA and CBC":      tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	"3DES":             tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
}

func TestAttackGatewayWeakCipher(t *testing.T) {
	s := newStage(t, pki.DefaultLimits)
	cert := show(s.Enrolled(t, "GW-0001"))
	with := func(suite uint16) func(*tls.Config) {
		return func(c *tls.Config) {
			cert(c)
			c.CipherSuites = []uint16{suite}
		}
	}
	for name, suite := range weak {
		t.Run(name, func(t *testing.T) {
			s.mustServe(t, tls.VersionTLS12, with(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256))
			s.mustHold(t, tls.VersionTLS12, "no cipher with forward secrecy and authenticated encryption", with(suite))
		})
	}
}

func TestAttackGatewayWithoutCertificate(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			s.mustServe(t, version, show(s.Enrolled(t, "GW-0001")))
			s.mustHold(t, version, "the peer has shown no certificate", func(*tls.Config) {})
		})
	}
}

func TestAttackGatewayRevoked(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			revoked, other := show(s.Enrolled(t, "GW-0001")), show(s.Enrolled(t, "GW-0002"))
			s.mustServe(t, version, revoked)
			s.admit(func(serial string, _ *x509.Certificate) error {
				if serial == "GW-0001" {
					return errStolen
				}
				return nil
			})
			s.mustHold(t, version, errStolen.Error(), revoked)
			s.mustServe(t, version, other)
		})
	}
}

// resumption is a client that keeps tickets, and has one that works.
func resumption(t *testing.T, s *stage, version uint16, cert tls.Certificate) func(*tls.Config) {
	t.Helper()
	cache := tls.NewLRUClientSessionCache(1)
	client := func(c *tls.Config) {
		show(cert)(c)
		c.ClientSessionCache = cache
	}
	s.mustServe(t, version, client)
	if state := s.mustServe(t, version, client); !state.DidResume {
		t.Fatal("the control failed: the session was not resumed")
	}
	return client
}

func TestAttackGatewayRevokedThenResumedByTicket(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			client := resumption(t, s, version, s.Enrolled(t, "GW-0001"))
			s.admit(func(string, *x509.Certificate) error { return errStolen })
			s.mustHold(t, version, errStolen.Error(), client)
		})
	}
}

func TestAttackGatewayRoleChangedThenResumedByTicket(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			factory := resumption(t, s, version, s.Gateway(t, "GW-0001"))
			operational := resumption(t, s, version, s.Enrolled(t, "GW-0001"))
			s.admit(pki.OnlyRole(pki.Operational, func(string, *x509.Certificate) error { return nil }))
			s.mustHold(t, version, "a factory certificate, and an operational one is required", factory)
			if state := s.mustServe(t, version, operational); !state.DidResume {
				t.Error("the control was not resumed")
			}
		})
	}
}

func TestAttackFactoryIdentityWhereTheOperationalOneIsRequired(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			s.admit(pki.OnlyRole(pki.Operational, func(string, *x509.Certificate) error { return nil }))
			s.mustServe(t, version, show(s.Enrolled(t, "GW-0001")))
			s.mustHold(t, version, "a factory certificate, and an operational one is required", show(s.Gateway(t, "GW-0001")))
		})
	}
}

// TestAttackTicketOfAnotherListener: a session that was begun where factory
// identities may come in cannot be resumed where they may not.
func TestAttackTicketOfAnotherListener(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			a := newStage(t, pki.DefaultLimits)
			client := resumption(t, a, version, a.Enrolled(t, "GW-0001"))
			b := &stage{Authorities: a.Authorities, refused: make(chan error, 100), check: func(string, *x509.Certificate) error { return nil }}
			b.listen(t, pki.DefaultLimits)
			if state := b.mustServe(t, version, client); state.DidResume {
				t.Error("a ticket of one listener was good at another")
			}
		})
	}
}

// long is a chain with so many certificates behind the good ones that the whole
// has more than that many bytes.
func long(t *testing.T, good tls.Certificate, size int) tls.Certificate {
	t.Helper()
	c := tls.Certificate{PrivateKey: good.PrivateKey, Leaf: good.Leaf, Certificate: append([][]byte(nil), good.Certificate...)}
	padding := selfSigned(t, &x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("x", 4000)}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)})
	for n := 0; n < size; n += len(padding.Certificate[0]) {
		c.Certificate = append(c.Certificate, padding.Certificate[0])
	}
	return c
}

func TestAttackGatewayOversizeChain(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, pki.DefaultLimits)
			good := s.Enrolled(t, "GW-0001")
			s.mustServe(t, version, show(long(t, good, 4000)))
			s.mustHold(t, version, "", show(long(t, good, 300_000)))
		})
	}
}

func TestAttackGatewaySlowHandshake(t *testing.T) {
	limits := pki.DefaultLimits
	limits.Handshake = 3 * time.Second
	s := newStage(t, limits)
	s.mustServe(t, tls.VersionTLS13, show(s.Enrolled(t, "GW-0001")))
	for name, say := range map[string][]byte{"says nothing": nil, "says half a ClientHello": {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(say); err != nil {
				t.Fatal(err)
			}
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(c); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it is still connected: %v", err)
			}
			s.mustHaveRefused(t, "too slow")
			if s.conns.Load() != 1 { // the control's
				t.Error("it reached the application")
			}
		})
	}
}

func TestAttackGatewayPlaintextOnTheTLSPort(t *testing.T) {
	s := newStage(t, pki.DefaultLimits)
	s.mustServe(t, tls.VersionTLS13, show(s.Enrolled(t, "GW-0001")))
	for name, say := range map[string]string{
		"HTTP":   "POST /v1/assignment HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"MQTT":   "\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07GW-0001",
		"a line": "let me in\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, say); err != nil {
				t.Fatal(err)
			}
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(c)
			if bytes.Contains(answer, []byte("welcome")) {
				t.Errorf("it was answered with %q", answer)
			}
			s.mustHaveRefused(t, "does not speak TLS")
			if s.conns.Load() != 1 || s.bytes.Load() != int64(len("let me in\n")) { // the control's
				t.Error("it reached the application")
			}
		})
	}
}

// serving is a liar's configuration.
func serving(c tls.Certificate, change func(*tls.Config)) *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{c}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	change(config)
	return config
}

func TestAttackServerOldTLS(t *testing.T) {
	a := pkitest.New(t)
	id, good := identity(t, a), a.Server(t, "localhost")
	for name, version := range map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11} {
		t.Run(name, func(t *testing.T) {
			overTLS(t, serving(good, func(*tls.Config) {})).mustBeTrusted(t, id, "localhost")
			old := serving(good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			overTLS(t, old).mustGetNothing(t, id, "localhost", "the peer accepts none of the TLS versions that we offered")
		})
	}
}

func TestAttackServerWeakCipher(t *testing.T) {
	a := pkitest.New(t)
	id := identity(t, a)
	// A server that has both kinds of key, so that only the cipher can be the fault.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Servers.IssueServer([]string{"localhost"}, key.Public(), time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ofRSA := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw, a.Servers.Certificate.Raw}}
	ofECDSA := a.Server(t, "localhost")
	if _, ok := ofECDSA.PrivateKey.(*ecdsa.PrivateKey); !ok {
		t.Fatal("not ECDSA")
	}
	with := func(suite uint16) *tls.Config {
		return serving(ofECDSA, func(c *tls.Config) {
			c.Certificates = append(c.Certificates, ofRSA)
			c.CipherSuites = []uint16{suite}
		})
	}
	for name, suite := range weak {
		t.Run(name, func(t *testing.T) {
			overTLS(t, with(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)).mustBeTrusted(t, id, "localhost")
			overTLS(t, with(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)).mustBeTrusted(t, id, "localhost")
			overTLS(t, with(suite)).mustGetNothing(t, id, "localhost", "none of the ciphers that we offered")
		})
	}
}

func TestAttackServerOversizeChain(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			a := pkitest.New(t)
			id, good := identity(t, a), a.Server(t, "localhost")
			at := func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
			overTLS(t, serving(long(t, good, 4000), at)).mustBeTrusted(t, id, "localhost")
			overTLS(t, serving(long(t, good, 300_000), at)).mustGetNothing(t, id, "localhost", "")
		})
	}
}

func TestAttackServerSlowHandshake(t *testing.T) {
	a := pkitest.New(t)
	id := identity(t, a)
	silent := lie(t, func(c net.Conn) net.Conn { return mute{c} })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // as the gateway bounds every dial
	defer cancel()
	c, err := (&tls.Dialer{Config: id.ClientTLS("localhost")}).DialContext(ctx, "tcp", silent.addr)
	if err == nil {
		c.Close()
		t.Fatal("a server that says nothing was believed")
	}
	if why := pki.Explain(err); !strings.Contains(why, "too slow") {
		t.Errorf("the gateway says %q", why)
	}
	overTLS(t, serving(a.Server(t, "localhost"), func(*tls.Config) {})).mustBeTrusted(t, id, "localhost")
}

// mute swallows what it is sent, and says nothing.
type mute struct{ net.Conn }

func (m mute) Read([]byte) (int, error) {
	_, _ = io.Copy(io.Discard, m.Conn)
	return 0, io.EOF
}

// plainSpeaker reads nothing before it has spoken.
type plainSpeaker struct {
	net.Conn
	says string
}

func (p plainSpeaker) Read(b []byte) (int, error) {
	if _, err := io.WriteString(p.Conn, p.says); err != nil {
		return 0, err
	}
	_, _ = p.Conn.Read(make([]byte, 64<<10)) // the ClientHello, which is no application data
	return p.Conn.Read(b)
}

func TestAttackServerPlaintext(t *testing.T) {
	a := pkitest.New(t)
	id := identity(t, a)
	overTLS(t, serving(a.Server(t, "localhost"), func(*tls.Config) {})).mustBeTrusted(t, id, "localhost")
	for name, says := range map[string]string{"HTTP": "HTTP/1.1 200 OK\r\n\r\n", "MQTT": "\x20\x02\x00\x00    "} {
		t.Run(name, func(t *testing.T) {
			l := lie(t, func(c net.Conn) net.Conn { return plainSpeaker{c, says} })
			err := l.reach(t, id, "localhost")
			if why := pki.Explain(err); !strings.Contains(why, "does not speak TLS") {
				t.Errorf("the gateway says %q (%v)", why, err)
			}
			<-l.done
			// What comes after the ClientHello can only be an alert (21), never data (23).
			if l.bytes.Load() > 7 {
				t.Errorf("the gateway sent %d bytes after its ClientHello", l.bytes.Load())
			}
		})
	}
}
