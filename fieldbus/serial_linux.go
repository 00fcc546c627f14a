package fieldbus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// Serial says how serial ports of this machine are opened. The zero value suits
// a USB adapter, and a UART whose device tree enables RS-485.
type Serial struct {
	// RS485 sets the direction control of the driver; nil leaves it as it is.
	RS485 *RS485

	// Direction is the pin that turns the transceiver round where the driver
	// cannot; Clock is needed with it. It is high while sending.
	Direction Pin
	Clock     clock.Clock

	// FS and Sysfs are where the kernel's device files are; nil and "" are
	// this machine's /sys.
	FS    disk.FS
	Sysfs string
}

// OpenSerial opens a serial port of this machine as it is set up.
func OpenSerial(path string, mode Mode) (Port, error) { return Serial{}.Open(path, mode) }

// serialPort is an open port, and a second descriptor of the same terminal.
// go.bug.st/serial keeps its own to itself, and after opening takes the
// terminal exclusively; so the second one is opened first, and kept.
type serialPort struct {
	serial.Port
	second  int
	remarks []string
	timeout time.Duration // of Read
	set     time.Duration // the time-out that Port has
}

// SetReadTimeout bounds the Reads that follow.
func (p *serialPort) SetReadTimeout(d time.Duration) error {
	p.timeout = d
	return nil
}

// Read waits for bytes for a short while by itself, which is cheaper, and leaves
// what is left of a longer wait, and every error, to the library.
func (p *serialPort) Read(b []byte) (int, error) {
	wait, began := p.timeout, monotonic()
	if wait == 0 || readable(p.second, wait) {
		n, err := unix.Read(p.second, b)
		if n > 0 {
			return n, nil
		}
		if wait = 0; errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return 0, nil
		}
	} else if wait -= monotonic() - began; wait <= 0 {
		return 0, nil
	}
	if p.set != wait {
		if err := p.Port.SetReadTimeout(wait); err != nil {
			return 0, err
		}
		p.set = wait
	}
	return p.Port.Read(b)
}

// Open opens the port at path. A byte with a wrong parity bit is delivered as
// zero (INPCK without PARMRK, see termios(3)), so that a parity error shows as a
// bad checksum one layer up.
func (s Serial) Open(path string, mode Mode) (Port, error) {
	if err := mode.Validate(); err != nil {
		return nil, err
	}
	second, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, portError(path, err, ErrMissing)
	}
	p := &serialPort{second: second, set: serial.NoTimeout}
	// TIOCEXCL does not keep root out, nor a program that came before it. The
	// lock does, for every program that asks for it.
	if err := unix.Flock(second, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		unix.Close(second)
		return nil, portError(path, unix.EBUSY, ErrBusy)
	}
	if s.RS485 != nil {
		p.remark(s.RS485.set(func(request uint, arg *serialRS485) error {
			return ioctl(second, request, unsafe.Pointer(arg))
		}))
	}
	p.remark(s.lowLatency(path, second))
	if p.Port, err = serial.Open(path, serialMode(mode)); err != nil {
		unix.Close(second)
		return nil, portError(path, err, ErrMissing)
	}
	if s.Direction == nil {
		return p, nil
	}
	return newDirected(p, mode, s.Direction, s.Clock)
}

func (p *serialPort) remark(text string) {
	if text != "" {
		p.remarks = append(p.remarks, text)
	}
}

// Remarks are things about the port that a technician should know.
func (p *serialPort) Remarks() []string { return p.remarks }

// Close gives the port and the lock back.
func (p *serialPort) Close() error {
	return errors.Join(p.Port.Close(), unix.Close(p.second))
}

func serialMode(m Mode) *serial.Mode {
	out := &serial.Mode{BaudRate: m.Baud, DataBits: 8}
	switch m.Parity {
	case EvenParity:
		out.Parity = serial.EvenParity
	case OddParity:
		out.Parity = serial.OddParity
	}
	if m.StopBits == 2 {
		out.StopBits = serial.TwoStopBits
	}
	return out
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// lowLatency makes a USB adapter hand over bytes at once. FTDI's hold them for
// 16 ms, longer than most frames. The timer is a file that root may write; the
// driver's low-latency flag does the same for everybody. It returns a remark
// when neither helped.
func (s Serial) lowLatency(path string, fd int) string {
	fsys, sys := s.FS, s.Sysfs
	if fsys == nil {
		fsys = disk.OS
	}
	if sys == "" {
		sys = "/sys"
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // /dev/serial/by-id/… and the like
	}
	timer := filepath.Join(sys, "bus/usb-serial/devices", filepath.Base(path), "latency_timer")
	if held, err := readText(fsys, timer); err != nil || held == "1" {
		return "" // no such timer, or short already
	}
	err := writeText(fsys, timer, "1")
	if err == nil {
		return ""
	}
	if setLowLatency(fd) == nil {
		if held, _ := readText(fsys, timer); held == "1" {
			return ""
		}
	}
	return fmt.Sprintf("the adapter holds bytes back, which slows every answer: write 1 to %s as root (%v)", timer, err)
}

// setLowLatency sets ASYNC_LOW_LATENCY, bit 13 of the fifth int of struct
// serial_struct (linux/serial.h).
func setLowLatency(fd int) error {
	const asyncLowLatency = 1 << 13
	var info [32]int32 // longer than the struct on any machine
	if err := ioctl(fd, unix.TIOCGSERIAL, unsafe.Pointer(&info)); err != nil {
		return err
	}
	info[4] |= asyncLowLatency
	return ioctl(fd, unix.TIOCSSERIAL, unsafe.Pointer(&info))
}

func readText(fsys disk.FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [16]byte
	n, err := f.Read(b[:])
	return strings.TrimSpace(string(b[:n])), err
}

func writeText(fsys disk.FS, name, text string) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Close())
}
