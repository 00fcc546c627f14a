package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/certs/pki/tuf"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// stolen reads a key that signs roots from a service's folder.
func stolen(t *testing.T, fsys disk.FS, name string) ed25519.PrivateKey {
	t.Helper()
	text, err := disk.ReadFile(fsys, pkitest.Dir+"/"+name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// signs is roots of the attacker's, signed by that key.
func signs(t *testing.T, version int64, key ed25519.PrivateKey) []byte {
	t.Helper()
	text, err := tuf.SignRoots(version, beginning.Add(100*year), pkitest.At(t, at(beginning)).CA.Roots(), key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// unchanged checks that nothing came of an attack, now or after a restart.
func (g *gateway) unchanged(t *testing.T, want Status) {
	t.Helper()
	for range 2 {
		if now := g.Roots.Status(); now.Version != want.Version || now.Next != want.Next || strings.Join(now.Names, ", ") != strings.Join(want.Names, ", ") {
			t.Errorf("in force: %+v, before: %+v", now, want)
		}
		g.restart(t)
	}
	if err := g.meets(t); err != nil {
		t.Error(err)
	}
}

// TestAttackRootsOfAnotherSigner: the real service is made to hand out roots that
// other keys than the targets' have signed.
func TestAttackRootsOfAnotherSigner(t *testing.T) {
	fsys := faultdisk.New()
	s := newService(t, fsys, at(beginning))
	g := s.gateway(faultdisk.New())
	s.must(g.Look(t.Context()))
	before := g.Roots.Status()
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	for name, key := range map[string]ed25519.PrivateKey{"a stranger": stranger, "the service's own key": stolen(t, fsys, "tuf-online.key"), "the key of root metadata": stolen(t, fsys, "tuf-root.key")} {
		s.instead(serve(nil, signs(t, 2, key)))
		if err := g.Look(t.Context()); !errors.Is(err, tuf.ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
		s.instead(nil)
		g.unchanged(t, before)
	}
	// The control: the same roots by the targets' key are tried. They do not work, since
	// the attacker has no server at the gateway's address.
	s.instead(serve(nil, signs(t, 2, stolen(t, fsys, "tuf-targets.key"))))
	if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "does not work yet") {
		t.Errorf("the control: %v", err)
	}
}

// TestAttackKeysOfAnotherSigner: root metadata that does not follow the pinned one.
func TestAttackKeysOfAnotherSigner(t *testing.T) {
	s, g := site(t)
	s.must(g.Look(t.Context()))
	before := g.Roots.Status()
	other := newService(t, faultdisk.New(), at(beginning))
	s.must(other.ca.Rotate("signing"))
	chain, targets, err := other.ca.SignedRoots(1, 0)
	s.must(err)
	s.instead(serve(chain, targets))
	if err := g.Look(t.Context()); !errors.Is(err, tuf.ErrNotSigned) {
		t.Errorf("somebody else's: %v", err)
	}
	s.instead(nil)
	g.unchanged(t, before)

	s.must(s.ca.Rotate("signing"))
	s.must(s.ca.Rotate("signing"))
	chain, targets, err = s.ca.SignedRoots(1, 0)
	s.must(err)
	s.instead(serve(chain[1:], targets))
	if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "does not follow") {
		t.Errorf("with a version left out: %v", err)
	}
	s.instead(serve(chain, targets)) // the control
	s.must(g.Look(t.Context()))
}

// TestAttackRootsOfThePast: an earlier file of the right keys, which has a root that
// was withdrawn.
func TestAttackRootsOfThePast(t *testing.T) {
	s, g := site(t)
	_, past, err := s.ca.SignedRoots(1, 0)
	s.must(err)
	s.must(s.ca.Rotate("root"))
	s.must(s.ca.Withdraw("root"))
	g.cert = s.gateway(faultdisk.New()).cert
	s.must(g.Look(t.Context()))
	before := g.Roots.Status()
	s.instead(serve(nil, past))
	if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "older than version 3") {
		t.Errorf("the past: %v", err)
	}
	s.instead(nil)
	g.unchanged(t, before)
}

// TestAttackStolenKeyRunsAhead: whoever has stolen the key that signs roots signs a
// version that nobody can top. The next keys end that.
func TestAttackStolenKeyRunsAhead(t *testing.T) {
	fsys := faultdisk.New()
	s := newService(t, fsys, at(beginning))
	g := s.gateway(faultdisk.New())
	key := stolen(t, fsys, "tuf-targets.key")
	// With the real root in it, so that it works.
	ahead, err := tuf.SignRoots(1<<60, beginning.Add(100*year), s.ca.Roots(), key)
	s.must(err)
	s.instead(serve(nil, ahead))
	s.must(g.Look(t.Context()))
	if v := g.Roots.Status().Version; v != 1<<60 {
		t.Fatalf("version %d", v)
	}
	// And one that waits to be tried.
	s.instead(serve(nil, signs(t, 1<<61, key)))
	if err := g.Look(t.Context()); err == nil {
		t.Fatal("the attacker's roots work")
	}
	s.instead(nil)
	s.must(s.ca.Rotate("signing"))
	s.must(g.Look(t.Context()))
	if st := g.Roots.Status(); st.Version != 2 || st.Next != 0 {
		t.Errorf("with other keys: %+v", st)
	}
	g.restart(t)
	s.instead(serve(nil, signs(t, 1<<61, key)))
	if err := g.Look(t.Context()); !errors.Is(err, tuf.ErrNotSigned) {
		t.Errorf("by the stolen key: %v", err)
	}
}

// TestOnlyRootsAreTakenForRoots: by mistake something else is signed.
func TestOnlyRootsAreTakenForRoots(t *testing.T) {
	fsys := faultdisk.New()
	s := newService(t, fsys, at(beginning))
	g := s.gateway(faultdisk.New())
	s.must(g.Look(t.Context()))
	before := g.Roots.Status()
	a := &pkitest.Authorities{CA: s.ca, FS: fsys, Clock: s.clock}
	key := stolen(t, fsys, "tuf-targets.key")
	leaf := pkitest.Forge(t, &pki.Authority{Key: pkitest.Key(t)}, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, NotBefore: beginning, NotAfter: beginning.Add(year)})
	for name, content := range map[string][]byte{
		"an intermediate":          pki.EncodeCertificates(a.Load(t, "servers").Certificate),
		"a leaf that signs itself": pki.EncodeCertificates(leaf.Leaf),
		"one of them":              append(s.ca.Roots(), pki.EncodeCertificates(leaf.Leaf)...),
		"no certificate":           []byte("hello"),
		"nothing":                  nil,
	} {
		text, err := tuf.SignRoots(2, beginning.Add(year), content, key)
		s.must(err)
		s.instead(serve(nil, text))
		if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "roots.pem: ") {
			t.Errorf("%s: %v", name, err)
		}
		s.instead(nil)
		g.unchanged(t, before)
	}
}

// TestAttackServerUndated: whoever stands in for the auth service while dates do not
// count. Nothing but a date is forgiven, and whoever is refused reads nothing.
func TestAttackServerUndated(t *testing.T) {
	fsys := faultdisk.New()
	s := newService(t, fsys, at(beginning))
	a := &pkitest.Authorities{CA: s.ca, FS: fsys, Clock: s.clock}
	servers, factory := a.Load(t, "servers"), a.Load(t, "factory")
	stranger := pkitest.At(t, at(beginning))
	g := s.gateway(faultdisk.New())
	s.must(s.ca.Rotate("root")) // there is something to be had
	g.clock.set(beginning.Add(40*year), true)

	leaf := func() *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: beginning, NotAfter: beginning.Add(time.Hour),
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	}
	with := func(change func(c *x509.Certificate)) *x509.Certificate {
		c := leaf()
		change(c)
		return c
	}
	noCA := pkitest.ForgeAuthority(t, servers, leaf())
	below := pkitest.ForgeAuthority(t, servers, &x509.Certificate{Subject: pkix.Name{CommonName: "Below"}, NotBefore: beginning, NotAfter: beginning.Add(year),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	for name, cert := range map[string]tls.Certificate{
		"another authority":            stranger.Server(t, "localhost"),
		"self-signed":                  pkitest.Forge(t, &pki.Authority{Key: pkitest.Key(t)}, leaf()),
		"another name":                 pkitest.Forge(t, servers, with(func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere"} }), servers.Certificate),
		"a client's usage":             pkitest.Forge(t, servers, with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), servers.Certificate),
		"no usage":                     pkitest.Forge(t, servers, with(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), servers.Certificate),
		"a gateway's authority":        pkitest.Forge(t, factory, leaf(), factory.Certificate),
		"intermediate without CA bit":  pkitest.Forge(t, noCA, leaf(), noCA.Certificate, servers.Certificate),
		"path length exceeded":         pkitest.Forge(t, below, leaf(), below.Certificate, servers.Certificate),
		"breach of a name constraint":  pkitest.Forge(t, servers, with(func(c *x509.Certificate) { c.DNSNames = []string{"localhost", "gw-0001." + pki.GatewayDomain} }), servers.Certificate),
		"intermediate that is missing": pkitest.Forge(t, servers, leaf()),
	} {
		t.Run(name, func(t *testing.T) {
			if name != "self-signed" { // a root signs itself
				cert.Leaf = nil
			}
			s.show(&cert)
			asked := s.requests()
			if err := g.Look(t.Context()); err == nil {
				t.Error("it is believed")
			}
			if n := s.requests() - asked; n != 0 {
				t.Errorf("it has read %d requests", n)
			}
			if st := g.Roots.Status(); st.Version != 0 || st.Next != 0 {
				t.Errorf("in force: %+v", st)
			}
		})
	}
	// The control: as good as any, and long past its date.
	good := pkitest.Forge(t, servers, leaf(), servers.Certificate)
	s.show(&good)
	g.clock.set(beginning.Add(2*year), false)
	if err := g.Look(t.Context()); err != nil || g.names() != both {
		t.Errorf("the control: %v, %s", err, g.names())
	}
}

// TestAttackRootsRedirect: the answer points elsewhere, where nothing is sent.
func TestAttackRootsRedirect(t *testing.T) {
	s, g := site(t)
	elsewhere, _ := site(t)
	s.instead(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.url+r.URL.String(), http.StatusTemporaryRedirect)
	})
	if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("redirected: %v", err)
	}
	if n := elsewhere.requests(); n != 0 {
		t.Errorf("the other host has read %d requests", n)
	}
	s.instead(nil)
	s.must(g.Look(t.Context()))
}

func TestAnAnswerThatIsNoneChangesNothing(t *testing.T) {
	s, g := site(t)
	s.must(g.Look(t.Context()))
	before := g.Roots.Status()
	for _, body := range [][]byte{nil, []byte("{"), []byte("[]"), []byte(`{"root":[null]}`), []byte(`{"targets":7}`), bytes.Repeat([]byte(" "), maxAnswer+1)} {
		s.instead(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
		if err := g.Look(t.Context()); err == nil {
			t.Errorf("%.20q is an answer", body)
		}
	}
	s.instead(nil)
	g.unchanged(t, before)
}

// FuzzAnswer: whatever an auth service says, nothing comes into force that the pinned
// keys have not signed.
func FuzzAnswer(f *testing.F) {
	fsys := faultdisk.New()
	ca, err := pki.OpenCA(fsys, pkitest.Dir, at(beginning), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	pinned, err := ca.TUFRoot()
	if err != nil {
		f.Fatal(err)
	}
	bench, err := pki.ParseCertificates(ca.Roots())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"root":[],"targets":{"signed":{"_type":"targets","spec_version":"1.0","version":2,"expires":"2050-01-01T00:00:00Z","targets":{}},"signatures":[]}}`))
	f.Add([]byte(`{"root":[{"signed":{"_type":"root"},"signatures":[{"keyid":"x","sig":"00"}]}]}`))
	f.Add([]byte(`{"targets":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := faultdisk.New()
		if err := errors.Join(disk.MkdirAll(d, dir, 0o700), disk.WriteFile(d, dir+"/"+PinnedFile, pinned, 0o644)); err != nil {
			t.Fatal(err)
		}
		r := Open(d, dir, bench)
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		_ = r.follow(a.chain())
		if a.Targets != nil {
			_ = r.offer(a.Targets, time.Time{})
		}
		if r.candidate() != nil || r.Status().Version != 0 || r.pinned.Version != 1 {
			t.Errorf("taken: %s", body)
		}
	})
}
