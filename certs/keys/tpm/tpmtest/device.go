package tpmtest

import (
	"encoding/binary"
	"io"
	"os"
	"sync/atomic"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Device is a character device that leads to a TPM: a terminal without any
// processing, and somebody behind it who carries commands and responses. It stays
// where it is when the TPM is off or broken; then every command fails, as it does
// with a TPM in failure mode.
type Device struct {
	Name string // its path

	tpm    *TPM
	broken atomic.Bool
}

// Device makes a device file for p.
func (p *TPM) Device(t testing.TB) *Device {
	t.Helper()
	far, near, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	fd := int(near.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	d := &Device{Name: near.Name(), tpm: p}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.carry(far)
	}()
	t.Cleanup(func() {
		near.Close() // until here: a terminal that nobody has open hangs up
		<-done
		far.Close()
	})
	return d
}

// Break has every command fail from now on, or no longer.
func (d *Device) Break(yes bool) { d.broken.Store(yes) }

// failure is TPM_RC_FAILURE.
var failure = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01}

func (d *Device) carry(far *os.File) {
	for {
		command := make([]byte, 6, 4096)
		if _, err := io.ReadFull(far, command); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(command[2:])
		if size < 6 || size > 4096 {
			return
		}
		command = command[:size]
		if _, err := io.ReadFull(far, command[6:]); err != nil {
			return
		}
		response, err := d.exchange(command)
		if err != nil {
			response = failure
		}
		if _, err := far.Write(response); err != nil {
			return
		}
	}
}

func (d *Device) exchange(command []byte) ([]byte, error) {
	if d.broken.Load() {
		return failure, nil
	}
	c, err := d.tpm.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, 4096)
	n, err := c.Read(response)
	return response[:n], err
}
