// Package keystest is the conformance suite of key stores.
package keystest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
)

// Conformance checks what certs expects of a store. A reboot is what the machine
// does between two lives of the firmware; it returns the store of the next life.
func Conformance(t *testing.T, s keys.Store, reboot func() keys.Store) {
	key, text, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	public := publicOf(t, key)
	t.Run("a key opened again is the same key", func(t *testing.T) {
		again, err := s.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		if !public.Equal(again.Public()) {
			t.Fatal("another key")
		}
		signs(t, again, public)
	})
	t.Run("a key signs", func(t *testing.T) { signs(t, key, public) })
	t.Run("what follows the key is not looked at", func(t *testing.T) {
		again, err := s.Open(append(bytes.Clone(text), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
		if err != nil || !public.Equal(again.Public()) {
			t.Fatalf("err = %v", err)
		}
	})
	t.Run("two keys differ", func(t *testing.T) {
		other, _, err := s.Create()
		if err != nil {
			t.Fatal(err)
		}
		if public.Equal(other.Public()) {
			t.Fatal("the same key twice")
		}
	})
	t.Run("a digest of any length is signed", func(t *testing.T) {
		for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := bytes.Repeat([]byte{0xa5}, h.Size())
			signature, err := key.Sign(nil, digest, h)
			if err != nil || !ecdsa.VerifyASN1(public, digest, signature) {
				t.Errorf("%v: %v", h, err)
			}
			if _, err := key.Sign(nil, digest[1:], h); err == nil {
				t.Errorf("%v: a digest that is too short is signed", h)
			}
		}
	})
	t.Run("many sign at once", func(t *testing.T) {
		var work sync.WaitGroup
		for range 16 {
			work.Go(func() {
				again, err := s.Open(text)
				if err != nil {
					t.Error(err)
					return
				}
				for _, k := range []crypto.Signer{key, again} {
					signs(t, k, public)
				}
			})
		}
		work.Wait()
	})
	t.Run("a certificate request is made with it", func(t *testing.T) {
		der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := request.CheckSignature(); err != nil || !public.Equal(request.PublicKey) {
			t.Fatalf("it asks for another key, or %v", err)
		}
	})
	t.Run("a gateway is let in by it", func(t *testing.T) { handshakes(t, key) })
	t.Run("a key is there after a reboot", func(t *testing.T) {
		s = reboot()
		again, err := s.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		signs(t, again, public)
	})
	t.Run("what is no key is refused", func(t *testing.T) {
		for _, bad := range [][]byte{nil, []byte("no PEM"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), text[:len(text)/2]} {
			if _, err := s.Open(bad); err == nil {
				t.Errorf("%q was opened", bad)
			}
		}
	})
}

func publicOf(t *testing.T, key crypto.Signer) *ecdsa.PublicKey {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		t.Fatalf("a %T is not ECDSA on P-256", key.Public())
	}
	return public
}

// handshakes has a gateway with that key go through the TLS policy of both sides.
func handshakes(t *testing.T, key crypto.Signer) {
	a := pkitest.New(t)
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.CA.IssueOperational(request)
	if err != nil {
		t.Fatal(err)
	}
	own := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw, a.Operational.Certificate.Raw}}
	server := a.Server(t, "localhost")
	roots := x509.NewCertPool()
	roots.AddCert(a.Root.Certificate)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			_ = near.SetDeadline(clock.System.Now().Add(time.Minute))
			_ = far.SetDeadline(clock.System.Now().Add(time.Minute))
			served := make(chan error, 1)
			go func() {
				c := tls.Server(far, pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, roots, clock.System.Now, func(found string, _ *x509.Certificate) error {
					if found != "GW-0001" {
						return errors.New("not " + found)
					}
					return nil
				}))
				if err := c.Handshake(); err != nil {
					served <- err
					far.Close()
					return
				}
				_, err := io.WriteString(c, "welcome")
				served <- err
			}()
			config := pki.ForServer("localhost", func() (*tls.Certificate, error) { return &own, nil }, roots, clock.System.Now, nil)
			config.MinVersion, config.MaxVersion = version, version
			c := tls.Client(near, config)
			word := make([]byte, len("welcome"))
			_, err := io.ReadFull(c, word)
			if err := errors.Join(<-served, err); err != nil {
				t.Fatal(err)
			}
			if v := c.ConnectionState().Version; v != version {
				t.Errorf("%s was spoken", tls.VersionName(v))
			}
		})
	}
}

func signs(t *testing.T, key crypto.Signer, public *ecdsa.PublicKey) {
	digest := sha256.Sum256([]byte("what is signed"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Errorf("the signature is wrong, or %v", err)
	}
}
