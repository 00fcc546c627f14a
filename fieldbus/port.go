package fieldbus

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"go.bug.st/serial"
)

// Port is an open serial port as Line uses it: the part of go.bug.st/serial's
// port that matters here. Fakes implement the same obligations, and
// linetest.TestPort holds them to it.
type Port interface {
	// Read waits for at least one byte, at most for the read time-out, and
	// returns what is there. A time-out is (0, nil). A port whose device is gone
	// returns an error.
	Read(p []byte) (int, error)
	// Write hands p to the driver in one call. It may return before the bits
	// have left, and may take less than all of p.
	Write(p []byte) (int, error)
	// SetReadTimeout bounds the Reads that follow. Zero returns at once.
	SetReadTimeout(d time.Duration) error
	// ResetInputBuffer throws away what was received and not yet read.
	ResetInputBuffer() error
	// Drain waits until the last bit has left.
	Drain() error
	// Close gives the port back. Calls after it fail.
	Close() error
}

// Opener opens the port at a path. OpenSerial and Serial.Open are the real ones.
type Opener func(path string, mode Mode) (Port, error)

// What can be wrong with a port. Each asks for something else from the person
// who reads the message; to the program they are alike: try again later. Test
// with errors.Is.
var (
	ErrMissing    = errors.New("there is no such serial port")
	ErrBusy       = errors.New("another program is using the serial port")
	ErrPermission = errors.New("no permission to use the serial port")
	ErrNotSerial  = errors.New("not a serial port")
	ErrVanished   = errors.New("the serial port has vanished")
	ErrClosed     = errors.New("the serial port is not open")
)

// PortError says what is wrong with which port, and what to do about it.
type PortError struct {
	Path  string
	Kind  error // one of ErrMissing, ErrBusy, …
	Cause error // what the operating system said
}

// Error names the port, what is wrong, and the next step.
func (e *PortError) Error() string {
	text := fmt.Sprintf("%s: %v", e.Path, e.Kind)
	if e.Cause != nil {
		text += fmt.Sprintf(" (%v)", e.Cause)
	}
	if next := nextSteps[e.Kind]; next != "" {
		text += "; " + next
	}
	return text
}

// nextSteps is what a person does about a port.
var nextSteps = map[error]string{
	ErrMissing:    "plug the adapter in, or check the name",
	ErrBusy:       "stop the other program",
	ErrPermission: "join the group that owns it (dialout on Debian)",
	ErrVanished:   "check the adapter and its cable",
}

// Unwrap makes errors.Is find both the kind and the cause.
func (e *PortError) Unwrap() []error { return []error{e.Kind, e.Cause} }

// portError sorts an error of the operating system or of go.bug.st/serial.
// otherwise is the kind of an error that says nothing more precise.
func portError(path string, err, otherwise error) error {
	kind := otherwise
	var coded *serial.PortError
	switch {
	case errors.As(err, &coded):
		switch coded.Code() {
		case serial.PortBusy:
			kind = ErrBusy
		case serial.PermissionDenied:
			kind = ErrPermission
		case serial.PortNotFound:
			kind = ErrMissing
		case serial.InvalidSerialPort:
			kind = ErrNotSerial
		case serial.PortClosed:
			kind = ErrVanished
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		kind = ErrMissing
	case errors.Is(err, syscall.EBUSY):
		kind = ErrBusy
	case errors.Is(err, fs.ErrPermission):
		kind = ErrPermission
	case errors.Is(err, syscall.ENOTTY):
		kind = ErrNotSerial
	}
	return &PortError{Path: path, Kind: kind, Cause: err}
}
