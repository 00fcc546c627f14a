package tuf_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki/tuf"
)

var expires = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)

// key is the n-th of the test's keys.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func role(threshold int, keys ...ed25519.PrivateKey) tuf.Role {
	r := tuf.Role{Threshold: threshold}
	for _, k := range keys {
		r.Keys = append(r.Keys, k.Public().(ed25519.PublicKey))
	}
	return r
}

func roles(root, targets tuf.Role) map[string]tuf.Role {
	online := role(1, key(99))
	return map[string]tuf.Role{tuf.RoleRoot: root, tuf.RoleTargets: targets, tuf.RoleSnapshot: online, tuf.RoleTimestamp: online}
}

func must(t testing.TB) func(text []byte, err error) []byte {
	return func(text []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func parse(t testing.TB, text []byte) *tuf.Root {
	t.Helper()
	r, err := tuf.ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const pem = "-----BEGIN CERTIFICATE-----\n\"quoted\" \\ and <äöü> \x01\n-----END CERTIFICATE-----\n"

func TestWhatIsSignedIsReadBack(t *testing.T) {
	r := parse(t, must(t)(tuf.SignRoot(7, expires, roles(role(2, key(1), key(2)), role(1, key(3))), key(1), key(2))))
	if r.Version != 7 || !r.Expires.Equal(expires) || r.Roles[tuf.RoleRoot].Threshold != 2 || len(r.Roles[tuf.RoleRoot].Keys) != 2 {
		t.Errorf("got %+v", r)
	}
	targets, err := r.Targets(must(t)(tuf.SignRoots(3, expires, []byte(pem), key(3))))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := targets.Roots()
	if err != nil || string(roots) != pem || targets.Version != 3 || !targets.Expires.Equal(expires) {
		t.Errorf("got %q, %v of %+v", roots, err, targets)
	}
}

func TestOnlyEnoughDifferentKeysOfTheRoleSign(t *testing.T) {
	r := parse(t, must(t)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(2, key(3), key(4), key(5))), key(1))))
	for name, c := range map[string]struct {
		by []ed25519.PrivateKey
		ok bool
	}{
		"two of three":          {[]ed25519.PrivateKey{key(3), key(5)}, true},
		"all":                   {[]ed25519.PrivateKey{key(3), key(4), key(5)}, true},
		"one":                   {[]ed25519.PrivateKey{key(4)}, false},
		"one, and a stranger":   {[]ed25519.PrivateKey{key(4), key(66)}, false},
		"one, and the root's":   {[]ed25519.PrivateKey{key(4), key(1)}, false},
		"one, and the online's": {[]ed25519.PrivateKey{key(4), key(99)}, false},
		"nobody":                {nil, false},
	} {
		_, err := r.Targets(must(t)(tuf.SignRoots(1, expires, []byte(pem), c.by...)))
		if (err == nil) != c.ok || err != nil && !errors.Is(err, tuf.ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same key twice, under two names and with its signature repeated, is one key.
	one := must(t)(tuf.SignRoots(1, expires, []byte(pem), key(3)))
	var e struct {
		Signatures []map[string]string `json:"signatures"`
		Signed     json.RawMessage     `json:"signed"`
	}
	if err := json.Unmarshal(one, &e); err != nil {
		t.Fatal(err)
	}
	e.Signatures = append(e.Signatures, e.Signatures[0], map[string]string{"keyid": tuf.KeyID(key(4).Public().(ed25519.PublicKey)), "sig": e.Signatures[0]["sig"]})
	if _, err := r.Targets(must(t)(json.Marshal(e))); !errors.Is(err, tuf.ErrNotSigned) {
		t.Errorf("one key, three signatures: %v", err)
	}
}

func TestAKeyThatStandsInARoleTwiceCountsOnce(t *testing.T) {
	text := must(t)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(2, key(3), key(3))), key(1)))
	if _, err := tuf.ParseRoot(text); err == nil || !strings.Contains(err.Error(), "takes 2 of 1 keys") {
		t.Errorf("two of one key: %v", err)
	}
}

func TestRootMetadataIsFollowedByTheNextVersionSignedByBoth(t *testing.T) {
	old, fresh := roles(role(1, key(1)), role(1, key(3))), roles(role(1, key(2)), role(1, key(4)))
	first := parse(t, must(t)(tuf.SignRoot(1, expires, old, key(1))))
	second, err := first.Next(must(t)(tuf.SignRoot(2, expires, fresh, key(1), key(2))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Next(must(t)(tuf.SignRoot(3, expires, fresh, key(2)))); err != nil {
		t.Errorf("the third, by the second's key: %v", err)
	}
	for name, text := range map[string][]byte{
		"by the new key alone":   must(t)(tuf.SignRoot(2, expires, fresh, key(2))),
		"by the old key alone":   must(t)(tuf.SignRoot(2, expires, fresh, key(1))),
		"a version left out":     must(t)(tuf.SignRoot(3, expires, fresh, key(1), key(2))),
		"the same version again": must(t)(tuf.SignRoot(1, expires, fresh, key(1), key(2))),
		"by the targets' key":    must(t)(tuf.SignRoot(2, expires, fresh, key(3), key(2))),
		"targets metadata":       must(t)(tuf.SignRoots(2, expires, []byte(pem), key(1), key(2))),
	} {
		if _, err := first.Next(text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// What the withdrawn key signs counts no more.
	roots := must(t)(tuf.SignRoots(1, expires, []byte(pem), key(3)))
	if _, err := first.Targets(roots); err != nil {
		t.Error(err)
	}
	if _, err := second.Targets(roots); !errors.Is(err, tuf.ErrNotSigned) {
		t.Errorf("by a withdrawn key: %v", err)
	}
}

// TestAnyOtherContentIsNotWhatWasSigned changes every character under "signed".
func TestAnyOtherContentIsNotWhatWasSigned(t *testing.T) {
	r := parse(t, must(t)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(1, key(3))), key(1))))
	text := must(t)(tuf.SignRoots(12, expires, []byte("A"), key(3)))
	begin := bytes.Index(text, []byte(`"signed"`)) + len(`"signed"`)
	taken := 0
	for i := begin; i < len(text); i++ {
		other := bytes.Clone(text)
		other[i] ^= 1
		if _, err := r.Targets(other); err == nil {
			if !bytes.Equal(bytes.TrimSpace(text[i:i+1]), []byte{}) { // space between tokens says nothing
				t.Errorf("byte %d changed from %q to %q, and it is taken", i, text[i], other[i])
			}
			taken++
		}
	}
	t.Logf("%d bytes changed, %d of them space", len(text)-begin, taken)
	// The same content in another form is the same.
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Targets(must(t)(json.Marshal(v))); err != nil {
		t.Errorf("without space: %v", err)
	}
}

func TestWhatIsWrongWithMetadataIsSaid(t *testing.T) {
	good := string(must(t)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(1, key(3))), key(1))))
	for _, c := range []struct{ from, to, want string }{
		{good, "", "EOF"},
		{good, "[]", "not an object"},
		{good, good + good, "something after"},
		{good, `{"signatures":[]}`, `no object "signed"`},
		{good, strings.Repeat(" ", tuf.MaxSize) + good, "more than"},
		{`"version": 1`, `"version": 1.5`, "whole numbers"},
		{`"version": 1`, `"version": 0`, "the first is 1"},
		{`"spec_version": "1.0`, `"spec_version": "2.0`, "specification"},
		{`"_type": "root"`, `"_type": "targets"`, "type"},
		{`"expires": "2050`, `"expires": "205O`, "expires"},
		{`"snapshot": {`, `"snapshots": {`, `no role "snapshot"`},
		{`"threshold": 1`, `"threshold": 9`, "takes 9 of 1"},
		{`"threshold": 1`, `"threshold": 0`, "takes 0 of 1"},
		{`"consistent_snapshot": true`, `"consistent_snapshot": false`, "not signed"},
		{`"sig": "`, `"sig": "x`, "not signed"},
	} {
		if _, err := tuf.ParseRoot([]byte(strings.Replace(good, c.from, c.to, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q: %v", c.to[:min(len(c.to), 40)], err)
		}
	}
}

func TestATargetIsWholeOrNothing(t *testing.T) {
	r := parse(t, must(t)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(1, key(3))), key(1))))
	for _, custom := range []string{`{"pem":"B"}`, `{"pem":""}`, `{}`, `"A"`, `null`, `{"pem":7}`} {
		text := must(t)(tuf.SignRoots(1, expires, []byte("A"), key(3)))
		text = []byte(strings.Replace(string(text), "{\n          \"pem\": \"A\"\n        }", custom, 1))
		targets, err := tuf.ReadTargets(text)
		if err != nil {
			t.Fatal(err)
		}
		if roots, err := targets.Roots(); err == nil {
			t.Errorf("custom %s gives %q", custom, roots)
		}
		if _, err := r.Targets(text); !errors.Is(err, tuf.ErrNotSigned) {
			t.Errorf("custom %s: %v", custom, err)
		}
	}
}

// FuzzMetadata: whatever comes from the network or the disk is refused or read, and
// what nobody signed is never taken.
func FuzzMetadata(f *testing.F) {
	rootText := must(f)(tuf.SignRoot(1, expires, roles(role(1, key(1)), role(1, key(3))), key(1)))
	root := parse(f, rootText)
	rootsText := must(f)(tuf.SignRoots(1, expires, []byte(pem), key(3)))
	next := must(f)(tuf.SignRoot(2, expires, roles(role(1, key(2)), role(1, key(3))), key(1), key(2)))
	for _, seed := range [][]byte{rootText, rootsText, next, []byte(`{"signed":{"_type":"root","version":1e9},"signatures":null}`), []byte(`{"signed":{},"signatures":[{}]}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := tuf.ParseRoot(text); err == nil && r.Version < 1 {
			t.Errorf("version %d", r.Version)
		}
		if r, err := root.Next(text); err == nil && (r.Version != 2 || !r.Roles[tuf.RoleRoot].Keys[0].Equal(key(2).Public())) {
			t.Errorf("a successor that nobody signed: %+v", r)
		}
		if got, err := root.Targets(text); err == nil {
			if roots, err := got.Roots(); err != nil || string(roots) != pem {
				t.Errorf("roots that nobody signed: %q, %v", roots, err)
			}
		}
		if got, err := tuf.ReadTargets(text); err == nil {
			_, _ = got.Roots()
		}
	})
}

func Example() {
	// At the desk where the offline keys are.
	offline := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	everyRole := tuf.Role{Keys: []ed25519.PublicKey{offline.Public().(ed25519.PublicKey)}, Threshold: 1}
	pinned, _ := tuf.SignRoot(1, expires, map[string]tuf.Role{
		tuf.RoleRoot: everyRole, tuf.RoleTargets: everyRole, tuf.RoleSnapshot: everyRole, tuf.RoleTimestamp: everyRole}, offline)
	file, _ := tuf.SignRoots(2, expires, []byte("…the roots, as PEM…"), offline)

	// On the gateway, which was given pinned at the bench.
	root, err := tuf.ParseRoot(pinned)
	if err != nil {
		fmt.Println(err)
		return
	}
	targets, err := root.Targets(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	roots, err := targets.Roots()
	fmt.Println(targets.Version, string(roots), err)
	// Output: 2 …the roots, as PEM… <nil>
}
