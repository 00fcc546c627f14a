package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/certs/pki/tuf"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// pinned is the root metadata that a gateway gets at the bench.
func pinned(t *testing.T, ca *pki.CA) *tuf.Root {
	t.Helper()
	text, err := ca.TUFRoot()
	if err != nil {
		t.Fatal(err)
	}
	r, err := tuf.ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// learn is what a gateway with that root metadata takes from the authorities.
func learn(t *testing.T, ca *pki.CA, r *tuf.Root) (last *tuf.Root, version int64, names []string) {
	t.Helper()
	chain, text, err := ca.SignedRoots(r.Version, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range chain {
		if r, err = r.Next(next); err != nil {
			t.Fatal(err)
		}
	}
	targets, err := r.Targets(text)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := targets.Roots()
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates(roots)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range certs {
		names = append(names, c.Subject.CommonName)
	}
	return r, targets.Version, names
}

func TestARotatedRootIsSignedForGateways(t *testing.T) {
	a := pkitest.New(t)
	bench := pinned(t, a.CA)
	for _, key := range []string{"tuf-root", "tuf-targets", "tuf-online"} {
		if st, err := a.FS.Stat(pkitest.Dir + "/" + key + ".key"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, st, err)
		}
	}
	says := func(when string, wantVersion int64, want ...string) {
		t.Helper()
		_, version, names := learn(t, a.CA, bench)
		if version != wantVersion || strings.Join(names, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s, gateways of the bench learn version %d: %q", when, version, names)
		}
	}
	says("at the beginning", 1, "Penstock Root")
	// By another process, as an operator does.
	if err := open(t, a.FS).Rotate("root"); err != nil {
		t.Fatal(err)
	}
	says("after a rotation", 2, "Penstock Root", "Penstock Root 2")
	if err := open(t, a.FS).Rotate("servers"); err != nil {
		t.Fatal(err)
	}
	says("after a rotation of another authority", 2, "Penstock Root", "Penstock Root 2")
	if err := open(t, a.FS).Rotate("signing"); err != nil {
		t.Fatal(err)
	}
	says("after a rotation of the keys that sign", 3, "Penstock Root", "Penstock Root 2")
	if err := open(t, a.FS).Withdraw("root"); err != nil {
		t.Fatal(err)
	}
	says("after the first root was withdrawn", 4, "Penstock Root 2")
	if err := open(t, a.FS).Rotate("root"); err != nil {
		t.Fatal(err)
	}
	says("after a third root", 5, "Penstock Root 2", "Penstock Root 3")
	for _, has := range []int64{0, 1, 4, 6} {
		if chain, targets, err := a.CA.SignedRoots(2, has); err != nil || len(chain) != 0 || targets == nil {
			t.Errorf("who has version %d gets %d root metadata and %q, %v", has, len(chain), targets, err)
		}
	}
	if chain, targets, err := a.CA.SignedRoots(2, 5); err != nil || len(chain) != 0 || targets != nil {
		t.Errorf("who has everything gets %d root metadata and %q, %v", len(chain), targets, err)
	}
	for _, gone := range []string{"tuf-root", "tuf-targets"} {
		if _, err := a.FS.Stat(pkitest.Dir + "/" + gone + ".key"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the rotated key %s is still there: %v", gone, err)
		}
	}
}

// TestTheSigningKeysAreNeededForSigningAlone moves them away, and opens, issues and
// serves without them.
func TestTheSigningKeysAreNeededForSigningAlone(t *testing.T) {
	a := pkitest.New(t)
	bench := pinned(t, a.CA)
	away := map[string][]byte{}
	for _, key := range []string{"tuf-root.key", "tuf-targets.key"} {
		text, err := disk.ReadFile(a.FS, pkitest.Dir+"/"+key)
		if err == nil {
			err = a.FS.Remove(pkitest.Dir + "/" + key)
		}
		if err != nil {
			t.Fatal(err)
		}
		away[key] = text
	}
	ca := open(t, a.FS)
	if _, version, _ := learn(t, ca, bench); version != 1 {
		t.Errorf("without the keys, version %d", version)
	}
	before := ca.Roots()
	for _, name := range []string{"root", "signing"} {
		if err := ca.Rotate(name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "bring it for as long as it takes to sign") {
			t.Errorf("rotating %s without its key: %v", name, err)
		}
	}
	if !bytes.Equal(ca.Roots(), before) {
		t.Error("the root is rotated, and no gateway will hear of it")
	}
	if err := ca.Rotate("servers"); err != nil {
		t.Errorf("another authority: %v", err)
	}
	if err := disk.WriteFile(a.FS, pkitest.Dir+"/tuf-targets.key", away["tuf-root.key"], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ca.Rotate("root"); err == nil || !strings.Contains(err.Error(), "is not the key that 1.root.json names") || !bytes.Equal(ca.Roots(), before) {
		t.Errorf("with another key: %v", err)
	}
	if err := disk.WriteFile(a.FS, pkitest.Dir+"/tuf-targets.key", away["tuf-targets.key"], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ca.Rotate("root"); err != nil {
		t.Error(err)
	}
	if _, version, names := learn(t, ca, bench); version != 2 || len(names) != 2 {
		t.Errorf("with the key back, version %d: %q", version, names)
	}
}

func TestAuthoritiesOfBeforeGetSigningKeys(t *testing.T) {
	a := pkitest.New(t)
	for _, name := range []string{"1.root.json", "1.targets.json", "tuf-root.key", "tuf-targets.key", "tuf-online.key"} {
		if err := a.FS.Remove(pkitest.Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	old, err := pki.LoadCA(a.FS, pkitest.Dir, clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.TUFRoot(); !errors.Is(err, pki.ErrNoSigning) {
		t.Errorf("before: %v", err)
	}
	learn(t, open(t, a.FS), pinned(t, open(t, a.FS)))
	// Whoever only loads them sees what another process has made.
	learn(t, old, pinned(t, old))
}

func TestRootMetadataThatIsLostIsNotMadeAnew(t *testing.T) {
	a := pkitest.New(t)
	if err := a.FS.Remove(pkitest.Dir + "/1.root.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenCA(a.FS, pkitest.Dir, clock.System, rand.Reader); err == nil || !strings.Contains(err.Error(), "1.targets.json is there and 1.root.json is not: restore it") {
		t.Errorf("opened: %v", err)
	}
}

func TestAWithdrawnRootIsBelievedNoMore(t *testing.T) {
	a := pkitest.New(t)
	old := a.Gateway(t, "GW-0001")
	if err := a.CA.Withdraw("root"); err == nil || !strings.Contains(err.Error(), "rotate it first") {
		t.Errorf("the only root: %v", err)
	}
	if err := a.CA.Rotate("root"); err != nil {
		t.Fatal(err)
	}
	accepted := func() error {
		chain := []*x509.Certificate{old.Leaf, a.Factory.Certificate}
		_, err := pki.Verify(chain, a.CA.Pool(), a.Clock.Now(), x509.ExtKeyUsageClientAuth)
		return err
	}
	if err := accepted(); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if err := a.CA.Withdraw("root-9"); err == nil || !strings.Contains(err.Error(), `["root" "root-2"]`) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := open(t, a.FS).Withdraw("root"); err != nil {
		t.Fatal(err)
	}
	if err := accepted(); err == nil {
		t.Error("a gateway of a withdrawn root is let in")
	}
}

// TestThePowerMayGoAtEveryWriteOfSigning: what gateways can learn after a cut is a
// whole signed file, of the bench's keys or of keys that these named, and the
// operator can go on.
func TestThePowerMayGoAtEveryWriteOfSigning(t *testing.T) {
	change := map[string]func(ca *pki.CA) error{
		"signing":  func(ca *pki.CA) error { return ca.Rotate("signing") },
		"root":     func(ca *pki.CA) error { return ca.Rotate("root") },
		"withdraw": func(ca *pki.CA) error { return ca.Withdraw("root") },
	}
	for name, do := range change {
		t.Run(name, func(t *testing.T) {
			fresh := func() (*faultdisk.Disk, *pki.CA) {
				d := faultdisk.New()
				ca := open(t, d)
				if name == "withdraw" {
					if err := ca.Rotate("root"); err != nil {
						t.Fatal(err)
					}
				}
				return d, ca
			}
			d, ca := fresh()
			before := d.Operations()
			if err := do(ca); err != nil {
				t.Fatal(err)
			}
			total := d.Operations()
			for n := before + 1; n <= total; n++ {
				for seed := range uint64(3) {
					d, ca := fresh()
					bench := pinned(t, ca)
					_, had, _ := learn(t, ca, bench)
					d.CutAt(n)
					if err := do(ca); err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
						t.Fatal(err)
					}
					ca, err := pki.OpenCA(d.AfterCut(seed), pkitest.Dir, clock.System, rand.Reader)
					if err != nil {
						t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
					}
					if _, version, names := learn(t, ca, bench); version < had || len(names) == 0 {
						t.Fatalf("cut at %d, seed %d: version %d after %d: %q", n, seed, version, had, names)
					}
					if err := do(ca); err != nil {
						t.Fatalf("cut at %d, seed %d: again: %v", n, seed, err)
					}
					learn(t, ca, bench)
				}
			}
		})
	}
}
