package fieldbus

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// RS485 is the direction control of a UART driver: RTS turns the transceiver
// round, and the kernel, which alone knows when the last bit has left, moves it.
type RS485 struct {
	SendLow       bool          // RTS is low while sending, not high
	Before, After time.Duration // between turning and data, and data and turning, in whole milliseconds
	HearOurselves bool          // the receiver stays on while sending
}

// serialRS485 is struct serial_rs485 of linux/serial.h.
type serialRS485 struct {
	flags         uint32
	before, after uint32 // milliseconds
	_             [5]uint32
}

const (
	rs485Enabled   = 1 << 0
	rs485OnSend    = 1 << 1
	rs485AfterSend = 1 << 2
	rs485RxDuring  = 1 << 4
)

func (r *RS485) kernel() serialRS485 {
	k := serialRS485{
		flags:  rs485Enabled | rs485OnSend,
		before: uint32(r.Before / time.Millisecond),
		after:  uint32(r.After / time.Millisecond),
	}
	if r.SendLow {
		k.flags = rs485Enabled | rs485AfterSend
	}
	if r.HearOurselves {
		k.flags |= rs485RxDuring
	}
	return k
}

// set asks the driver for the direction control and reads back what it made of
// it: drivers change what they cannot do without saying so. It returns a remark
// when the result is another than asked for.
func (r *RS485) set(ioctl func(request uint, arg *serialRS485) error) string {
	want := r.kernel()
	given := want
	if err := ioctl(unix.TIOCSRS485, &given); errors.Is(err, unix.ENOTTY) {
		return "the driver has no RS-485 direction control (ENOTTY): the adapter has to turn round by itself, or by a GPIO pin"
	} else if err != nil {
		return fmt.Sprintf("the driver refuses RS-485 direction control (%v): the adapter has to turn round by itself, or by a GPIO pin", err)
	}
	var got serialRS485
	if err := ioctl(unix.TIOCGRS485, &got); err != nil {
		return fmt.Sprintf("the driver does not tell its RS-485 settings (%v)", err)
	}
	const matter = rs485Enabled | rs485OnSend | rs485AfterSend | rs485RxDuring
	switch {
	case got.flags&rs485Enabled == 0:
		return "the driver took the RS-485 settings and left direction control off"
	case got.flags&matter != want.flags:
		return fmt.Sprintf("the driver changed the RS-485 flags from %#x to %#x", want.flags, got.flags&matter)
	case got.before != want.before || got.after != want.after:
		return fmt.Sprintf("the driver changed the RS-485 delays from %d and %d ms to %d and %d ms",
			want.before, want.after, got.before, got.after)
	}
	return ""
}
