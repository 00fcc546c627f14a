package certs_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

var facts = certs.Factory{Serial: "GW-0001", Model: "cim550", Board: "lab", AuthURL: "https://cloud.example:8443"}

const dir = "/identity"

// ks keeps the keys of the tests.
var ks = keys.File{Rand: rand.Reader}

// issue signs a request as the backend does.
func issue(t testing.TB, a *pkitest.Authorities, request []byte) pki.Bundle {
	t.Helper()
	leaf, err := a.CA.IssueGateway(request, "lab")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.CA.Chain(leaf)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := a.CA.TUFRoot()
	if err != nil {
		t.Fatal(err)
	}
	return pki.Bundle{Chain: chain, Roots: a.CA.Roots(), TUFRoot: pinned}
}

// provision makes an identity of those facts and answers its record.
func provision(d disk.FS, f certs.Factory, replace bool) (record []byte, err error) {
	made, err := certs.Provision(d, dir, ks, certs.Order{Factory: f, Replace: replace, Random: rand.Reader})
	return made.Record, err
}

func TestProvisionedThenInstalledIsAnIdentity(t *testing.T) {
	a, d := pkitest.New(t), faultdisk.New()
	request, err := provision(d, facts, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Load(d, dir, ks, time.Now); !errors.Is(err, certs.ErrNotProvisioned) {
		t.Errorf("before its certificate: %v", err)
	}
	bundle := issue(t, a, request)
	for range 2 { // the second time changes nothing
		if err := certs.Install(d, dir, ks, bundle, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	id, err := certs.Load(d, dir, ks, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if id.Serial() != "GW-0001" || id.Model() != "cim550" || id.Board() != "lab" || id.AuthURL() != "https://cloud.example:8443" || id.Issuer() != "Penstock Factory Identities" {
		t.Errorf("%s %s %s %s %s", id.Serial(), id.Model(), id.Board(), id.AuthURL(), id.Issuer())
	}
	if st := id.Trust().Status(); st.Fixed || st.Trouble != "" {
		t.Errorf("the roots: %+v", st)
	}
	if p := id.Problem(time.Now()); p != "" {
		t.Errorf("problem %q", p)
	}
	if p := id.Problem(id.NotAfter().Add(time.Hour)); !strings.Contains(p, "expired on") {
		t.Errorf("after its end: %q", p)
	}
	if p := id.Problem(time.Unix(0, 0)); !strings.Contains(p, "is the clock right?") {
		t.Errorf("in 1970: %q", p)
	}
	for name, want := range map[string]os.FileMode{"key.pem": 0o600, "cert.pem": 0o644, "roots.pem": 0o644, "factory.json": 0o644} {
		if st, err := d.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", name, st.Mode(), err, want)
		}
	}
}

func TestProvisioningAgainIsTheSameToTheLastBit(t *testing.T) {
	d := faultdisk.New()
	first, err := provision(d, facts, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := provision(d, facts, false)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the request is another one, or %v", err)
	}
	// Nobody has certified the key yet: there is nothing to replace.
	replaced, err := provision(d, facts, true)
	if err != nil || !bytes.Equal(first, replaced) {
		t.Errorf("an identity that is not complete was replaced, or %v", err)
	}
	other := facts
	other.Board = "rpi"
	replaced, err = provision(d, other, true)
	if err != nil || bytes.Equal(first, replaced) {
		t.Errorf("the key was not replaced, or %v", err)
	}
}

func TestTheRecordBindsWhatTheBenchSays(t *testing.T) {
	d := faultdisk.New()
	made, err := certs.Provision(d, dir, ks, certs.Order{Factory: facts, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pki.ParseRecord(made.Record)
	if err != nil || r.Serial != "GW-0001" || r.Board != "lab" || r.Model != "cim550" || !bytes.Equal(r.Claim, made.Claim.Hash()) || r.Relabel {
		t.Errorf("record %+v, %v", r, err)
	}
	if bytes.Contains(made.Record, []byte(made.Claim.String())) {
		t.Error("the claim code itself is in the record")
	}
	block, _ := pem.Decode(made.Record)
	for i := range block.Bytes { // none of it can be exchanged on the way
		bad := bytes.Clone(block.Bytes)
		bad[i] ^= 1
		if r, err := pki.ParseRecord(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bad})); err == nil {
			t.Fatalf("with byte %d changed it reads %+v", i, r)
		}
	}
}

func TestTheGatewayForgetsItsClaimCode(t *testing.T) {
	a, d := pkitest.New(t), faultdisk.New()
	order := certs.Order{Factory: facts, Random: rand.Reader}
	made, err := certs.Provision(d, dir, ks, order)
	if err != nil {
		t.Fatal(err)
	}
	install := func(record []byte) {
		t.Helper()
		if err := certs.Install(d, dir, ks, issue(t, a, record), time.Now()); err != nil {
			t.Fatal(err)
		}
		entries, err := d.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if text, err := disk.ReadFile(d, filepath.Join(dir, e.Name())); err != nil || bytes.Contains(text, []byte(made.Claim.String())) {
				t.Errorf("%s holds the claim code, or %v", e.Name(), err)
			}
		}
	}
	install(made.Record)
	if _, err := certs.Provision(d, dir, ks, order); !errors.Is(err, certs.ErrProvisioned) {
		t.Errorf("again: %v", err)
	}
	// A new label: the same key, another code, until it is installed as well.
	order.Relabel = true
	first := made
	for range 2 {
		if made, err = certs.Provision(d, dir, ks, order); err != nil {
			t.Fatal(err)
		}
		order.Relabel = false // a run that was interrupted is taken up
	}
	was, err := pki.ParseRecord(first.Record)
	if err != nil {
		t.Fatal(err)
	}
	is, err := pki.ParseRecord(made.Record)
	if err != nil || !is.Relabel || made.Claim == first.Claim || bytes.Equal(is.Claim, was.Claim) {
		t.Errorf("relabelled: %+v, %v", is, err)
	}
	if id, err := certs.Load(d, dir, ks, time.Now); err != nil || id.Serial() != "GW-0001" {
		t.Errorf("meanwhile: %v", err)
	}
	install(made.Record)
	if _, err := certs.Provision(d, dir, ks, order); !errors.Is(err, certs.ErrProvisioned) {
		t.Errorf("after the relabelling: %v", err)
	}
}

func TestReplacingIsNeverSilentlyLeftOut(t *testing.T) {
	a := pkitest.New(t)
	for n := 1; ; n++ {
		d := faultdisk.New()
		bench(t, a, d, facts, false)
		old, err := disk.ReadFile(d, dir+"/key.pem")
		if err != nil {
			t.Fatal(err)
		}
		d.CutAt(d.Operations() + n)
		if bench(t, a, d, facts, true) {
			break
		}
		after := d.AfterCut(uint64(n))
		if key, err := disk.ReadFile(after, dir+"/key.pem"); err == nil && bytes.Equal(key, old) {
			if _, err := certs.Load(after, dir, ks, time.Now); err != nil {
				t.Fatalf("cut at %d: the old key without its certificate: %v", n, err)
			}
		}
		if !bench(t, a, after, facts, true) {
			t.Fatalf("cut at %d: the second run failed", n)
		}
		if key, err := disk.ReadFile(after, dir+"/key.pem"); err != nil || bytes.Equal(key, old) {
			t.Fatalf("cut at %d: the old key is still there, or %v", n, err)
		}
	}
}

func TestAnIdentityIsNeverOverwrittenByAccident(t *testing.T) {
	a, d := pkitest.New(t), faultdisk.New()
	request, err := provision(d, facts, false)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, f certs.Factory, says string) {
		t.Helper()
		if _, err := provision(d, f, false); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "-replace") {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := facts
	other.Serial = "GW-0002"
	refused("another gateway in its folder", other, "holds the identity of GW-0001")
	bundle := issue(t, a, request)
	if err := certs.Install(d, dir, ks, bundle, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := provision(d, facts, false); !errors.Is(err, certs.ErrProvisioned) {
		t.Errorf("a complete identity: %v", err)
	}
	refused("another gateway in its folder", other, "holds the identity of GW-0001")
	if err := d.Remove(filepath.Join(dir, "factory.json")); err != nil {
		t.Fatal(err)
	}
	refused("a key whose facts are gone", facts, "factory.json is gone")
}

func TestAKeyThatOthersCanReadIsRefused(t *testing.T) {
	a, folder := pkitest.New(t), t.TempDir() // on a real disk
	request, err := certs.Provision(disk.OS, folder, ks, certs.Order{Factory: facts, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	bundle := issue(t, a, request.Record)
	if err := certs.Install(disk.OS, folder, ks, bundle, time.Now()); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(folder, "key.pem")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := certs.Load(disk.OS, folder, ks, time.Now); err == nil || !strings.Contains(err.Error(), "can be read by others") || !strings.Contains(err.Error(), "chmod 600 "+key) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Load(disk.OS, folder, ks, time.Now); err != nil {
		t.Errorf("mode 600: %v", err)
	}
}

func TestAChainThatIsNotThisGatewaysIsNotInstalled(t *testing.T) {
	a, foreign := pkitest.New(t), pkitest.New(t)
	d := faultdisk.New()
	request, err := provision(d, facts, false)
	if err != nil {
		t.Fatal(err)
	}
	bundle := issue(t, a, request)
	chain, roots := bundle.Chain, bundle.Roots
	foreignBundle := issue(t, foreign, request)
	other := facts
	other.Serial = "GW-0002"
	otherRequest, err := provision(faultdisk.New(), other, false)
	if err != nil {
		t.Fatal(err)
	}
	otherChain := issue(t, a, otherRequest).Chain
	expired := pki.EncodeCertificates(sign(t, a, request, time.Now().Add(-50*time.Minute), time.Now().Add(-30*time.Minute)), a.Factory.Certificate)
	for what, tc := range map[string]struct {
		chain, roots []byte
		says         string
	}{
		"of another key":               {otherChain, roots, "another key"},
		"of another authority":         {foreignBundle.Chain, roots, "another authority"},
		"with another root":            {chain, foreignBundle.Roots, "another authority"},
		"that has expired":             {expired, roots, "expired on"},
		"without its intermediate":     {chain[:bytes.Index(chain[1:], []byte("-----BEGIN"))+1], roots, "another authority"},
		"that is none":                 {[]byte("hello"), roots, "no PEM certificate"},
		"cut short":                    {chain[:len(chain)-40], roots, "after certificate 1 comes a PEM block that cannot be read"},
		"with a key among the roots":   {chain, append(bytes.Clone(roots), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")...), "where certificates are expected"},
		"with an intermediate as leaf": {pki.EncodeCertificates(a.Factory.Certificate), roots, "another key"},
	} {
		if err := certs.Install(d, dir, ks, pki.Bundle{Chain: tc.chain, Roots: tc.roots}, time.Now()); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("a chain %s: %v; want %q", what, err, tc.says)
		}
		if _, err := certs.Load(d, dir, ks, time.Now); !errors.Is(err, certs.ErrNotProvisioned) {
			t.Fatalf("a chain %s left something behind: %v", what, err)
		}
	}
	if err := certs.Install(d, dir, ks, pki.Bundle{Chain: chain, Roots: roots, TUFRoot: []byte("{}")}, time.Now()); err == nil || !strings.Contains(err.Error(), "the keys that sign roots") {
		t.Errorf("with keys that are none: %v", err)
	}
	if _, err := certs.Load(d, dir, ks, time.Now); !errors.Is(err, certs.ErrNotProvisioned) {
		t.Fatalf("keys that are none left something behind: %v", err)
	}
	if err := certs.Install(d, dir, ks, bundle, time.Now()); err != nil {
		t.Errorf("its own chain: %v", err)
	}
	if err := certs.Install(faultdisk.New(), dir, ks, bundle, time.Now()); !errors.Is(err, certs.ErrNotProvisioned) {
		t.Errorf("where nothing was provisioned: %v", err)
	}
}

// sign signs a request with a validity of one's own.
func sign(t *testing.T, a *pkitest.Authorities, request []byte, from, to time.Time) *x509.Certificate {
	t.Helper()
	r, err := pki.ParseRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	good, err := a.CA.IssueGateway(request, "lab")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Factory.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: r.Subject.CommonName}, DNSNames: good.DNSNames, NotBefore: from, NotAfter: to,
		ExtKeyUsage: good.ExtKeyUsage, Policies: good.Policies, BasicConstraintsValid: true, KeyUsage: good.KeyUsage}, r.PublicKey, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestThePowerMayGoAtEveryWriteOfProvisioning cuts it at each, in every way that a
// disk forgets, and runs the bench's script again. What is there must be no
// identity or a whole one, never two keys for one certificate, and the second run
// must end well. Replacing an identity must never mix the two.
func TestThePowerMayGoAtEveryWriteOfProvisioning(t *testing.T) {
	a := pkitest.New(t)
	for name, replace := range map[string]bool{"a new gateway": false, "a gateway that is replaced": true} {
		t.Run(name, func(t *testing.T) {
			fresh := func() *faultdisk.Disk {
				d := faultdisk.New()
				if replace {
					bench(t, a, d, certs.Factory{Serial: "GW-OLD", Model: "cim280", Board: "lab", AuthURL: "https://old.example"}, false)
				}
				return d
			}
			d := fresh()
			before := d.Operations()
			bench(t, a, d, facts, replace)
			total := d.Operations()
			if total-before < 10 {
				t.Fatalf("the script has %d operations only", total-before)
			}
			for n := before + 1; n <= total; n++ {
				for seed := range uint64(6) {
					d := fresh()
					d.CutAt(n)
					done := bench(t, a, d, facts, replace)
					after := d.AfterCut(seed)
					id, err := certs.Load(after, dir, ks, time.Now)
					switch {
					case done && err != nil:
						t.Fatalf("cut at %d, seed %d: it was promised, and is gone: %v", n, seed, err)
					case err == nil && id.Serial() != facts.Serial && !(replace && id.Serial() == "GW-OLD"):
						t.Fatalf("cut at %d, seed %d: the identity of %s", n, seed, id.Serial())
					case err != nil && !errors.Is(err, certs.ErrNotProvisioned):
						t.Fatalf("cut at %d, seed %d: neither an identity nor none: %v", n, seed, err)
					}
					if err == nil && id.Serial() == facts.Serial {
						continue // complete
					}
					if !bench(t, a, after, facts, replace) {
						t.Fatalf("cut at %d, seed %d: the second run failed", n, seed)
					}
					if id, err := certs.Load(after, dir, ks, time.Now); err != nil || id.Serial() != facts.Serial {
						t.Fatalf("cut at %d, seed %d, after the second run: %v", n, seed, err)
					}
				}
			}
		})
	}
}

// bench is the script at the bench: provision, have it signed, install. It tells
// whether it came to its end.
func bench(t *testing.T, a *pkitest.Authorities, d disk.FS, f certs.Factory, replace bool) bool {
	t.Helper()
	request, err := provision(d, f, replace)
	if err == nil {
		bundle := issue(t, a, request)
		err = certs.Install(d, dir, ks, bundle, time.Now())
	}
	if err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
		t.Fatal(err)
	}
	return err == nil
}

func TestFactoryFactsAreCheckedAndTheFaultIsNamed(t *testing.T) {
	for _, tc := range []struct{ text, says string }{
		{`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"https://a.example"}`, ""},
		{`{"serial":"gw-1","model":"cim550","board":"lab","auth_url":"https://a.example"}`, `serial: "gw-1" is not a serial number`},
		{`{"serial":"GW/+#","model":"cim550","board":"lab","auth_url":"https://a.example"}`, "serial:"},
		{`{"serial":"GW-0001","model":"cim","board":"lab","auth_url":"https://a.example"}`, "allowed: cim280, cim550"},
		{`{"serial":"GW-0001","model":"cim550","board":"../x","auth_url":"https://a.example"}`, "board:"},
		{`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"http://a.example"}`, "allowed: https://HOST"},
		{`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"https://u:p@a.example"}`, "auth_url:"},
		{`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"https://a.example:0"}`, "port 0"},
		{"{\n\"serial\":\"GW-0001\",\n\"colour\":\"red\"}", "line 3"},
		{`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"https://a.example"} {}`, "something after the object"},
		{``, "line 1"},
	} {
		d := faultdisk.New()
		if err := disk.MkdirAll(d, dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFile(d, dir+"/factory.json", []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := certs.Load(d, dir, ks, time.Now)
		if tc.says == "" {
			if !errors.Is(err, certs.ErrNotProvisioned) { // the key is what is missing
				t.Errorf("%s: %v", tc.text, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), dir+"/factory.json") {
			t.Errorf("%s: %v; want %q", tc.text, err, tc.says)
		}
	}
}

func FuzzFactory(f *testing.F) {
	f.Add([]byte(`{"serial":"GW-0001","model":"cim550","board":"lab","auth_url":"https://a.example:8443"}`))
	f.Add([]byte(`{"serial":1}`))
	f.Add([]byte("{}{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := faultdisk.New()
		if err := disk.MkdirAll(d, dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFile(d, dir+"/factory.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := certs.Load(d, dir, ks, time.Now)
		if err == nil {
			t.Fatal("an identity without a key")
		}
		if errors.Is(err, certs.ErrNotProvisioned) && !strings.Contains(fmt.Sprint(err), "key.pem") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
