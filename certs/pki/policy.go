package pki

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// suites12 are the TLS 1.2 suites: forward secrecy, authenticated encryption.
// Go's own default for 1.2 still offers CBC. Our authorities issue for ECDSA;
// the RSA suites are for servers of somebody else's.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// policy is what every configuration has in common.
func policy(now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:    tls.VersionTLS12,
		CipherSuites:  slices.Clone(suites12),
		Time:          now,
		Renegotiation: tls.RenegotiateNever,
	}
}

// GatewayCheck decides whether a gateway whose certificate is in order may come
// in: whether it is known and not revoked, and (by ReadGateway) whether its role
// will do. It is asked at every handshake, of resumed sessions too. Its error
// goes to the log; the gateway learns only that it was refused.
type GatewayCheck func(serial string, leaf *x509.Certificate) error

// ForGateways is the configuration of a server that gateways connect to. Each
// call makes one with ticket keys of its own, so that a session begun at one
// listener cannot be resumed at another: call it once for each listener, and do
// not clone what it returns.
func ForGateways(cert func() (*tls.Certificate, error), roots *x509.CertPool, now func() time.Time, check GatewayCheck) *tls.Config {
	return ForGatewaysUnder(cert, func() *x509.CertPool { return roots }, now, check)
}

// ForGatewaysUnder is ForGateways for roots that change while the server runs, when
// they are rotated. They are asked for at every handshake.
func ForGatewaysUnder(cert func() (*tls.Certificate, error), roots func() *x509.CertPool, now func() time.Time, check GatewayCheck) *tls.Config {
	c := policy(now)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() }
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = roots()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		today := roots()
		if today == c.ClientCAs {
			return nil, nil
		}
		// The ticket keys of c stay in use: those of what is returned here are not set.
		fresh := policy(now)
		fresh.GetCertificate, fresh.ClientAuth, fresh.ClientCAs, fresh.VerifyConnection = c.GetCertificate, c.ClientAuth, today, c.VerifyConnection
		return fresh, nil
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		chain, err := verify(s, roots(), now(), x509.ExtKeyUsageClientAuth, "")
		if err != nil {
			return err
		}
		g, err := ReadGateway(chain[0])
		if err != nil {
			return &PeerError{chain[0], err}
		}
		if !hasRole(chain[1], g.Role) {
			return &PeerError{chain[0], fmt.Errorf("%q may not issue %s certificates", chain[1].Subject.CommonName, g.Role)}
		}
		if err := check(g.Serial, chain[0]); err != nil {
			return &PeerError{chain[0], err}
		}
		return nil
	}
	return c
}

// ForBrowsers is the configuration of the web page's server: no client
// certificates.
func ForBrowsers(cert func() (*tls.Certificate, error), now func() time.Time) *tls.Config {
	c := policy(now)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() }
	return c
}

// ForServer is the configuration of a gateway that connects to a server of that
// name. The client certificate is always sent: a server that does not list its
// authority shall say so, rather than see no certificate.
func ForServer(name string, cert func() (*tls.Certificate, error), roots *x509.CertPool, now func() time.Time, sessions tls.ClientSessionCache) *tls.Config {
	c := policy(now)
	c.ServerName = name
	c.RootCAs = roots
	c.ClientSessionCache = sessions
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() }
	c.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := verify(s, roots, now(), x509.ExtKeyUsageServerAuth, name)
		return err
	}
	return c
}

// Peer is the gateway at the other end of a connection that was made under
// ForGateways.
func Peer(s tls.ConnectionState) (Gateway, error) {
	if !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return Gateway{}, errNoCertificate
	}
	return ReadGateway(s.PeerCertificates[0])
}

// PeerSerial is the serial number of that gateway.
func PeerSerial(s tls.ConnectionState) (string, error) {
	g, err := Peer(s)
	return g.Serial, err
}

// PeerError says whose certificate failed our own checks, and why.
type PeerError struct {
	Leaf *x509.Certificate
	Err  error
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("the certificate of %s: %v", describe(e.Leaf), e.Err)
}

func (e *PeerError) Unwrap() error { return e.Err }

// verify checks the peer's chain again, for resumed sessions too, and that the
// leaf says what it is for: one without extended key usage passes Go's check. It
// returns the chain, leaf first, root last.
func verify(s tls.ConnectionState, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage, name string) ([]*x509.Certificate, error) {
	if len(s.PeerCertificates) == 0 {
		return nil, errNoCertificate
	}
	leaf := s.PeerCertificates[0]
	chain, err := Verify(s.PeerCertificates, roots, now, usage)
	if err != nil {
		return nil, &PeerError{leaf, err}
	}
	if name != "" {
		if err := leaf.VerifyHostname(name); err != nil {
			return nil, &PeerError{leaf, err}
		}
	}
	return chain, nil
}

// Verify checks a chain as a peer shows it, leaf first, and returns the one that
// leads to a root.
func Verify(shown []*x509.Certificate, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) ([]*x509.Certificate, error) {
	leaf := shown[0]
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil, err
	}
	if len(chains[0]) < 2 {
		return nil, fmt.Errorf("it is one of the roots, and a root serves nobody")
	}
	if !says(leaf, usage) {
		return nil, fmt.Errorf("it does not say that it is for %s", usageText(usage))
	}
	for _, c := range chains[0] {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
			return nil, fmt.Errorf("%q has an RSA key of %d bits; %d is the least", c.Subject.CommonName, key.N.BitLen(), minRSA)
		}
	}
	return chains[0], nil
}

// minRSA is the least size of an RSA key in bits (NIST SP 800-131A). Requests must be
// for P-256; this is for certificates that somebody else's authority has issued.
const minRSA = 2048

func usageText(usage x509.ExtKeyUsage) string {
	if usage == x509.ExtKeyUsageServerAuth {
		return "a server"
	}
	return "a client"
}

// OnlyRole lets gateways with a certificate of that role pass to the next check.
// The endpoint asks for the operational one; the auth service asks by route, since
// enrolment takes the factory identity.
func OnlyRole(role Role, next GatewayCheck) GatewayCheck {
	return func(serial string, leaf *x509.Certificate) error {
		g, err := ReadGateway(leaf)
		if err != nil {
			return err
		}
		if err := g.Must(role); err != nil {
			return err
		}
		return next(serial, leaf)
	}
}

// RoleError: a gateway showed a certificate of another role than is required.
type RoleError struct {
	Serial         string
	Shown, Require Role
}

func (e *RoleError) Error() string {
	article := map[Role]string{Factory: "a", Operational: "an"}
	return fmt.Sprintf("%s shows %s %s certificate, and %s %s one is required", e.Serial, article[e.Shown], e.Shown, article[e.Require], e.Require)
}

// Must is nil when the gateway showed a certificate of that role, else a
// *RoleError.
func (g Gateway) Must(role Role) error {
	if g.Role != role {
		return &RoleError{g.Serial, g.Role, role}
	}
	return nil
}
