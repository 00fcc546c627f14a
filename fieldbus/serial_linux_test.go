package fieldbus

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

func nearEnd(t *testing.T) string {
	t.Helper()
	far, near, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	return near.Name()
}

func TestSecondProgramFindsThePortBusy(t *testing.T) {
	path := nearEnd(t)
	first, err := OpenSerial(path, Default)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSerial(path, Default); !errors.Is(err, ErrBusy) {
		t.Fatalf("opening an open port: %v; want ErrBusy", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenSerial(path, Default)
	if err != nil {
		t.Fatalf("opening a closed port again: %v", err)
	}
	again.Close()
}

func TestPortIsSetToItsMode(t *testing.T) {
	path := nearEnd(t)
	for mode, flags := range map[Mode]uint32{
		{9600, EvenParity, 1}: unix.B9600 | unix.CS8 | unix.PARENB,
		{38400, OddParity, 1}: unix.B38400 | unix.CS8 | unix.PARENB | unix.PARODD,
		{115200, NoParity, 2}: unix.B115200 | unix.CS8 | unix.CSTOPB,
	} {
		p, err := OpenSerial(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unix.IoctlGetTermios(p.(*serialPort).second, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		// A pseudo-terminal keeps no parity; it is checked on the port in memory.
		const kept = unix.CBAUD | unix.CSIZE | unix.CSTOPB
		if got.Cflag&kept != flags&kept {
			t.Errorf("%v: c_cflag is %#o; want %#o", mode, got.Cflag&kept, flags&kept)
		}
		p.Close()
	}
}

func TestDriverWithoutDirectionControlIsReportedAndUsed(t *testing.T) {
	p, err := Serial{RS485: &RS485{}}.Open(nearEnd(t), Default)
	if err != nil {
		t.Fatalf("a port without direction control could not be opened: %v", err)
	}
	defer p.Close()
	if r := remarksOf(p); len(r) != 1 || !strings.Contains(r[0], "ENOTTY") {
		t.Errorf("remarks: %q; want one that names ENOTTY", r)
	}
}

func TestDirectionControlIsReadBack(t *testing.T) {
	want := &RS485{Before: time.Millisecond, After: 2 * time.Millisecond}
	for name, c := range map[string]struct {
		driver func(*serialRS485)
		remark string
	}{
		"obeys":            {func(*serialRS485) {}, ""},
		"caps the delays":  {func(k *serialRS485) { k.after = 1 }, "delays"},
		"inverts the pin":  {func(k *serialRS485) { k.flags ^= rs485OnSend | rs485AfterSend }, "flags"},
		"leaves it off":    {func(k *serialRS485) { k.flags &^= rs485Enabled }, "off"},
		"adds termination": {func(k *serialRS485) { k.flags |= 1 << 5 }, ""},
	} {
		var held serialRS485
		remark := want.set(func(request uint, arg *serialRS485) error {
			if request == unix.TIOCSRS485 {
				held = *arg
				c.driver(&held)
			} else {
				*arg = held
			}
			return nil
		})
		if (c.remark == "") != (remark == "") || !strings.Contains(remark, c.remark) {
			t.Errorf("a driver that %s: remark %q; want %q in it", name, remark, c.remark)
		}
	}
}

func TestLatencyTimerOfAnFTDIAdapterIsSetToOneMillisecond(t *testing.T) {
	path, sys := nearEnd(t), t.TempDir()
	dir := filepath.Join(sys, "bus/usb-serial/devices", filepath.Base(path))
	timer := filepath.Join(dir, "latency_timer")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(timer, []byte("16\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "usb-FTDI-port0") // as in /dev/serial/by-id
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	p, err := Serial{Sysfs: sys}.Open(link, Default)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got, _ := os.ReadFile(timer); !strings.HasPrefix(string(got), "1") || strings.HasPrefix(string(got), "16") {
		t.Errorf("the latency timer is %q; want 1", got)
	}
	if r := remarksOf(p); len(r) != 0 {
		t.Errorf("remarks: %q", r)
	}
}

func TestLatencyTimerThatCannotBeSetIsReportedAndThePortUsed(t *testing.T) {
	path := nearEnd(t)
	p, err := Serial{FS: lockedTimer{disk.OS}, Sysfs: "/sys"}.Open(path, Default)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if r := remarksOf(p); len(r) != 1 || !strings.Contains(r[0], "latency_timer") {
		t.Errorf("remarks: %q; want one that names latency_timer", r)
	}
}

// lockedTimer is a file system whose files read "16" and cannot be written.
type lockedTimer struct{ disk.FS }

func (lockedTimer) OpenFile(name string, flag int, _ os.FileMode) (disk.File, error) {
	if flag != os.O_RDONLY {
		return nil, os.ErrPermission
	}
	return sixteen{}, nil
}

type sixteen struct{ disk.File }

func (sixteen) Read(b []byte) (int, error) { return copy(b, "16\n"), nil }
func (sixteen) Close() error               { return nil }

// A transceiver must be turned round after the last bit of a frame and before
// the first of the answer.
func TestPinTurnsTheTransceiverAfterTheLastBit(t *testing.T) {
	now := time.Unix(0, 0)
	var turns []gpio.Level
	var at []time.Time
	pin := pinFunc(func(l gpio.Level) error {
		turns, at = append(turns, l), append(at, now)
		return nil
	})
	below := &slowDrain{now: &now}
	p, err := newDirected(below, Default, pin, clockFunc{clock.System, func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 8)
	began := now
	if n, err := p.Write(frame); n != 8 || err != nil {
		t.Fatal(n, err)
	}
	if len(turns) != 3 || turns[0] != gpio.Low || turns[1] != gpio.High || turns[2] != gpio.Low {
		t.Fatalf("the pin went %v; want low, high, low", turns)
	}
	after := at[2].Sub(began)
	if least, most := Default.Wire(8), Default.Wire(10); after < least || after > most {
		t.Errorf("turned %v after the frame began; its bits take %v", after, least)
	}
	var b [8]byte
	if n, _ := p.Read(b[:]); n != 1 || b[0] != 0x5A {
		t.Errorf("what came while the frame left is lost: % x", b[:n])
	}
}

type pinFunc func(gpio.Level) error

func (f pinFunc) Out(l gpio.Level) error { return f(l) }

type clockFunc struct {
	clock.Clock
	now func() time.Time
}

func (c clockFunc) Now() time.Time { return c.now() }

// slowDrain is a port whose driver says that it is empty when its FIFO has taken
// the frame, and hands over one byte meanwhile.
type slowDrain struct {
	Port
	now  *time.Time
	wait time.Duration
	said bool
}

func (s *slowDrain) Write(b []byte) (int, error)          { return len(b), nil }
func (s *slowDrain) Drain() error                         { *s.now = s.now.Add(time.Millisecond); return nil }
func (s *slowDrain) SetReadTimeout(d time.Duration) error { s.wait = d; return nil }
func (s *slowDrain) Read(b []byte) (int, error) {
	if !s.said {
		s.said = true
		*s.now = s.now.Add(s.wait / 2)
		b[0] = 0x5A
		return 1, nil
	}
	*s.now = s.now.Add(s.wait)
	return 0, nil
}
