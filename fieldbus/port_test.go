package fieldbus_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/internal/clock"
)

func TestPortInMemoryKeepsThePortsObligations(t *testing.T) {
	linetest.TestPort(t, func(t *testing.T) linetest.FarEnd {
		clk := linetest.NewClock()
		p := linetest.NewPort(clk)
		var got []byte
		p.OnWrite = func(b []byte, _ time.Time) { got = append(got, b...) }
		port, err := p.Open("fake", fieldbus.Default)
		if err != nil {
			t.Fatal(err)
		}
		return linetest.FarEnd{
			Clock:    clk,
			Port:     port,
			Send:     func(b []byte) { p.Deliver(clk.Now(), b...) },
			Received: func(n int) []byte { return got },
			Vanish:   p.Vanish,
			Settle:   func([]byte) {},
		}
	})
}

func TestSerialPortKeepsThePortsObligations(t *testing.T) {
	linetest.TestPort(t, func(t *testing.T) linetest.FarEnd {
		far, near := openPty(t)
		port, err := fieldbus.OpenSerial(near, fieldbus.Default)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { port.Close() })
		return linetest.FarEnd{
			Clock: clock.System,
			Port:  port,
			Send: func(b []byte) {
				if _, err := far.Write(b); err != nil {
					t.Fatal(err)
				}
			},
			Received: func(n int) []byte {
				got := make([]byte, n)
				for i := 0; i < n; {
					k, err := far.Read(got[i:])
					if err != nil {
						t.Fatal(err)
					}
					i += k
				}
				return got
			},
			Vanish: func() { far.Close() },
			Settle: func(b []byte) { waitForInput(t, near, len(b)) },
		}
	})
}

// openPty returns the far end of a pseudo-terminal and the name of the near one.
func openPty(t *testing.T) (*os.File, string) {
	t.Helper()
	far, near, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	return far, near.Name()
}

// waitForInput waits until n bytes can be read from a terminal. The kernel
// passes bytes through a pseudo-terminal in a worker of its own.
func waitForInput(t *testing.T, name string, n int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		have, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if have >= n {
			return
		}
		<-tick.C
	}
	t.Fatalf("%d bytes did not arrive at %s", n, name)
}

func TestOpenSaysWhatIsWrongWithThePort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(t.TempDir(), "ttyUSB0"), fieldbus.ErrMissing},
		{file, fieldbus.ErrNotSerial},
		{"/dev/null", fieldbus.ErrNotSerial},
	} {
		_, err := fieldbus.OpenSerial(c.path, fieldbus.Default)
		if !errors.Is(err, c.want) {
			t.Errorf("opening %s: %v; want %v", c.path, err, c.want)
		}
		var p *fieldbus.PortError
		if !errors.As(err, &p) || p.Path != c.path {
			t.Errorf("opening %s: %v does not name the port", c.path, err)
		}
	}
}

func TestOpenRefusesAnImpossibleMode(t *testing.T) {
	_, near := openPty(t)
	if _, err := fieldbus.OpenSerial(near, fieldbus.Mode{Baud: 19200, Parity: 'X', StopBits: 1}); err == nil {
		t.Error("parity X was accepted")
	}
}
