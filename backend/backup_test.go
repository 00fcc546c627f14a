package backend_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"penstock/backend"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
)

// machine is a state folder with its database.
type machine struct {
	t   *testing.T
	dir string
	db  *store.Store
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	db, err := store.Open(t.Context(), filepath.Join(m.dir, "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.db = db
	t.Cleanup(func() { db.Close() })
	return m
}

// issue makes gateways known, with a label each.
func (m *machine) issue(serials ...string) {
	m.t.Helper()
	ca, err := backend.OpenCA(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, serial := range serials {
		h := sha256.Sum256([]byte(serial))
		if _, err := backend.Issue(m.t.Context(), ca, m.db, record(m.t, pki.Record{Serial: serial, Model: "cim550", Board: "rpi", Claim: h[:]}), backend.Order{}); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *machine) revoke(serial, reason string) {
	m.t.Helper()
	if err := m.db.Revoke(m.t.Context(), serial, reason); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) backup() []byte {
	m.t.Helper()
	var b bytes.Buffer
	if err := backend.Backup(m.t.Context(), m.dir, m.db, &b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

func (m *machine) restore(b []byte, since *store.Since) (backend.Restored, error) {
	return backend.Restore(m.t.Context(), m.dir, m.db, bytes.NewReader(b), since)
}

func (m *machine) mustRestore(b []byte, since *store.Since) {
	m.t.Helper()
	if _, err := m.restore(b, since); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) registry() store.Registry {
	m.t.Helper()
	r, err := m.db.Registry(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// shut tells which of the gateways may not come in.
func (m *machine) shut(serials ...string) (out []string) {
	m.t.Helper()
	for _, serial := range serials {
		var revoked *store.RevokedError
		if err := m.db.Standing(m.t.Context(), serial, ""); errors.As(err, &revoked) {
			out = append(out, serial)
		} else if err != nil {
			m.t.Errorf("%s: %v", serial, err)
		}
	}
	return out
}

func TestABackupMakesAnEmptyMachineTheSame(t *testing.T) {
	a, b := newMachine(t), newMachine(t)
	a.issue("GW-1", "GW-2", "GW-3")
	a.revoke("GW-2", "stolen")
	a.revoke("GW-3", "lost")
	if err := a.db.Unrevoke(t.Context(), "GW-3", "found"); err != nil {
		t.Fatal(err)
	}
	saved := a.backup()
	// What was revoked since nobody here can know: nothing is done until somebody says it.
	var unknown *store.UnknownGatewaysError
	if _, err := b.restore(saved, nil); !errors.As(err, &unknown) || !slices.Equal(unknown.Serials, []string{"GW-1", "GW-2", "GW-3"}) {
		t.Errorf("onto an empty machine: %v", err)
	}
	if _, err := backend.LoadCA(b.dir); !errors.Is(err, pki.ErrNoCA) {
		t.Errorf("a restore that was refused has left authorities: %v", err)
	}
	for range 2 {
		b.mustRestore(saved, &store.Since{})
		if !reflect.DeepEqual(a.registry(), b.registry()) {
			t.Errorf("restored: %+v\nsaved:    %+v", b.registry(), a.registry())
		}
	}
	b.mustRestore(saved, nil) // all of them are known now
	if got := b.shut("GW-1", "GW-2", "GW-3"); !slices.Equal(got, []string{"GW-2"}) {
		t.Errorf("shut out are %q", got)
	}
	b.issue("GW-4")
}

func TestTheOperatorSaysWhatWasRevokedSinceTheBackup(t *testing.T) {
	a := newMachine(t)
	a.issue("GW-1", "GW-2", "GW-3")
	saved := a.backup()
	b := newMachine(t)
	b.mustRestore(saved, &store.Since{Revoked: []string{"GW-3"}, Reason: "stolen in between"})
	if got := b.shut("GW-1", "GW-2", "GW-3"); !slices.Equal(got, []string{"GW-3"}) {
		t.Errorf("shut out are %q", got)
	}
	c := newMachine(t)
	if _, err := c.restore(saved, &store.Since{Revoked: []string{"GW-9"}, Reason: "typed wrong"}); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("a gateway that is in no backup: %v", err)
	}
	if r := c.registry(); len(r.Gateways) > 0 {
		t.Errorf("gateways came in all the same: %+v", r.Gateways)
	}
	c.mustRestore(saved, &store.Since{All: true, Reason: "nobody knows"})
	if got := c.shut("GW-1", "GW-2", "GW-3"); len(got) != 3 {
		t.Errorf("shut out are %q", got)
	}
	if err := c.db.Unrevoke(t.Context(), "GW-1", "it was good"); err != nil {
		t.Error(err)
	}
	c.mustRestore(saved, &store.Since{All: true, Reason: "nobody knows"}) // they are known now
	if got := c.shut("GW-1"); len(got) > 0 {
		t.Error("what was let in again is shut out again")
	}
}

func TestRestoringNeverUndoesARevocation(t *testing.T) {
	m := newMachine(t)
	m.issue("GW-1", "GW-2", "GW-3", "GW-4")
	operational := func(number string) store.Certificate {
		return store.Certificate{Number: number, Gateway: "GW-2", Role: "operational", Key: []byte(number), NotAfter: clock.System.Now().AddDate(1, 0, 0)}
	}
	if err := m.db.AddCertificate(t.Context(), operational("a1")); err != nil {
		t.Fatal(err)
	}
	old := m.backup()
	m.revoke("GW-1", "stolen")
	m.revoke("GW-2", "stolen")
	if err := m.db.Unrevoke(t.Context(), "GW-2", "found"); err != nil {
		t.Fatal(err)
	}
	ca, err := backend.LoadCA(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backend.Issue(t.Context(), ca, m.db, record(t, pki.Record{Serial: "GW-3", Model: "cim550", Board: "rpi", Claim: hash(9)}), backend.Order{Replaced: "lightning"}); err != nil {
		t.Fatal(err)
	}
	m.issue("GW-5")
	before := m.registry()
	for range 2 {
		r, err := m.restore(old, nil)
		if err != nil || len(r.Authorities) > 0 || r.Merged != (store.Merged{}) {
			t.Errorf("restored %+v, %v", r, err)
		}
		if !reflect.DeepEqual(before, m.registry()) {
			t.Errorf("an older backup changed the registry:\n%+v\n%+v", before, m.registry())
		}
	}
	// A database that was lost and came back from a still older copy, and the newest
	// backup: what it revokes is revoked again.
	newest := m.backup()
	m2 := newMachine(t)
	m2.mustRestore(old, &store.Since{})
	m2.mustRestore(newest, &store.Since{})
	if got := m2.shut("GW-1", "GW-2", "GW-3", "GW-4", "GW-5"); !slices.Equal(got, []string{"GW-1"}) {
		t.Errorf("shut out are %q", got)
	}
	var revoked *store.RevokedError
	if err := m2.db.Standing(t.Context(), "GW-2", "a1"); !errors.As(err, &revoked) {
		t.Errorf("the operational certificate of before GW-2 was let in again: %v", err)
	}
	if serial, err := m2.db.Claimed(t.Context(), hash(9)); err != nil || serial != "GW-3" {
		t.Errorf("the new label is %q's, %v", serial, err)
	}
	// Two that have gone different ways: a certificate that only the backup has is
	// judged as if it had been here.
	one, two := newMachine(t), newMachine(t)
	one.mustRestore(old, &store.Since{})
	two.mustRestore(old, &store.Since{})
	if err := one.db.AddCertificate(t.Context(), operational("c1")); err != nil {
		t.Fatal(err)
	}
	two.revoke("GW-2", "stolen")
	if err := two.db.Unrevoke(t.Context(), "GW-2", "found"); err != nil {
		t.Fatal(err)
	}
	two.mustRestore(one.backup(), nil)
	if err := two.db.Standing(t.Context(), "GW-2", "c1"); !errors.As(err, &revoked) {
		t.Errorf("a certificate of before GW-2 was let in again came back good: %v", err)
	}
}

// entries reads a tar; write writes one with its list made right.
func entries(t *testing.T, b []byte) (names []string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func write(t *testing.T, names []string, files map[string][]byte, change func(h *tar.Header)) []byte {
	t.Helper()
	var list map[string]any
	if err := json.Unmarshal(files["backup.json"], &list); err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for name, content := range files {
		if name != "backup.json" {
			s := sha256.Sum256(content)
			sums[name] = hex.EncodeToString(s[:])
		}
	}
	list["sha256"] = sums
	files = maps.Clone(files)
	var err error
	if files["backup.json"], err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(files[name]))}
		if change != nil {
			change(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(files[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestADamagedBackupIsRefusedByTheNameOfWhatIsDamaged cuts one short at every block,
// flips a bit in every file, and puts in what does not belong there.
func TestADamagedBackupIsRefusedByTheNameOfWhatIsDamaged(t *testing.T) {
	a := newMachine(t)
	a.issue("GW-1")
	saved := a.backup()
	names, files := entries(t, saved)
	for _, name := range names {
		if strings.Contains(name, "server-") {
			t.Errorf("%s is in the backup", name)
		}
	}
	empty := newMachine(t)
	refuse := func(what string, b []byte, says string) {
		t.Helper()
		if _, err := empty.restore(b, &store.Since{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", what, err, says)
		}
	}
	const padding = 2*512 + 511 // tar's end mark, and what fills the last block
	for n := 0; n < len(saved)-padding; n += 256 {
		refuse("cut short", saved[:n], "it ")
	}
	at := 0
	for _, name := range names {
		at += 512
		size := len(files[name])
		bad := bytes.Clone(saved)
		bad[at+size/2] ^= 1
		says := name
		if name == "backup.json" {
			says = "it" // the list may be read, and another file is not what it says
		}
		refuse("garbled", bad, says)
		at += (size + 511) / 512 * 512
	}
	with := func(name string) ([]string, map[string][]byte) {
		more := maps.Clone(files)
		more[name] = []byte("x")
		return append(slices.Clone(names), name), more
	}
	for _, name := range []string{"ca/../../escaped.pem", "../escaped.pem", "/tmp/escaped.pem", "ca/a/b.pem", "ca/.hidden.pem", "ca/server-web.pem", "ca/UPPER.pem", "escaped.json", "ca/x.sh"} {
		n, f := with(name)
		refuse("a stranger", write(t, n, f, nil), name)
	}
	n, f := with("ca/link.pem")
	refuse("a link", write(t, n, f, func(h *tar.Header) {
		if h.Name == "ca/link.pem" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0
		}
	}), "ca/link.pem")
	refuse("twice the same", write(t, append(slices.Clone(names), "ca/root.pem"), files, nil), "ca/root.pem is in it twice")
	refuse("without its list", write(t, names[1:], files, nil), "it is no backup")
	refuse("another tar", []byte(strings.Repeat("hello ", 1000)), "it ")
	delete(files, "registry.json")
	refuse("without the registry", write(t, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "registry.json" }), files, nil), "registry.json")
	if left, err := os.ReadDir(filepath.Join(empty.dir, "ca")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("refused backups left %v, %v", left, err)
	}
	if r := empty.registry(); len(r.Gateways) > 0 {
		t.Errorf("refused backups left %+v", r)
	}
	empty.mustRestore(saved, &store.Since{})
}

func TestABackupOfAnotherInstallationIsRefused(t *testing.T) {
	a, b := newMachine(t), newMachine(t)
	a.issue("GW-1")
	b.issue("GW-1")
	before := b.registry()
	if _, err := b.restore(a.backup(), nil); !errors.Is(err, pki.ErrOtherRoot) {
		t.Errorf("%v", err)
	}
	if !reflect.DeepEqual(before, b.registry()) {
		t.Error("the registry changed")
	}
	if err := backend.Backup(t.Context(), t.TempDir(), a.db, io.Discard); !errors.Is(err, pki.ErrNoCA) {
		t.Errorf("a backup of nothing: %v", err)
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte("hello"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"backup.json", "ca/../root.pem"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 2}); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte("{}")); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	dir := f.TempDir()
	db, err := store.Open(f.Context(), filepath.Join(dir, "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := backend.Restore(t.Context(), dir, db, bytes.NewReader(b), &store.Since{}); err == nil {
			t.Error("restored")
		}
	})
}
