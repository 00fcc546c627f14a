package lab

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// imageOf makes a disk image with a real file system in it.
func (b *benchtop) imageOf(name string) string {
	b.t.Helper()
	const mke2fs = "/usr/sbin/mke2fs"
	if _, err := os.Stat(mke2fs); err != nil {
		b.t.Skip("mke2fs is not installed")
	}
	file := b.in(name)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		b.t.Fatal(err)
	}
	if out, err := exec.CommandContext(b.t.Context(), mke2fs, "-q", "-F", "-t", "ext4", file).CombinedOutput(); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// inside reads a file of an image.
func (b *benchtop) inside(image, name string) string {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "/usr/sbin/debugfs", "-R", "cat /var/lib/penstock/identity/"+name, image).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

// TestAKeyIsMadeInsideAnImageAndIsNowhereElse provisions an image, interrupted and
// again, and looks for the key in all its forms in the image and wherever the programs
// could have left it.
func TestAKeyIsMadeInsideAnImageAndIsNowhereElse(t *testing.T) {
	t.Parallel()
	b := newBenchtop(t)
	image := b.imageOf("board.img")
	temporary := b.in("tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = []string{"TMPDIR=" + temporary, "HOME=" + temporary}
	at := func(more ...string) result {
		t.Helper()
		return b.run("penstock", append([]string{"provision", "-image", image, "-serial", "PSK-0001", "-model", "cim550", "-board", "rpi",
			"-auth", "https://127.0.0.1:8443", "-label", b.in("labels")}, more...)...)
	}
	b.want(at("-issue", b.issue()+" >/dev/null; exit 1"), 1, "run the same again")
	key, label := b.inside(image, "key.pem"), b.code("PSK-0001")
	b.want(at("-issue", b.issue()), 0, "PSK-0001 is provisioned")
	if b.inside(image, "key.pem") != key || b.code("PSK-0001") != label {
		t.Error("the second run made another key or label")
	}
	b.want(at("-issue", "exit 1"), 0, "provisioned already")
	if !strings.Contains(b.inside(image, "cert.pem"), "BEGIN CERTIFICATE") {
		t.Error("there is no certificate in the image")
	}
	_, code, _ := strings.Cut(strings.TrimSpace(label), "/")

	block, _ := pem.Decode([]byte(key))
	if block == nil {
		t.Fatalf("the key is %q", key)
	}
	body := base64.StdEncoding.EncodeToString(block.Bytes)
	forms := map[string][]byte{"DER": block.Bytes, "half of its DER": block.Bytes[len(block.Bytes)/2:], "PEM": []byte(body[64:120]), "the claim code": []byte(code)}
	seen := map[string]int{}
	err := filepath.WalkDir(b.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		for form, text := range forms {
			if n := bytes.Count(content, text); n > 0 {
				seen[form+" in "+strings.TrimPrefix(name, b.dir+"/")] = n
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(seen, "the claim code in labels/PSK-0001.svg") // where it belongs; half of it, at least
	if len(seen) != 1 || seen["PEM in board.img"] != 1 {
		t.Errorf("the key is in %v", seen)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the programs left %v, %v", left, err)
	}
	if out, err := exec.CommandContext(t.Context(), "/usr/sbin/e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// A key that is replaced is overwritten.
	b.want(at("-issue", strings.TrimSuffix(b.issue(), "-")+"-replaced 'the image got about' -", "-replace"), 0, "PSK-0001 is provisioned")
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range forms {
		if bytes.Contains(content, text) {
			t.Errorf("%s of the old key is still in the image", form)
		}
	}
	b.want(at("-issue", b.issue(), "-keys", "tpm"), 2, "-keys tpm")
	b.want(at("-issue", b.issue(), "-state", "data"), 2, "begins with /")
	b.want(at("-issue", b.issue(), "-partition", "2"), 1, "no partition 2")
	if err := os.WriteFile(image, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.want(at("-issue", b.issue()), 1, "board.img", "too small")
}

// TestProvisioningAnImageIsKilledAtAnyMoment kills the provisioning of an
// image at many moments: a certificate that the authority has issued is for a key
// that is in the image, unless the image says that it is damaged.
func TestProvisioningAnImageIsKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	b := newBenchtop(t)
	for n := range 12 {
		serial := fmt.Sprintf("PSK-%04d", n)
		image := b.imageOf(serial + ".img")
		argv := []string{"provision", "-image", image, "-serial", serial, "-model", "cim550", "-board", "rpi", "-auth", "https://127.0.0.1:8443", "-issue", b.issue()}
		cmd := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(b.programs.Cloud), "penstock"), argv...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Moments, not times: when so many of its children have come and gone.
		children := 0
		for last := ""; children < n+1; {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
			if err != nil {
				break
			}
			if now := strings.TrimSpace(string(text)); now != last && now != "" {
				children++
				last = now
			}
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); err != nil || strings.Contains(string(state), ") Z ") {
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		again := func() result { return b.run("penstock", argv...) }
		r := again()
		if r.code != 0 && strings.Contains(r.errs, "another process is at work") { // debugfs of the killed run still has it open
			if err := await(t.Context(), "the killed run's debugfs", nil, func() (bool, error) {
				r = again()
				return !strings.Contains(r.errs, "another process is at work"), nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if r.code != 0 && strings.Contains(r.errs, "take a fresh image") {
			t.Logf("%s: the image was damaged, and says so", serial)
			continue
		}
		b.want(r, 0)
		if !strings.Contains(b.inside(image, "cert.pem"), "BEGIN CERTIFICATE") {
			t.Errorf("%s: there is no certificate", serial)
		}
	}
}

// TestFiftyBoardsAreProvisionedByAManifest takes state folders, which are quick, and
// two images.
func TestFiftyBoardsAreProvisionedByAManifest(t *testing.T) {
	t.Parallel()
	b := newBenchtop(t)
	b.imageOf("a.img")
	b.imageOf("b.img")
	var lines strings.Builder
	lines.WriteString("serial,state,image\nIMG-0001,,a.img\nIMG-0002,,b.img\n")
	const boards = 50
	for n := 2; n < boards; n++ {
		fmt.Fprintf(&lines, "PSK-%04d,boards/%d,\n", n, n)
	}
	manifest := b.in("boards.csv")
	if err := os.WriteFile(manifest, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	batch := func(more ...string) result {
		t.Helper()
		return b.run("penstock", append([]string{"provision", "-batch", manifest, "-model", "cim280", "-board", "rpi", "-auth", "https://127.0.0.1:8443"}, more...)...)
	}
	// The authority refuses from the eleventh on: what is done is done.
	counted := fmt.Sprintf(`n=$(cat %[1]q 2>/dev/null || echo 0); echo $((n+1)) >%[1]q; [ "$n" -lt 10 ] || exit 1; %[2]s`, b.in("count"), b.issue())
	b.want(batch("-issue", counted, "-label", b.in("labels")), 1, "10 of 50 done, 0 skipped, 40 failed", "run the same again")
	b.want(batch("-issue", "exec sleep 60", "-timeout", "100ms"), 1, "PSK-0002: skipped", "39 were not tried")
	b.want(batch("-issue", b.issue(), "-label", b.in("labels")), 0, "40 of 50 done, 10 skipped, 0 failed", "IMG-0001: skipped, it is provisioned already", "PSK-0049: done")
	b.want(batch("-issue", "exit 1", "-label", b.in("labels")), 0, "0 of 50 done, 50 skipped, 0 failed")
	list := b.cloud("ca", "list").out
	for n := 2; n < boards; n++ {
		if c := strings.Count(list, fmt.Sprintf("PSK-%04d", n)); c != 1 {
			t.Errorf("PSK-%04d has %d certificates", n, c)
		}
	}
	labels, err := os.ReadDir(b.in("labels"))
	if err != nil || len(labels) != 2*boards {
		t.Errorf("%d labels, %v", len(labels), err)
	}
	b.code("PSK-0049")

	// In two steps, by files.
	if err := os.WriteFile(manifest, []byte("serial,state\nTWO-0001,two/1\nTWO-0002,two/2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.want(batch("-csr", b.in("records")), 0, "2 of 2 done")
	b.want(b.cloud("ca", "issue", "-out", b.in("issued"), b.in("records", "TWO-0001.csr"), b.in("records", "TWO-0002.csr")), 0)
	b.want(batch("-install", b.in("issued")), 0, "2 of 2 done")
	b.want(batch("-csr", b.in("records")), 0, "2 skipped")

	b.want(batch("-issue", b.issue(), "-replace"), 2, "-replace and -relabel are for one gateway")
	if err := os.WriteFile(manifest, []byte("serial,state\nTWO-0001,two/1\nTWO-0001,two/2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.want(batch("-issue", b.issue()), 2, "boards.csv:3: serial: TWO-0001 is in line 2 already")
}
