package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"penstock/internal/clock"
)

// DefaultDevice is the kernel's resource manager (Linux 4.12 and later), which
// there is for a TPM 2.0 and not for a 1.2. The bare device, /dev/tpm0, is no
// substitute: one program at a time, and whoever dies leaves his keys in the way.
const DefaultDevice = "/dev/tpmrm0"

// Device opens a TPM's device file.
func Device(path string) func() (io.ReadWriteCloser, error) {
	return func() (io.ReadWriteCloser, error) {
		for {
			// Not os.OpenFile, which opens it without waiting: then the kernel answers
			// a read with nothing at all while the TPM is still at work.
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
				return nil, fmt.Errorf("there is no TPM 2.0: %w", &fs.PathError{Op: "open", Path: path, Err: err})
			case err != nil:
				return nil, fmt.Errorf("the TPM: %w", &fs.PathError{Op: "open", Path: path, Err: err})
			}
			return os.NewFile(uintptr(fd), path), nil
		}
	}
}

// maxResponse is more than any response of the commands that are used here; the
// kernel's own buffer is of that size.
const maxResponse = 4096

// headerSize is the size of a response's header: tag, size, code.
const headerSize = 10

// again are the codes by which a TPM asks to have a command sent once more, as it
// is (part 2, 6.6.3).
var again = []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate}

// conn is the TPM during a turn. It is a transport.TPM.
type conn struct {
	ctx   context.Context // of the turn
	rw    io.ReadWriter
	clock clock.Clock
}

// Send implements transport.TPM.
func (c conn) Send(command []byte) ([]byte, error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		response, code, err := c.exchange(command)
		if err != nil || !slices.Contains(again, code) {
			return response, err
		}
		if err := c.clock.Sleep(c.ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (c conn) exchange(command []byte) ([]byte, tpm2.TPMRC, error) {
	if _, err := c.rw.Write(command); err != nil {
		return nil, 0, fmt.Errorf("the TPM: %w", err)
	}
	// In one piece where possible: older kernels forget what was not read at once.
	response := make([]byte, maxResponse)
	n, err := io.ReadAtLeast(c.rw, response, headerSize)
	if err != nil {
		return nil, 0, fmt.Errorf("the TPM broke off its answer: %w", err)
	}
	size := int(binary.BigEndian.Uint32(response[2:]))
	if size < max(n, headerSize) || size > maxResponse {
		return nil, 0, fmt.Errorf("the TPM says that its answer has %d bytes, and there are %d", size, n)
	}
	if _, err := io.ReadFull(c.rw, response[n:size]); err != nil {
		return nil, 0, fmt.Errorf("the TPM broke off its answer: %w", err)
	}
	return response[:size], tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])), nil
}
