package est

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// bag packs certificates by a library that is not ours.
func bag(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestABagGivesItsCertificatesInOrder(t *testing.T) {
	a, b := certificate(t, "a"), certificate(t, "b")
	got, err := ParseCertsOnly(bag(t, a, b))
	if err != nil || len(got) != 2 || !got[0].Equal(a) || !got[1].Equal(b) {
		t.Fatalf("%d certificates, %v", len(got), err)
	}
}

func TestWhatIsNoBagIsRefused(t *testing.T) {
	good := bag(t, certificate(t, "a"))
	signed, err := pkcs7.NewSignedData([]byte("a message"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := signed.AddSigner(certificate(t, "signer"), key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	message, err := signed.Finish()
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*x509.Certificate, maxCertificates+1)
	for i := range many {
		many[i] = certificate(t, "many")
	}
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 0xff
	for name, c := range map[string]struct {
		der  []byte
		says string
	}{
		"nothing":                {nil, "not a PKCS #7 message"},
		"a text":                 {[]byte("hello"), "not a PKCS #7 message"},
		"something behind it":    {append(bytes.Clone(good), 0), "after the PKCS #7"},
		"cut short":              {good[:len(good)-3], "not a PKCS #7 message"},
		"signed":                 {message, "signers"},
		"no certificate":         {bag(t), "no certificate"},
		"more than it may hold":  {bag(t, many...), "more than 16"},
		"another type":           {bytes.Replace(good, []byte{0x0d, 1, 7, 2}, []byte{0x0d, 1, 7, 3}, 1), "signed data"},
		"a certificate's damage": {broken, "certificate"},
	} {
		if _, err := ParseCertsOnly(c.der); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

// rfc7030Attributes is the example of RFC 7030, 4.5.2, with the correction of
// its erratum 5904.
const rfc7030Attributes = "304106092a864886f70d010907301206072a8648ce3d0201310706052b81040022301606092a864886f70d01090e310906072b06010101011606082a8648ce3d040303"

func TestTheAttributesOfTheRFCAreRead(t *testing.T) {
	der, err := hex.DecodeString(rfc7030Attributes)
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := ParseAttributes(der)
	if err != nil || len(attrs) != 4 {
		t.Fatalf("%v, %v", attrs, err)
	}
	if err := attrs.Check(); err == nil || !strings.Contains(err.Error(), "challenge") {
		t.Errorf("a challenge password is asked for, and the check says %v", err)
	}
	if err := attrs[1:].Check(); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Errorf("secp384r1 is asked for, and the check says %v", err)
	}
	if err := attrs[2:].Check(); err != nil {
		t.Errorf("wishes that bind nobody: %v", err)
	}
}

func TestBase64IsReadWithAnyLineBreaks(t *testing.T) {
	for _, text := range []string{"AQID", "AQ\nID\n", " AQ\r\nID ", "A\tQID"} {
		if got, err := decode([]byte(text)); err != nil || !bytes.Equal(got, []byte{1, 2, 3}) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	if _, err := decode([]byte("AQ=D")); err == nil {
		t.Error("padding in the middle passed")
	}
}

func FuzzParseCertsOnly(f *testing.F) {
	f.Add(bag(f, certificate(f, "a")))
	f.Add(bag(f, certificate(f, "a"), certificate(f, "b")))
	f.Add(bag(f))
	f.Add([]byte{0x30, 0x80, 0x06, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		certs, err := ParseCertsOnly(der)
		if (err == nil) != (len(certs) > 0) {
			t.Fatalf("%d certificates and the error %v", len(certs), err)
		}
		// Whatever is read from it, another reader finds there, too.
		for _, c := range certs {
			if !bytes.Contains(der, c.Raw) {
				t.Fatal("a certificate that is not in the message")
			}
		}
	})
}

func FuzzParseAttributes(f *testing.F) {
	der, err := hex.DecodeString(rfc7030Attributes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		attrs, err := ParseAttributes(der)
		if err != nil {
			return
		}
		_ = attrs.Check() // it must not panic
		for _, a := range attrs {
			if len(a.Type) == 0 {
				t.Fatal("an attribute without a name")
			}
			if _, err := asn1.Marshal(a.Type); err != nil {
				t.Fatalf("an attribute whose name cannot be written: %v", a.Type)
			}
		}
	})
}
