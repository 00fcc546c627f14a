package peertest

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/tuf"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// goTUF is the peer's program, built in its own module.
func goTUF(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("the peer is built in the long tests only")
	}
	bin := filepath.Join(t.TempDir(), "tuf")
	build := exec.Command("go", "build", "-o", bin, "./tuf")
	build.Dir = filepath.Join("..", "peers")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building go-tuf: %v\n%s", err, out)
	}
	return func(args ...string) (string, error) {
		out, err := exec.Command(bin, args...).CombinedOutput()
		return string(out), err
	}
}

// TestGoTUFVerifiesWhatTheAuthoritiesSign: the metadata of a whole life of the
// authorities, from the bench's to that of another root and other keys.
func TestGoTUFVerifiesWhatTheAuthoritiesSign(t *testing.T) {
	peer := goTUF(t)
	dir := t.TempDir()
	ca, err := pki.OpenCA(disk.OS, dir, clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if out, err := peer("verify", in("1.targets.json"), in("1.root.json")); err != nil || !strings.HasPrefix(out, "root 1, targets 1\n-----BEGIN CERTIFICATE") {
		t.Errorf("at the beginning: %v\n%s", err, out)
	}
	for _, name := range []string{"root", "signing"} {
		if err := ca.Rotate(name); err != nil {
			t.Fatal(err)
		}
	}
	out, err := peer("verify", in("3.targets.json"), in("1.root.json"), in("2.root.json"))
	if err != nil || !strings.HasPrefix(out, "root 2, targets 3\n") || strings.Count(out, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("after both rotations: %v\n%s", err, out)
	}
	// The control: what a withdrawn key signed, and a character that nobody signed.
	if out, err := peer("verify", in("2.targets.json"), in("1.root.json"), in("2.root.json")); err == nil {
		t.Errorf("of a withdrawn key: %s", out)
	}
	text, err := os.ReadFile(in("3.targets.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("forged.json"), []byte(strings.Replace(string(text), `"version": 3`, `"version": 4`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := peer("verify", in("forged.json"), in("1.root.json"), in("2.root.json")); err == nil {
		t.Errorf("forged: %s", out)
	}
}

// TestWhatGoTUFSignsIsRead: metadata of a repository that go-tuf made, which has other
// targets, too.
func TestWhatGoTUFSignsIsRead(t *testing.T) {
	peer := goTUF(t)
	dir := t.TempDir()
	const content = "-----BEGIN CERTIFICATE-----\n\"quoted\", <ünïcode> \\ & more\n-----END CERTIFICATE-----\n"
	if err := os.WriteFile(filepath.Join(dir, "in.pem"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := peer("sign", dir, filepath.Join(dir, "in.pem")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first, err := tuf.ParseRoot(read("1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.Next(read("2.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	targets, err := second.Targets(read("targets.json"))
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := targets.Roots(); err != nil || string(roots) != content || targets.Version != 7 || len(targets.Files) != 2 {
		t.Errorf("got %q, %v of version %d with %d targets", roots, err, targets.Version, len(targets.Files))
	}
	if _, err := first.Targets(read("targets.json")); err == nil {
		t.Error("by a key of the next root metadata")
	}
}
