package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// NonceSize is the length of a nonce in a question for the time.
const NonceSize = 16

// TimeAnswer is the auth service's answer to POST /v1/time. The question is
// {"nonce": …}; the signature is ECDSA (ASN.1) by the key of the server's
// certificate over SHA-256 of
//
//	"penstock time 1" 0x00 | nonce | milliseconds since 1970, 8 bytes, big endian
type TimeAnswer struct {
	Millis    int64  `json:"ms"`
	Signature []byte `json:"signature"`
}

func timeDigest(nonce []byte, millis int64) []byte {
	h := sha256.New()
	h.Write([]byte("penstock time 1\x00"))
	h.Write(nonce)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(millis)))
	return h.Sum(nil)
}

// SignTime answers a question for the time with the server's certificate.
func SignTime(cert *tls.Certificate, nonce []byte, now time.Time) (TimeAnswer, error) {
	if len(nonce) != NonceSize {
		return TimeAnswer{}, fmt.Errorf("a nonce of %d bytes; it has %d", len(nonce), NonceSize)
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return TimeAnswer{}, errors.New("the server's key cannot sign")
	}
	a := TimeAnswer{Millis: now.UnixMilli()}
	var err error
	a.Signature, err = key.Sign(rand.Reader, timeDigest(nonce, a.Millis), crypto.SHA256)
	return a, err
}

// CheckTime tells what time an answer says, if the server that showed these
// certificates signed it for this nonce, and if every certificate on the way to a
// root was valid at that very time. So whoever has stolen a server's key can claim
// no time beyond the life of its certificate, and an old key claims only the past.
func CheckTime(a TimeAnswer, nonce []byte, shown []*x509.Certificate, roots *x509.CertPool) (time.Time, error) {
	if len(shown) == 0 {
		return time.Time{}, errNoCertificate
	}
	key, ok := shown[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(key, timeDigest(nonce, a.Millis), a.Signature) {
		return time.Time{}, errors.New("the signature of the time is not the server's, or not for this question")
	}
	t := time.UnixMilli(a.Millis).UTC()
	if _, err := Verify(shown, roots, t, x509.ExtKeyUsageServerAuth); err != nil {
		return time.Time{}, fmt.Errorf("the server claims %s, and by its own certificate it cannot: %w", t.Format(time.RFC3339), &PeerError{shown[0], err})
	}
	return t, nil
}

// ForTime is ForServer for a gateway that does not know the time and asks only for
// that: everything about the server is checked but the dates of its certificates,
// which are judged as of the day on which the leaf was issued. Nothing but the
// question for the time may go over such a connection.
func ForTime(name string, cert func() (*tls.Certificate, error), roots *x509.CertPool) *tls.Config {
	c := policy(nil)
	c.ServerName = name
	c.InsecureSkipVerify = true // of the dates; VerifyConnection checks the rest
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() }
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errNoCertificate
		}
		_, err := verify(s, roots, s.PeerCertificates[0].NotBefore, x509.ExtKeyUsageServerAuth, name)
		return err
	}
	return c
}
