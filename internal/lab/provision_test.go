package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// benchtop is a bench: the programs, a backend that has made its authorities, and a
// folder for everything.
type benchtop struct {
	t        *testing.T
	programs Programs
	dir      string
	env      []string // of what is run besides its own
}

func newBenchtop(t *testing.T) *benchtop {
	t.Helper()
	if testing.Short() {
		t.Skip("the programs are built in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	b := &benchtop{t: t, programs: programs, dir: t.TempDir()}
	cloud := b.serve("cloud")
	cloud.Kill()
	return b
}

// serve brings a backend up, with its state in a folder of that name.
func (b *benchtop) serve(name string) *Process {
	b.t.Helper()
	ready := b.in(name + ".ready")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	cloud, err := Start("the backend", b.in(name+".log"), b.programs.Cloud, "serve", "-state", b.in(name),
		"-auth", "127.0.0.1:0", "-endpoint", "127.0.0.1:0", "-web", "127.0.0.1:0", "-ready", ready)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cloud.Kill)
	if err := await(b.t.Context(), "the backend", cloud, func() (bool, error) {
		_, err := os.Stat(ready)
		return err == nil, err
	}); err != nil {
		b.t.Fatal(err)
	}
	return cloud
}

func (b *benchtop) in(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// result is how a program ended.
type result struct {
	out, errs string
	code      int
}

func (b *benchtop) run(program string, args ...string) result {
	b.t.Helper()
	cmd := exec.CommandContext(context.Background(), filepath.Join(filepath.Dir(b.programs.Cloud), program), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, append(os.Environ(), b.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// cloud runs penstock-cloud on the backend's state.
func (b *benchtop) cloud(args ...string) result {
	b.t.Helper()
	return b.run("penstock-cloud", append(args, "-state", b.in("cloud"))...)
}

// issue is the command that certifies.
func (b *benchtop) issue() string {
	return "'" + b.programs.Cloud + "' ca issue -state '" + b.in("cloud") + "' -"
}

// provision provisions a gateway into a folder of that name.
func (b *benchtop) provision(folder, serial string, more ...string) result {
	b.t.Helper()
	return b.run("penstock", append([]string{"provision", "-state", b.in(folder), "-serial", serial, "-model", "cim550", "-board", "lab",
		"-auth", "https://127.0.0.1:8443"}, more...)...)
}

// want checks how a program ended.
func (b *benchtop) want(r result, code int, says ...string) {
	b.t.Helper()
	ok := r.code == code
	for _, s := range says {
		ok = ok && strings.Contains(r.out+r.errs, s)
	}
	if !ok {
		b.t.Errorf("exit status %d, out %q, errors %q; want %d and %q", r.code, r.out, r.errs, code, says)
	}
}

func (b *benchtop) read(elem ...string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.in(elem...))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// code is what the QR code of a label says.
func (b *benchtop) code(serial string) string {
	b.t.Helper()
	path, err := exec.LookPath("zbarimg")
	if err != nil {
		b.t.Skip("zbarimg is not installed")
	}
	out, err := exec.CommandContext(b.t.Context(), path, "-q", "--raw", b.in("labels", serial+".png")).Output()
	if err != nil || !strings.HasPrefix(string(out), "PENSTOCK:"+serial+"/") {
		b.t.Errorf("the label of %s says %q, %v", serial, out, err)
	}
	return string(out)
}

// TestABoardIsProvisionedByOneCommandWhateverInterruptsIt lets the authority's
// command fail in every way that it has, and runs the same again.
func TestABoardIsProvisionedByOneCommandWhateverInterruptsIt(t *testing.T) {
	t.Parallel()
	b := newBenchtop(t)
	good := b.issue()
	for _, tc := range []struct{ what, command, says string }{
		{"fails", "echo 'no route to backend' >&2; exit 7", "exit status 7"},
		{"is not there", "penstock-nowhere ca issue -", "exit status 127"},
		{"is silent", "cat >/dev/null", "the answer of the authority is empty"},
		{"babbles", "echo Welcome to backend", "cannot be read"},
		{"never ends", "exec cat /dev/zero", "which is no bundle"},
		{"certifies, and its answer is lost", good + " >/dev/null; exit 255", "exit status 255"},
		{"certifies, and its answer is cut short", good + " | head -c 700", "cannot be read"},
		{"is killed", "kill -9 $$", "killed"},
	} {
		b.want(b.provision("gw", "PSK-0001", "-issue", tc.command), 1, tc.says, "PSK-0001")
		if _, err := os.Stat(b.in("gw", "identity", "cert.pem")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("a command that %s left a certificate behind", tc.what)
		}
	}
	b.want(b.provision("gw", "PSK-0001", "-issue", "exec sleep 60", "-timeout", "200ms"), 1, "gave no answer in 200ms")
	key := b.read("gw", "identity", "key.pem")
	b.want(b.provision("gw", "PSK-0001", "-issue", "exit 1", "-label", b.in("labels")), 1)
	label := b.code("PSK-0001")
	b.want(b.provision("gw", "PSK-0001", "-issue", good, "-label", b.in("labels")), 0, "PSK-0001 is provisioned", "may come in until")
	if b.read("gw", "identity", "key.pem") != key {
		t.Error("the key is another one")
	}
	if b.code("PSK-0001") != label {
		t.Error("the label is another one")
	}
	b.want(b.provision("gw", "PSK-0001", "-issue", "exit 1"), 0, "provisioned already")
	// The label was lost. What interrupts the making of a new one changes nothing, either.
	b.want(b.provision("gw", "PSK-0001", "-issue", good+" >/dev/null; exit 1", "-relabel", "-label", b.in("labels")), 1)
	second := b.code("PSK-0001")
	b.want(b.provision("gw", "PSK-0001", "-issue", good, "-label", b.in("labels")), 0, "is provisioned")
	if second == label || b.code("PSK-0001") != second {
		t.Errorf("the labels say %s, %s and %s", label, second, b.code("PSK-0001"))
	}
	if n := strings.Count(b.cloud("ca", "list").out, "PSK-0001"); n != 1 {
		t.Errorf("%d certificates of PSK-0001 are in the registry", n)
	}

	b.want(b.provision("gw", "PSK-0002", "-issue", good), 1, "holds the identity of PSK-0001", "-replace")
	b.want(b.provision("other", "PSK-0001", "-issue", good), 1, "two boards under one serial number")
	b.want(b.provision("gw", "PSK-0001", "-issue", good, "-replace"), 1, "-replaced")
	b.want(b.provision("gw", "PSK-0001", "-issue", strings.TrimSuffix(good, "-")+"-replaced 'lightning' -", "-replace"), 0, "PSK-0001 is provisioned")
	if b.read("gw", "identity", "key.pem") == key {
		t.Error("the key was not replaced")
	}
	b.want(b.provision("gw", "PSK-0001"), 2, "-issue", "-csr")
	b.want(b.run("penstock", "provision", "-issue", good), 2, "-serial")
	b.want(b.provision("gw", "psk", "-issue", good), 1, "not a serial number")
}

// TestABoardIsProvisionedInTwoStepsWithoutAConnection carries files.
func TestABoardIsProvisionedInTwoStepsWithoutAConnection(t *testing.T) {
	t.Parallel()
	b := newBenchtop(t)
	for range 2 { // each step may be run again
		b.want(b.provision("one", "PSK-0001", "-csr", b.in("one.csr")), 0)
		b.want(b.provision("two", "PSK-0002", "-csr", b.in("two.csr")), 0)
		b.want(b.cloud("ca", "issue", "-out", b.in("issued"), b.in("one.csr"), b.in("two.csr")), 0, "PSK-0001 may", "PSK-0002 may")
	}
	b.want(b.run("penstock", "provision", "-state", b.in("one"), "-install", b.in("issued", "PSK-0002.bundle")), 1, "another key")
	for range 2 {
		b.want(b.run("penstock", "provision", "-state", b.in("one"), "-install", b.in("issued", "PSK-0001.bundle")), 0)
	}
	b.want(b.provision("one", "PSK-0001", "-csr", "-"), 0, "provisioned already")
	b.want(b.cloud("ca", "issue", b.in("one.csr"), b.in("two.csr")), 2, "-out")
	b.want(b.cloud("ca", "issue", "-out", b.in("issued"), b.in("none.csr"), b.in("two.csr")), 1, "1 of 2", "none.csr")
	b.want(b.run("penstock-cloud", "ca", "list", "-state", b.in("nowhere")), 1, "there are no authorities")
	if _, err := os.Stat(b.in("nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Error("listing the authorities of an empty folder made something there")
	}
}
