package tpm_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"penstock/certs/keys"
	"penstock/certs/keys/keystest"
	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/internal/clock"
)

// TestADevice talks to a TPM by a device file: a terminal without any processing,
// with a TPM at its other end.
func TestADevice(t *testing.T) {
	tpmtest.Needs(t, "swtpm", "swtpm")
	far, near, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	defer near.Close() // open all the time: a terminal that nobody has open hangs up
	fd := int(near.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("swtpm", "chardev", "--fd", "3", "--tpm2", "--tpmstate", "dir="+t.TempDir(), "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{far}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	next := func() keys.Store { return tpm.New(tpm.Device(near.Name()), clock.System) }
	keystest.Conformance(t, next(), next)
}
