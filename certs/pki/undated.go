package pki

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// ForSignedRoots is ForServer for a gateway that asks for signed roots because it can
// judge no server any more: it does not know the time, or its roots have expired. All
// is checked about the server but dates: those of the leaf, of every authority, and of
// the root. What comes over such a connection is believed by its own signature alone,
// and nothing but that question may go over it.
//
// ForTime asks more, that the chain was whole when the leaf was issued: a chain from an
// expired root by a cross-certificate never was. It has no signature of keys kept
// offline to fall back on.
func ForSignedRoots(name string, cert func() (*tls.Certificate, error), roots []*x509.Certificate) *tls.Config {
	c := policy(nil)
	c.ServerName = name
	c.InsecureSkipVerify = true // of the dates; VerifyConnection checks the rest
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() }
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errNoCertificate
		}
		leaf := s.PeerCertificates[0]
		if _, err := VerifyUndated(s.PeerCertificates, roots, x509.ExtKeyUsageServerAuth); err != nil {
			return &PeerError{leaf, err}
		}
		if err := leaf.VerifyHostname(name); err != nil {
			return &PeerError{leaf, err}
		}
		return nil
	}
	return c
}

// VerifyUndated is Verify but for dates.
func VerifyUndated(shown, roots []*x509.Certificate, usage x509.ExtKeyUsage) ([]*x509.Certificate, error) {
	at := time.Unix(0, 0)
	// A copy that is always valid: what was signed is its Raw form, which stays.
	undated := func(c *x509.Certificate) *x509.Certificate {
		d := *c
		d.NotBefore, d.NotAfter = at, at
		return &d
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(undated(r))
	}
	chain := make([]*x509.Certificate, 0, len(shown))
	for _, c := range shown {
		chain = append(chain, undated(c))
	}
	return Verify(chain, pool, at, usage)
}
