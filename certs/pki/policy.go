package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// suites12 are the TLS 1.2 suites: forward secrecy, authenticated encryption.
// Go's own default for 1.2 still offers CBC.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
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
// in: whether it is known and not revoked. It is asked at every handshake.
type GatewayCheck func(serial string, leaf *x509.Certificate) error

// ForGateways is the configuration of a server that gateways connect to. Each
// call makes one with ticket keys of its own: a session begun at one listener
// cannot be resumed at another.
func ForGateways(cert func() (*tls.Certificate, error), roots *x509.CertPool, now func() time.Time, check GatewayCheck) *tls.Config {
	c := policy(now)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() }
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = roots
	c.VerifyConnection = func(s tls.ConnectionState) error {
		leaf, err := verify(s, roots, now(), x509.ExtKeyUsageClientAuth, "")
		if err != nil {
			return err
		}
		serial, err := GatewaySerial(leaf)
		if err != nil {
			return err
		}
		return check(serial, leaf)
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

// PeerSerial is the serial number of the gateway at the other end of a
// connection that was made under ForGateways.
func PeerSerial(s tls.ConnectionState) (string, error) {
	if !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return "", errors.New("the peer has shown no certificate")
	}
	return GatewaySerial(s.PeerCertificates[0])
}

// verify checks the peer's chain again, for resumed sessions too, and that the
// leaf says what it is for: one without extended key usage passes Go's check.
func verify(s tls.ConnectionState, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage, name string) (*x509.Certificate, error) {
	if len(s.PeerCertificates) == 0 {
		return nil, errors.New("the peer has shown no certificate")
	}
	leaf := s.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return nil, err
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != usage {
		return nil, fmt.Errorf("the certificate of %s does not say that it is for this use alone", leaf.Subject.CommonName)
	}
	return leaf, nil
}

// Explain says in a sentence why a TLS connection failed, for the status screen
// and the log, on either side.
func Explain(err error) string {
	var (
		unknown *x509.UnknownAuthorityError
		u       x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		alert   tls.AlertError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &u) || errors.As(err, &unknown):
		return "the peer's certificate is of another authority than ours"
	case errors.As(err, &host):
		return fmt.Sprintf("the peer's certificate is for another name: it is for %v, not for %s", host.Certificate.DNSNames, host.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the peer's certificate is valid from %s to %s, and the time here is outside of that",
			invalid.Cert.NotBefore.Format(time.DateTime), invalid.Cert.NotAfter.Format(time.DateTime))
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "the peer's certificate is not for this use"
	case errors.As(err, &invalid):
		return "the peer's certificate is not acceptable: " + invalid.Error()
	case errors.As(err, &alert):
		if text, ok := alertTexts[uint8(alert)]; ok {
			return text
		}
		return "the peer refused the connection: " + alert.Error()
	case errors.As(err, &record):
		return "the peer does not speak TLS"
	}
	return err.Error()
}

// alertTexts are the alerts of RFC 8446, 6.2 that concern our certificate.
var alertTexts = map[uint8]string{
	42:  "the peer refused our certificate: it may be revoked, or unknown there",
	44:  "the peer says that our certificate is revoked",
	45:  "the peer says that our certificate has expired",
	48:  "the peer does not know the authority of our certificate",
	70:  "the peer speaks no TLS version that we accept",
	116: "the peer demands a certificate and got none",
}
