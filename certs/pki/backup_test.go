package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

func backup(t *testing.T, fsys disk.FS) map[string][]byte {
	t.Helper()
	files, err := pki.Backup(fsys, pkitest.Dir, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }

func TestABackupOfTheAuthoritiesMakesThemAgainElsewhere(t *testing.T) {
	a := pkitest.New(t)
	if _, err := a.CA.Server("web", []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.CA.Rotate("servers"), a.CA.Rotate("root")); err != nil {
		t.Fatal(err)
	}
	files := backup(t, a.FS)
	for _, name := range names(files) {
		if strings.HasPrefix(name, "server-") {
			t.Errorf("the key of a server, %s, is in it", name)
		}
	}
	d := faultdisk.New()
	written, err := pki.Restore(d, pkitest.Dir, files, clock.System)
	if err != nil || len(written) != len(files) {
		t.Fatalf("restored %q of %q, %v", written, names(files), err)
	}
	if again := backup(t, d); !maps.EqualFunc(files, again, bytes.Equal) {
		t.Errorf("what was restored is %q", names(again))
	}
	for _, name := range names(files) {
		want := map[bool]uint32{true: 0o600, false: 0o644}[strings.HasSuffix(name, ".key")]
		if st, err := d.Stat(pkitest.Dir + "/" + name); err != nil || uint32(st.Mode().Perm()) != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if written, err := pki.Restore(d, pkitest.Dir, files, clock.System); err != nil || len(written) > 0 {
		t.Errorf("again: %q, %v", written, err)
	}
	ca, err := pki.OpenCA(d, pkitest.Dir, clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-1"}}, pkitest.Key(t))
	if leaf, err := ca.IssueGateway(request, "lab"); err != nil {
		t.Error(err)
	} else if _, err := a.CA.ChainOf(leaf); err != nil {
		t.Errorf("what it issues is not of the same authority: %v", err)
	}
}

func TestAnOldBackupBringsNoDestroyedKeyBackAndNoneThatWasMovedAway(t *testing.T) {
	a := pkitest.New(t)
	old := backup(t, a.FS)
	if err := errors.Join(a.CA.Rotate("factory"), a.CA.Rotate("signing")); err != nil {
		t.Fatal(err)
	}
	away := []string{"root.key", "tuf-root-2.key", "tuf-targets-2.key"}
	for _, name := range away {
		if err := a.FS.Remove(pkitest.Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := pki.Restore(a.FS, pkitest.Dir, old, clock.System); err != nil || len(written) > 0 {
		t.Errorf("restored %q, %v", written, err)
	}
	// What the service needs, and what was lost, does come back.
	for _, name := range []string{"servers.key", "tuf-online.key"} {
		if err := a.FS.Remove(pkitest.Dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := pki.Restore(a.FS, pkitest.Dir, old, clock.System); err != nil || !slices.Equal(written, []string{"servers.key", "tuf-online.key"}) {
		t.Errorf("restored %q, %v", written, err)
	}
	// A backup without the offline keys is whole.
	files := backup(t, a.FS)
	if _, err := pki.Restore(faultdisk.New(), pkitest.Dir, files, clock.System); err != nil {
		t.Errorf("without %q: %v", away, err)
	}
}

func TestABackupThatDoesNotFitIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	a, other := pkitest.New(t), pkitest.New(t)
	files := backup(t, a.FS)
	if _, err := pki.Restore(other.FS, pkitest.Dir, files, clock.System); !errors.Is(err, pki.ErrOtherRoot) {
		t.Errorf("over other authorities: %v", err)
	}
	// Two that have gone different ways.
	branch := faultdisk.New()
	if _, err := pki.Restore(branch, pkitest.Dir, files, clock.System); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.OpenCA(branch, pkitest.Dir, clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ca.Rotate("servers"), a.CA.Rotate("servers")); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Restore(branch, pkitest.Dir, backup(t, a.FS), clock.System); err == nil || !strings.Contains(err.Error(), "servers-2") {
		t.Errorf("two ways: %v", err)
	}
	for what, spoil := range map[string]func(f map[string][]byte){
		"without its root":        func(f map[string][]byte) { delete(f, "root.pem") },
		"without a key":           func(f map[string][]byte) { delete(f, "factory.key") },
		"with a garbled key":      func(f map[string][]byte) { f["factory.key"] = []byte("hello") },
		"with another's key":      func(f map[string][]byte) { f["factory.key"] = f["servers.key"] },
		"with another root":       func(f map[string][]byte) { f["root.pem"] = backup(t, other.FS)["root.pem"] },
		"with a garbled metadata": func(f map[string][]byte) { f["1.root.json"] = []byte("{}") },
	} {
		bad, d := maps.Clone(files), faultdisk.New()
		spoil(bad)
		if _, err := pki.Restore(d, pkitest.Dir, bad, clock.System); err == nil {
			t.Errorf("a backup %s was restored", what)
		}
		if d.Operations() > 0 {
			t.Errorf("a backup %s: something was written", what)
		}
	}
}

// TestThePowerMayGoAtEveryWriteOfARestore cuts it, has a backend start, which would
// make authorities where there are none, and restores again.
func TestThePowerMayGoAtEveryWriteOfARestore(t *testing.T) {
	a := pkitest.New(t)
	if err := a.CA.Rotate("servers"); err != nil {
		t.Fatal(err)
	}
	files := backup(t, a.FS)
	whole := faultdisk.New()
	if _, err := pki.Restore(whole, pkitest.Dir, files, clock.System); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.Operations(); n++ {
		for seed := range uint64(4) {
			d := faultdisk.New()
			d.CutAt(n)
			_, err := pki.Restore(d, pkitest.Dir, files, clock.System)
			if !errors.Is(err, faultdisk.ErrPowerCut) {
				t.Fatalf("cut at %d: %v", n, err)
			}
			after := d.AfterCut(seed)
			if entries, err := after.ReadDir(pkitest.Dir); err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".pem") }) {
				if ca, err := pki.OpenCA(after, pkitest.Dir, clock.System, rand.Reader); err == nil && !bytes.Equal(ca.Roots(), files["root.pem"]) {
					t.Fatalf("cut at %d, seed %d: a backend has made authorities of its own", n, seed)
				}
			}
			if _, err := pki.Restore(after, pkitest.Dir, files, clock.System); err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			if again := backup(t, after); !maps.EqualFunc(files, again, bytes.Equal) {
				t.Fatalf("cut at %d, seed %d: restored %q", n, seed, names(again))
			}
		}
	}
}
