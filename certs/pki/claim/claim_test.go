package claim_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"penstock/certs/pki/claim"
)

func TestACodeIsReadAsItIsWritten(t *testing.T) {
	for range 1000 {
		c, err := claim.New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s := c.String()
		if len(s) != 20 || strings.Count(s, "-") != 3 {
			t.Fatalf("%q", s)
		}
		typed := strings.ToLower(strings.NewReplacer("-", " ", "0", "o", "1", "l").Replace(s))
		for _, way := range []string{s, strings.ReplaceAll(s, "-", ""), typed} {
			if back, err := claim.Parse(way); err != nil || back != c {
				t.Fatalf("%s read as %q: %v, %v", s, way, back, err)
			}
		}
	}
	// Fixed for ever: labels are in the field.
	c := claim.Code{0x00, 0x44, 0x32, 0x14, 0xC7, 0x42, 0x54, 0xB6, 0x35, 0xCF}
	if got := c.String(); got != "0123-4567-89AB-CDEFP" {
		t.Errorf("the code of the digits 0 to F is %s", got)
	}
	if got := c.URI("PSK-0001"); got != "PENSTOCK:PSK-0001/0123-4567-89AB-CDEFP" {
		t.Errorf("URI %s", got)
	}
}

func TestAWrongCharacterOrTwoThatChangedPlacesAreAlwaysNoticed(t *testing.T) {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	c, err := claim.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.ReplaceAll(c.String(), "-", "")
	for i := range good {
		for _, r := range []byte(alphabet) {
			bad := []byte(good)
			if bad[i] = r; good[i] != r {
				if _, err := claim.Parse(string(bad)); err == nil {
					t.Errorf("%s passes for %s", bad, good)
				}
			}
		}
		for j := range i {
			bad := []byte(good)
			if bad[i], bad[j] = bad[j], bad[i]; !bytes.Equal(bad, []byte(good)) {
				if _, err := claim.Parse(string(bad)); err == nil {
					t.Errorf("%s passes for %s", bad, good)
				}
			}
		}
	}
	for _, bad := range []string{"", good[:16], good + "0", "U" + good[1:], "ä" + good[1:]} {
		if _, err := claim.Parse(bad); err == nil {
			t.Errorf("%q is taken for a code", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0123-4567-89AB-CDEFP")
	f.Add("oil")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := claim.Parse(s)
		if err != nil {
			return
		}
		if back, err := claim.Parse(c.String()); err != nil || back != c {
			t.Errorf("%q is %v, and that is read as %v, %v", s, c, back, err)
		}
	})
}
