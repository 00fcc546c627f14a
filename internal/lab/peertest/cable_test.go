package peertest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// cable joins two serial ports: what is written to one is read from the other.
func cable(t *testing.T) (one, other string) {
	t.Helper()
	var far, near [2]*os.File
	for i := range far {
		var err error
		if far[i], near[i], err = pty.Open(); err != nil {
			t.Fatal(err)
		}
		raw(t, near[i])
	}
	var ends sync.WaitGroup
	for i := range far {
		ends.Go(func() {
			// Ends with an error when the far ends are closed.
			_, _ = io.Copy(far[1-i], far[i])
		})
	}
	t.Cleanup(func() {
		for i := range far {
			near[i].Close()
			far[i].Close()
		}
		ends.Wait()
	})
	return near[0].Name(), near[1].Name()
}

// raw takes echo and line discipline off, before anybody has opened the port.
func raw(t *testing.T, f *os.File) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

// need skips a test whose tools are missing, or fails it where nothing may be
// missing.
func need(t *testing.T, debian string, present func() error) {
	t.Helper()
	err := present()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("install the Debian package %s: %v", debian, err)
	}
	t.Skipf("install the Debian package %s: %v", debian, err)
}

func program(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

// compile builds a program of testdata against libmodbus.
func compile(t *testing.T, name string) string {
	t.Helper()
	need(t, "gcc", program("cc"))
	need(t, "libmodbus-dev", func() error {
		_, err := os.Stat("/usr/include/modbus/modbus.h")
		return err
	})
	out := filepath.Join(t.TempDir(), name)
	c := exec.Command("cc", "-O1", "-Wall", "-I/usr/include/modbus", "-o", out, filepath.Join("testdata", name+".c"), "-lmodbus")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, text)
	}
	return out
}

// start runs a slave until the test ends, and returns once it is ready.
func start(t *testing.T, argv ...string) {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its standard input
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %v", argv, err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v said %q: %v", argv, line, err)
	}
}
