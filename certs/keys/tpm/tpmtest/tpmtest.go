// Package tpmtest runs TPMs for tests: each is swtpm, a whole TPM 2.0 in software,
// on a socket in a folder of its own. It can be rebooted, killed and made to hang.
package tpmtest

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TPM is one TPM.
type TPM struct {
	dir string
	t   testing.TB

	mu  sync.Mutex
	cmd *exec.Cmd // the process, nil when the TPM is off; guarded by mu
}

// New makes a TPM and switches it on. The test is skipped when swtpm is missing,
// and fails then where CI is set.
func New(t testing.TB) *TPM {
	t.Helper()
	Needs(t, "swtpm", "swtpm")
	dir, err := os.MkdirTemp("", "tpm") // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &TPM{dir: dir, t: t}
	t.Cleanup(func() { p.Off(); os.RemoveAll(dir) })
	p.On()
	return p
}

// Needs looks for a program of that Debian package.
func Needs(t testing.TB, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing, and CI is set", program)
		}
		t.Skipf("%s is missing (Debian: %s)", program, debian)
	}
}

func (p *TPM) socket() string { return filepath.Join(p.dir, "tpm") }

// On switches it on, with what it stored when it was off.
func (p *TPM) On() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	// The sockets stand before the TPM runs: whoever connects at once waits for it.
	commands, control := p.listen(p.socket()), p.listen(p.socket()+".ctrl")
	defer commands.Close()
	defer control.Close()
	p.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+p.dir, "--server", "type=unixio,fd=3",
		"--ctrl", "type=unixio,fd=4", "--flags", "not-need-init,startup-clear")
	p.cmd.ExtraFiles = []*os.File{commands, control}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// listen makes a socket for another process to take connections from.
func (p *TPM) listen(name string) *os.File {
	p.t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		p.t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	defer func() { _ = ln.Close() }()
	f, err := ln.File()
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// Off switches it off, as a power cut does.
func (p *TPM) Off() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
	os.Remove(p.socket())
	os.Remove(p.socket() + ".ctrl")
}

// Hang makes it stop in whatever it does, until Go.
func (p *TPM) Hang() { p.signal(syscall.SIGSTOP) }

// Go ends Hang.
func (p *TPM) Go() { p.signal(syscall.SIGCONT) }

func (p *TPM) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// Open connects to it. It is off: fs.ErrNotExist, as of a device that is not there.
func (p *TPM) Open() (io.ReadWriteCloser, error) { return Dial(p.socket()) }

// Dial connects to a TPM's socket. One that is busy is waited for.
func Dial(socket string) (io.ReadWriteCloser, error) {
	for {
		c, err := net.DialTimeout("unix", socket, time.Minute)
		if errors.Is(err, syscall.EAGAIN) { // as many wait as may
			continue
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// TCTI is what the programs of tpm2-tss call it.
func (p *TPM) TCTI() string { return "swtpm:path=" + p.socket() }
