package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Explain says in a sentence why a TLS connection failed, for the status screen
// and the log, on either side. An error that has nothing to do with TLS comes
// back as its own text.
func Explain(err error) string {
	var (
		peer   *PeerError
		failed *tls.CertificateVerificationError
		record tls.RecordHeaderError
		remote *net.OpError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &peer):
		return fmt.Sprintf("the certificate of %s was refused: %s", describe(peer.Leaf), certificateFault(peer.Err))
	case errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0:
		return fmt.Sprintf("the certificate of %s was refused: %s", describe(failed.UnverifiedCertificates[0]), certificateFault(failed.Err))
	case errors.As(err, &record):
		return "the peer does not speak TLS"
	case errors.As(err, &remote) && remote.Op == "remote error":
		// The alert itself has no exported type. RFC 8446, 6.2.
		text := strings.TrimPrefix(remote.Err.Error(), "tls: ")
		if said, ok := alerts[text]; ok {
			return said
		}
		return "the peer ended the connection: " + text
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the peer closed the connection without saying why"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "the peer was too slow"
	}
	for part, said := range ownWords {
		if strings.Contains(err.Error(), part) {
			return said
		}
	}
	return err.Error()
}

// certificateFault says what is wrong with a certificate.
func certificateFault(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
	)
	switch {
	case errors.As(err, &unknown):
		// Its own text may name what stood in the way of a chain to our roots.
		_, hint, ok := strings.Cut(unknown.Error(), " (possibly because of ")
		if ok && strings.Contains(hint, "verification failure") { // everybody's root is named alike
			return "it comes from another authority than ours, though that has the same name"
		}
		if ok && strings.Contains(hint, "cannot sign this kind of certificate") {
			return "it was issued by a certificate that is not an authority's"
		}
		if ok {
			return "no chain leads from it to an authority of ours, possibly because of " + strings.TrimSuffix(hint, ")")
		}
		return "it comes from another authority than ours"
	case errors.As(err, &host):
		return fmt.Sprintf("it is for %s, not for %s", strings.Join(Names(host.Certificate), ", "), host.Host)
	case errors.As(err, &invalid):
		return invalidity(invalid)
	}
	return err.Error()
}

func invalidity(e x509.CertificateInvalidError) string {
	c := e.Cert
	switch e.Reason {
	case x509.Expired:
		which := "it"
		if c.IsCA {
			which = fmt.Sprintf("its authority %q", c.Subject.CommonName)
		}
		// Detail begins with "current time T is after" or "is before".
		if strings.Contains(e.Detail, " is before ") {
			return fmt.Sprintf("%s is valid only from %s; by the clock here it is too early (%s)", which, stamp(c.NotBefore), e.Detail)
		}
		return fmt.Sprintf("%s expired on %s (%s)", which, stamp(c.NotAfter), e.Detail)
	case x509.IncompatibleUsage:
		return "it, or its authority, is not for this use"
	case x509.NotAuthorizedToSign:
		return fmt.Sprintf("it was issued by %q, which is not an authority", c.Subject.CommonName)
	case x509.TooManyIntermediates:
		return fmt.Sprintf("%q may not have that many authorities below it", c.Subject.CommonName)
	case x509.CANotAuthorizedForThisName:
		return fmt.Sprintf("%q may not issue for that name: %s", c.Subject.CommonName, e.Detail)
	}
	return e.Error()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// describe names a certificate for people.
func describe(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if name == "" {
		name = strings.Join(Names(c), ", ")
	}
	issuer := "itself"
	if c.Issuer.CommonName != c.Subject.CommonName {
		issuer = fmt.Sprintf("%q", c.Issuer.CommonName)
	}
	return fmt.Sprintf("%q (issued by %s)", name, issuer)
}

// alerts are what a peer may say, in the words of crypto/tls.
var alerts = map[string]string{
	"bad certificate":                "the peer refused our certificate; it may be revoked there, or the wrong one: the peer's log says why",
	"unsupported certificate":        "the peer refused our certificate: it cannot use that kind",
	"revoked certificate":            "the peer refused our certificate: it is revoked",
	"expired certificate":            "the peer refused our certificate: by its clock it has expired or is not yet valid",
	"unknown certificate":            "the peer refused our certificate",
	"unknown certificate authority":  "the peer refused our certificate: it comes from another authority than the peer's",
	"certificate required":           "the peer demands a certificate and got none",
	"protocol version not supported": "the peer accepts none of the TLS versions that we offered",
	"handshake failure":              "the peer accepts none of the ciphers that we offered, or demands a certificate and got none",
	"access denied":                  "the peer refused us",
}

// ownWords are sentences for errors of our own side that have no type.
var ownWords = map[string]string{
	"tls: client didn't provide a certificate":                 "the peer has shown no certificate",
	"tls: client offered only unsupported versions":            "the peer offers only TLS versions that are too old",
	"tls: server selected unsupported protocol version":        "the peer accepts only TLS versions that are too old",
	"tls: no cipher suite supported by both client and server": "the peer offers no cipher with forward secrecy and authenticated encryption",
	"tls: server chose an unconfigured cipher suite":           "the peer chose a cipher that we did not offer",
}
