package pki_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
)

func TestAShortRSAKeyIsRefused(t *testing.T) {
	now := time.Now()
	make := func(serial int64, bits int, issuer *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, *rsa.PrivateKey) {
		t.Helper()
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "RSA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			BasicConstraintsValid: true, IsCA: issuer == nil, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if issuer == nil {
			issuer, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, key
	}
	for _, c := range []struct {
		root, leaf int
		want       string
	}{{2048, 2048, ""}, {2048, 1024, "RSA key of 1024 bits"}, {1024, 2048, "RSA key of 1024 bits"}} {
		root, key := make(1, c.root, nil, nil)
		leaf, _ := make(2, c.leaf, root, key)
		pool := x509.NewCertPool()
		pool.AddCert(root)
		_, err := pki.Verify([]*x509.Certificate{leaf}, pool, now, x509.ExtKeyUsageClientAuth)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("root %d, leaf %d bits: %v", c.root, c.leaf, err)
		}
	}
}
