package operational

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// pairOf is a pair of the gateway of that serial number, with a certificate of that
// role.
func pairOf(t testing.TB, a *pkitest.Authorities, serial string, role pki.Role) *pair {
	t.Helper()
	key, text, err := ks.Create()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	authority, life := a.Operational, pki.OperationalLife
	var leaf *x509.Certificate
	if role == pki.Operational {
		leaf, err = authority.IssueOperational(request, life, time.Now(), rand.Reader)
	} else {
		authority = a.Factory
		leaf, err = authority.IssueGateway(request, "lab", time.Now(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return newPair(key, text, []*x509.Certificate{leaf, authority.Certificate})
}

func TestAPairSurvivesItsFile(t *testing.T) {
	p := pairOf(t, pkitest.New(t), serial, pki.Operational)
	got, err := decodePair(p.encode(), ks, serial)
	if err != nil || !bytes.Equal(got.encode(), p.encode()) || len(got.cert.Certificate) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestAPairOfSomethingElseIsRefused(t *testing.T) {
	a := pkitest.New(t)
	good, other := pairOf(t, a, serial, pki.Operational), pairOf(t, a, serial, pki.Operational)
	for what, tc := range map[string]struct {
		text []byte
		says string
	}{
		"another gateway":       {pairOf(t, a, "GW-0002", pki.Operational).encode(), "is for GW-0002"},
		"the factory identity":  {pairOf(t, a, serial, pki.Factory).encode(), "an operational one is required"},
		"another key":           {append(bytes.Clone(other.text), pki.EncodeCertificates(good.chain...)...), "for another key"},
		"an empty file":         {nil, "no PEM key"},
		"a key alone":           {good.text, "no PEM certificate"},
		"a chain without a key": {pki.EncodeCertificates(good.chain...), "no PEM private key"},
		"half of it":            {good.encode()[:len(good.encode())/2], ""},
	} {
		if _, err := decodePair(tc.text, ks, serial); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q", what, err, tc.says)
		}
	}
}

// TestWhatIsIssuedMustLeadToARootOfOurs: authorities that an EST server names are no
// roots, and complete a chain only as far as a root that the gateway has.
func TestWhatIsIssuedMustLeadToARootOfOurs(t *testing.T) {
	ours, foreign := pkitest.New(t), pkitest.New(t)
	issue := func(a *pkitest.Authorities) (*keyed, []*x509.Certificate) {
		p := pairOf(t, a, serial, pki.Operational)
		return &keyed{Signer: p.key, text: p.text}, p.chain
	}
	key, chain := issue(ours)
	p, err := complete(chain[:1], ours.CA.Authorities(), ours.CA.Pool(), key, serial)
	if err != nil || len(p.chain) != 2 || !p.chain[1].Equal(ours.Operational.Certificate) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := complete(chain, nil, ours.CA.Pool(), key, serial); err != nil || len(p.chain) != 2 {
		t.Errorf("an answer with its chain: %+v, %v", p, err)
	}
	if _, err := complete(chain[:1], nil, ours.CA.Pool(), key, serial); err == nil {
		t.Error("a chain that is not complete passed")
	}
	key, chain = issue(foreign)
	if _, err := complete(chain[:1], append(foreign.CA.Authorities(), ours.CA.Authorities()...), ours.CA.Pool(), key, serial); err == nil || !strings.Contains(err.Error(), "another authority") {
		t.Errorf("a certificate of another authority: %v", err)
	}
}

func FuzzPair(f *testing.F) {
	p := pairOf(f, pkitest.New(f), serial, pki.Operational)
	f.Add(p.encode())
	f.Add(p.text)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := decodePair(text, ks, serial)
		if err != nil {
			return
		}
		again, err := decodePair(p.encode(), ks, serial)
		if err != nil || !bytes.Equal(again.encode(), p.encode()) {
			t.Fatalf("a pair that is read does not survive its file: %v", err)
		}
	})
}
