// Package pkitest makes authorities and certificates for tests: good ones by the
// same code as the real ones, and what an attacker would like to have, since it
// hands out the authorities' keys.
//
// Everything is made anew in memory for each test. Nothing of it is fit for use.
package pkitest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// Dir is the folder of the authorities on FS.
const Dir = "/ca"

// Authorities are a whole infrastructure with its keys.
type Authorities struct {
	CA    *pki.CA
	FS    disk.FS
	Clock clock.Clock

	Root, Factory, Operational, Servers *pki.Authority
}

// New makes authorities that are valid now.
func New(t testing.TB) *Authorities { return At(t, clock.System) }

// At makes authorities by that clock.
func At(t testing.TB, clk clock.Clock) *Authorities {
	t.Helper()
	a := &Authorities{FS: faultdisk.New(), Clock: clk}
	var err error
	if a.CA, err = pki.OpenCA(a.FS, Dir, clk, rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.Root, a.Factory = a.Load(t, "root"), a.Load(t, "factory")
	a.Operational, a.Servers = a.Load(t, "operational"), a.Load(t, "servers")
	return a
}

// Load reads an authority of that file name with its key from the folder.
func (a *Authorities) Load(t testing.TB, name string) *pki.Authority {
	t.Helper()
	text, err := disk.ReadFile(a.FS, Dir+"/"+name+".pem")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = disk.ReadFile(a.FS, Dir+"/"+name+".key"); err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Authority{Certificate: certs[0], Key: key}
}

// Key makes a key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Request makes a certificate request of that template, as PEM and parsed.
func Request(t testing.TB, template *x509.CertificateRequest, key *ecdsa.PrivateKey) ([]byte, *x509.CertificateRequest) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), request
}

// Gateway makes the factory identity of a gateway, on a board "lab".
func (a *Authorities) Gateway(t testing.TB, serial string) tls.Certificate {
	t.Helper()
	key := Key(t)
	request, _ := Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	leaf, err := a.CA.IssueGateway(request, "lab")
	if err != nil {
		t.Fatal(err)
	}
	return Join(key, leaf, a.Factory.Certificate)
}

// Enrolled makes the operational certificate of a gateway.
func (a *Authorities) Enrolled(t testing.TB, serial string) tls.Certificate {
	t.Helper()
	key := Key(t)
	_, request := Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	leaf, err := a.CA.IssueOperational(request)
	if err != nil {
		t.Fatal(err)
	}
	return Join(key, leaf, a.Operational.Certificate)
}

// Server makes the certificate of a server for host names and addresses.
func (a *Authorities) Server(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	key := Key(t)
	leaf, err := a.Servers.IssueServer(hosts, key.Public(), a.Clock.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Join(key, leaf, a.Servers.Certificate)
}

// Forge signs whatever the template says by whatever authority, and joins it
// with the rest of the chain.
func Forge(t testing.TB, by *pki.Authority, template *x509.Certificate, above ...*x509.Certificate) tls.Certificate {
	t.Helper()
	key := Key(t)
	leaf, err := by.Sign(template, key.Public(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Join(key, append([]*x509.Certificate{leaf}, above...)...)
}

// ForgeAuthority signs an authority of that template.
func ForgeAuthority(t testing.TB, by *pki.Authority, template *x509.Certificate) *pki.Authority {
	t.Helper()
	c := Forge(t, by, template)
	return &pki.Authority{Certificate: c.Leaf, Key: c.PrivateKey.(*ecdsa.PrivateKey)}
}

// Join makes what a TLS peer shows of a key and its chain, leaf first.
func Join(key *ecdsa.PrivateKey, chain ...*x509.Certificate) tls.Certificate {
	c := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}
