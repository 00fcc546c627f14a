package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"penstock/internal/disk"
)

// Server keeps a server supplied with a certificate. It is issued anew, with a
// new key, once 60 % of its life have passed or its authority has been rotated; until then it survives restarts, so
// that a browser that was told to trust it is asked once.
type Server struct {
	ca    *CA
	name  string
	hosts []string

	mu      sync.Mutex
	current *tls.Certificate
}

// Server opens the certificate of the server of that name (one of "auth",
// "endpoint" and "web"), for the hosts that it is reached by. It is kept with its
// key as server-NAME.pem beside the authorities, and issued when there is none or
// when it is not for these hosts.
func (ca *CA) Server(name string, hosts []string) (*Server, error) {
	s := &Server{ca: ca, name: name, hosts: slices.Clone(hosts)}
	cert, err := s.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && s.fits(cert.Leaf) {
		s.current = cert
	}
	_, err = s.Certificate()
	return s, err
}

// Certificate is the certificate to show now. Any goroutine may call it, at each
// handshake. Where a new one cannot be issued, the old one serves to its end.
func (s *Server) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.ca.clock.Now()
	if s.current != nil && s.current.Leaf.CheckSignatureFrom(s.ca.now().current("servers").Certificate) == nil {
		leaf := s.current.Leaf
		if life := leaf.NotAfter.Sub(leaf.NotBefore); now.Before(leaf.NotBefore.Add(life * 6 / 10)) {
			return s.current, nil
		}
	}
	fresh, err := s.issue(now)
	if err != nil {
		if s.current != nil && now.Before(s.current.Leaf.NotAfter) {
			return s.current, nil
		}
		return nil, fmt.Errorf("the certificate of the %s server: %w", s.name, err)
	}
	s.current = fresh
	return fresh, nil
}

// Fingerprint is the SHA-256 of the certificate, as browsers show it.
func (s *Server) Fingerprint() (string, error) {
	c, err := s.Certificate()
	if err != nil {
		return "", err
	}
	return Fingerprint(c.Leaf), nil
}

// Fingerprint is the SHA-256 of a certificate as browsers show it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	text := make([]byte, 0, 3*len(sum))
	for i, b := range sum {
		if i > 0 {
			text = append(text, ':')
		}
		text = fmt.Appendf(text, "%02X", b)
	}
	return string(text)
}

// issue makes and keeps a new certificate; mu is held. Key and certificate are
// one file, replaced as a whole.
func (s *Server) issue(now time.Time) (*tls.Certificate, error) {
	key, err := NewKey(s.ca.rand)
	if err != nil {
		return nil, err
	}
	set := s.ca.now()
	servers := set.current("servers")
	leaf, err := servers.IssueServer(s.hosts, key.Public(), now, s.ca.rand)
	if err != nil {
		return nil, err
	}
	text, err := EncodeKey(key)
	if err != nil {
		return nil, err
	}
	// The cross-certificates are for gateways that know an earlier root alone.
	chain := append([]*x509.Certificate{leaf, servers.Certificate}, set.crosses...)
	if err := disk.WriteFile(s.ca.fsys, s.file(), append(text, EncodeCertificates(chain...)...), 0o600); err != nil {
		return nil, err
	}
	return tlsCertificate(chain, key), nil
}

func (s *Server) file() string { return s.ca.path("server-" + s.name + ".pem") }

func (s *Server) load() (*tls.Certificate, error) {
	text, err := ReadSecret(s.ca.fsys, s.file())
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; without the file another is issued", s.file(), err)
	}
	return &cert, nil
}

// fits tells whether a certificate that was kept is what would be issued: by the
// servers' authority of today, for these hosts.
func (s *Server) fits(leaf *x509.Certificate) bool {
	if leaf.CheckSignatureFrom(s.ca.now().current("servers").Certificate) != nil || len(Names(leaf)) != len(s.hosts) {
		return false
	}
	for _, h := range s.hosts {
		if leaf.VerifyHostname(h) != nil {
			return false
		}
	}
	return s.ca.clock.Now().After(leaf.NotBefore)
}

// tlsCertificate joins a chain, leaf first, with its key.
func tlsCertificate(chain []*x509.Certificate, key any) *tls.Certificate {
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}
