package pki_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

func TestARecordIsReadStrictly(t *testing.T) {
	claim := strings.Repeat("ab", 32)
	for query, says := range map[string]string{
		"model=cim550&claim=" + claim:  "",
		"model=cim550":                 "",
		"model=cim":                    "allowed: cim280, cim550",
		"claim=" + claim:               "does not say model and board",
		"model=cim550&model=cim280":    "it says model 2 times",
		"model=cim550&claim=abcd":      "the hash of its claim code",
		"model=cim550&colour=red":      "colour",
		"model=cim550&relabel=perhaps": "relabel",
	} {
		request, _ := pkitest.Request(t, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "GW-1", OrganizationalUnit: []string{"rpi"}},
			URIs:    []*url.URL{{Scheme: "penstock", Opaque: "gateway", RawQuery: query}, {Scheme: "https", Host: "elsewhere.example"}},
		}, pkitest.Key(t))
		r, err := pki.ParseRecord(request)
		if says == "" && (err != nil || r.Serial != "GW-1" || r.Board != "rpi" || r.Model != "cim550") || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %+v, %v; want %q", query, r, err, says)
		}
	}
}

func TestWhatARecordSaysComesIntoNoCertificate(t *testing.T) {
	a := pkitest.New(t)
	record, err := pki.EncodeRecord(pki.Record{Serial: "GW-1", Board: "rpi", Model: "cim550", Claim: make([]byte, 32)}, pkitest.Key(t))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.CA.IssueGateway(record, "rpi")
	if err != nil {
		t.Fatal(err)
	}
	if len(leaf.URIs) > 0 || bytes.Contains(leaf.Raw, []byte("cim550")) {
		t.Errorf("the certificate says %v", leaf.URIs)
	}
	if _, err := pki.ReadGateway(leaf); err != nil {
		t.Error(err)
	}
}

func FuzzRecord(f *testing.F) {
	key := pkitest.Key(f)
	for _, r := range []pki.Record{{Serial: "GW-1"}, {Serial: "GW-1", Board: "rpi", Model: "cim550", Claim: make([]byte, 32), Relabel: true}} {
		text, err := pki.EncodeRecord(r, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := pki.ParseRecord(text); err == nil && (pki.CheckSerial(r.Serial) != nil || r.Claim != nil && len(r.Claim) != 32 || r.Model != "" && r.Board == "") {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzBundle(f *testing.F) {
	text, err := pki.Bundle{Chain: []byte("a"), Roots: []byte("b"), TUFRoot: []byte("{}")}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := pki.ParseBundle(text)
		if err != nil {
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := pki.ParseBundle(again); err != nil || !bytes.Equal(c.Chain, b.Chain) || !bytes.Equal(c.Roots, b.Roots) || !bytes.Equal(c.TUFRoot, b.TUFRoot) {
			t.Errorf("%q became %q, %v", text, again, err)
		}
	})
}
