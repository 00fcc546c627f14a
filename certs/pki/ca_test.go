package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

func TestTheAuthoritiesAreConstrained(t *testing.T) {
	a := pkitest.New(t)
	for name, c := range map[string]*x509.Certificate{"factory": a.Factory.Certificate, "operational": a.Operational.Certificate, "servers": a.Servers.Certificate} {
		if !c.IsCA || !c.MaxPathLenZero || c.MaxPathLen != 0 || c.KeyUsage&x509.KeyUsageCertSign == 0 || len(c.ExtKeyUsage) != 1 || !c.PermittedDNSDomainsCritical {
			t.Errorf("%s: CA %v, path length %d, usage %v %v", name, c.IsCA, c.MaxPathLen, c.KeyUsage, c.ExtKeyUsage)
		}
		if err := c.CheckSignatureFrom(a.Root.Certificate); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]*x509.Certificate{"factory": a.Factory.Certificate, "operational": a.Operational.Certificate} {
		if c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(c.PermittedDNSDomains) != 1 || c.PermittedDNSDomains[0] != pki.GatewayDomain || len(c.ExcludedIPRanges) != 2 || len(c.Policies) != 1 {
			t.Errorf("%s: %v, permitted %q", name, c.ExtKeyUsage, c.PermittedDNSDomains)
		}
	}
	if c := a.Servers.Certificate; c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(c.ExcludedDNSDomains) != 1 || c.ExcludedDNSDomains[0] != pki.GatewayDomain {
		t.Errorf("servers: %v, excluded %q", c.ExtKeyUsage, c.ExcludedDNSDomains)
	}
}

func TestExtensionsInARequestAreIgnored(t *testing.T) {
	a, key := pkitest.New(t), pkitest.Key(t)
	uri, _ := url.Parse("spiffe://everything")
	basic, err := asn1.Marshal(struct{ IsCA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})
	if err != nil {
		t.Fatal(err)
	}
	text, request := pkitest.Request(t, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "GW-0001", Organization: []string{"Root"}, OrganizationalUnit: []string{"another-board"}},
		DNSNames: []string{"cloud.example", "gw-0002.gw.penstock.internal"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		EmailAddresses: []string{"root@cloud.example"}, URIs: []*url.URL{uri},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basic},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: eku},
		},
	}, key)
	factory, err := a.CA.IssueGateway(text, "lab")
	if err != nil {
		t.Fatal(err)
	}
	operational, err := a.CA.IssueOperational(request)
	if err != nil {
		t.Fatal(err)
	}
	for role, c := range map[pki.Role]*x509.Certificate{pki.Factory: factory, pki.Operational: operational} {
		g, err := pki.ReadGateway(c)
		if err != nil || g.Serial != "GW-0001" || g.Role != role || role == pki.Factory && g.Board != "lab" || role == pki.Operational && g.Board != "" {
			t.Errorf("%s: %+v, %v", role, g, err)
		}
		if c.IsCA || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(c.Subject.Organization) > 0 {
			t.Errorf("%s: CA %v, %v, %v", role, c.IsCA, c.ExtKeyUsage, c.Subject)
		}
		if !key.PublicKey.Equal(c.PublicKey) {
			t.Errorf("%s: another key", role)
		}
		chain, err := a.CA.ChainOf(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.Verify(chain, a.CA.Pool(), time.Now(), x509.ExtKeyUsageClientAuth); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	if life := operational.NotAfter.Sub(operational.NotBefore); life < 90*24*time.Hour || life > 91*24*time.Hour {
		t.Errorf("an operational certificate lives %v", life)
	}
}

func TestABadRequestIsRefused(t *testing.T) {
	a := pkitest.New(t)
	good, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, pkitest.Key(t))
	noSerial, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "gw/+"}}, pkitest.Key(t))
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherCurve, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, big)
	_, parsed := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, pkitest.Key(t))
	parsed.Signature = bytes.Clone(parsed.Signature)
	parsed.Signature[len(parsed.Signature)-1] ^= 1
	for what, tc := range map[string]struct {
		request []byte
		board   string
		says    string
	}{
		"no serial number":     {noSerial, "lab", "is not a serial number"},
		"another curve":        {otherCurve, "lab", "P-256"},
		"no request":           {[]byte("hello"), "lab", "no PEM certificate request"},
		"a board that is none": {good, "../lab", "is not the name of a board"},
	} {
		if _, err := a.CA.IssueGateway(tc.request, tc.board); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := a.CA.IssueOperational(parsed); err == nil || !strings.Contains(err.Error(), "not signed by the key in it") {
		t.Errorf("a request that was tampered with: %v", err)
	}
}

func TestAServersNameIsAHostAndNoGateway(t *testing.T) {
	a := pkitest.New(t)
	for host, says := range map[string]string{
		"cloud.example": "", "10.0.0.1": "", "::1": "",
		"*.cloud.example": "neither a host name", "Cloud.example": "neither a host name", "": "neither a host name", "a..b": "neither a host name",
		"gw.penstock.internal": "for gateways alone", "gw-0001.gw.penstock.internal": "for gateways alone",
	} {
		_, err := a.Servers.IssueServer([]string{host}, pkitest.Key(t).Public(), time.Now(), rand.Reader)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := a.Servers.IssueServer(nil, pkitest.Key(t).Public(), time.Now(), rand.Reader); err == nil {
		t.Error("for nobody")
	}
}

func TestAuthorityKeysAreSecretAndTheRootsMayBeAway(t *testing.T) {
	a := pkitest.New(t)
	for _, name := range []string{"root", "factory", "operational", "servers"} {
		if st, err := a.FS.Stat(pkitest.Dir + "/" + name + ".key"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s.key: %v, %v", name, st, err)
		}
	}
	again := func() (*pki.CA, error) { return pki.OpenCA(a.FS, pkitest.Dir, clock.System, rand.Reader) }
	ca, err := again()
	if err != nil || !bytes.Equal(ca.Roots(), a.CA.Roots()) {
		t.Fatalf("opened again: %v", err)
	}
	if err := a.FS.Remove(pkitest.Dir + "/root.key"); err != nil {
		t.Fatal(err)
	}
	if ca, err = again(); err != nil {
		t.Fatalf("without the root's key: %v", err)
	}
	text, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, pkitest.Key(t))
	if _, err := ca.IssueGateway(text, "lab"); err != nil {
		t.Errorf("issuing without the root's key: %v", err)
	}
	if err := a.FS.Remove(pkitest.Dir + "/factory.key"); err != nil {
		t.Fatal(err)
	}
	if _, err := again(); err == nil || !strings.Contains(err.Error(), "factory.key") {
		t.Errorf("without another key: %v", err)
	}
	if err := a.FS.Remove(pkitest.Dir + "/factory.pem"); err != nil {
		t.Fatal(err)
	}
	if _, err := again(); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("without a certificate in the middle: %v", err)
	}
	if _, err := pki.LoadCA(faultdisk.New(), pkitest.Dir, clock.System, rand.Reader); !errors.Is(err, pki.ErrNoCA) {
		t.Errorf("where there is none: %v", err)
	}
}

func TestAKeyOfAnAuthorityThatOthersCanReadIsRefused(t *testing.T) {
	a := pkitest.New(t)
	text, err := disk.ReadFile(a.FS, pkitest.Dir+"/servers.key")
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(a.FS, pkitest.Dir+"/servers.key", text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenCA(a.FS, pkitest.Dir, clock.System, rand.Reader); err == nil || !strings.Contains(err.Error(), "servers.key can be read by others (mode 0644)") {
		t.Errorf("%v", err)
	}
}

func TestThePowerMayGoAtEveryWriteOfMakingTheAuthorities(t *testing.T) {
	life := func(d disk.FS) ([]byte, error) {
		ca, err := pki.OpenCA(d, pkitest.Dir, clock.System, rand.Reader)
		if err != nil {
			return nil, err
		}
		return ca.Roots(), nil
	}
	d := faultdisk.New()
	if _, err := life(d); err != nil {
		t.Fatal(err)
	}
	total := d.Operations()
	for n := 1; n <= total; n++ {
		for seed := range uint64(6) {
			d := faultdisk.New()
			d.CutAt(n)
			promised, err := life(d)
			if err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
				t.Fatal(err)
			}
			after := d.AfterCut(seed)
			roots, err := life(after)
			if err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			if promised != nil && !bytes.Equal(promised, roots) {
				t.Fatalf("cut at %d, seed %d: the root that was promised is gone", n, seed)
			}
			if again, err := life(after); err != nil || !bytes.Equal(roots, again) {
				t.Fatalf("cut at %d, seed %d: opened again: %v", n, seed, err)
			}
		}
	}
}

func FuzzRequest(f *testing.F) {
	a := pkitest.New(f)
	text, _ := pkitest.Request(f, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}, DNSNames: []string{"x"}}, pkitest.Key(f))
	f.Add(text)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := pki.ParseRequest(text)
		if err != nil {
			return
		}
		serial, _, err := pki.CheckRequest(r)
		if err != nil {
			return
		}
		// What passes yields a certificate for that gateway and nothing else.
		c, err := a.CA.IssueOperational(r)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := pki.ReadGateway(c); err != nil || g.Serial != serial || g.Role != pki.Operational {
			t.Errorf("%+v, %v", g, err)
		}
	})
}

func FuzzPEM(f *testing.F) {
	a := pkitest.New(f)
	key, err := pki.EncodeKey(pkitest.Key(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.CA.Roots())
	f.Add(key)
	f.Add(append(a.CA.Roots(), key...))
	f.Fuzz(func(t *testing.T, text []byte) {
		if certs, err := pki.ParseCertificates(text); err == nil {
			again, err := pki.ParseCertificates(pki.EncodeCertificates(certs...))
			if err != nil || len(again) != len(certs) {
				t.Errorf("%d certificates became %d, %v", len(certs), len(again), err)
			}
			for _, c := range certs {
				_, _ = pki.ReadGateway(c)
			}
		}
		if key, err := pki.ParseKey(text); err == nil {
			back, err := pki.EncodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := pki.ParseKey(back); err != nil || !again.Equal(key) {
				t.Errorf("the key did not survive: %v", err)
			}
		}
	})
}
