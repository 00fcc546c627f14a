package modbus

import (
	"errors"
	"fmt"
)

// After ErrNoAnswer and ErrDamaged the request is pending: repeating it
// unchanged continues it, anything else has to wait for QuietUntil.
var (
	// ErrNoAnswer: the device's time passed without any part of an answer.
	ErrNoAnswer = errors.New("no answer")
	// ErrDamaged: something came, but no sound answer: a bad checksum, an
	// answer cut short, noise.
	ErrDamaged = errors.New("damaged answer")
)

// Exception is a device's refusal.
type Exception struct {
	Address  byte
	Function byte // of the request
	Code     byte
}

// The exception codes of the application protocol, chapter 7, that a caller
// acts on.
const (
	IllegalFunction = 1
	IllegalAddress  = 2
	IllegalValue    = 3
	DeviceFailure   = 4
	Acknowledge     = 5
	DeviceBusy      = 6
)

var exceptionTexts = map[byte]string{
	IllegalFunction: "the device does not know this function",
	IllegalAddress:  "the device has no such register",
	IllegalValue:    "the device does not take this value",
	DeviceFailure:   "the device failed while doing it",
	Acknowledge:     "the device needs more time to do it",
	DeviceBusy:      "the device is busy",
	8:               "the device found a memory error",
	10:              "the gateway behind this address has no path",
	11:              "the device behind this gateway does not answer",
}

func (e *Exception) Error() string {
	text := exceptionTexts[e.Code]
	if text == "" {
		text = "unknown reason"
	}
	return fmt.Sprintf("device %d refused function %d: exception %d, %s", e.Address, e.Function, e.Code, text)
}

// Temporary tells whether the same request may succeed a little later.
func (e *Exception) Temporary() bool { return e.Code == Acknowledge || e.Code == DeviceBusy }
