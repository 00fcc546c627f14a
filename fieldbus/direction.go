package fieldbus

import (
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/gpio"

	"penstock/internal/clock"
)

// Pin is an output; every gpio.PinOut is one.
type Pin interface {
	Out(gpio.Level) error
}

// directed turns a transceiver round by a pin, for boards whose driver cannot.
// A program does not know when the last bit has left: it asks the driver to say
// when its queue is empty, and then waits out the time that the frame must have
// taken, and one character more. A device that answers sooner is cut off.
type directed struct {
	Port
	mode  Mode
	pin   Pin
	clk   clock.Clock
	wait  time.Duration // the read time-out that was asked for
	early [64]byte      // what came while the frame was leaving
	n     int
}

func newDirected(p Port, mode Mode, pin Pin, clk clock.Clock) (Port, error) {
	if clk == nil {
		return nil, errors.Join(errors.New("direction by a pin needs a clock"), p.Close())
	}
	if err := pin.Out(gpio.Low); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the direction pin: %w", err), p.Close())
	}
	return &directed{Port: p, mode: mode, pin: pin, clk: clk, wait: -1}, nil
}

// Write sends a frame between two turns of the pin, and returns when it has left.
func (d *directed) Write(b []byte) (int, error) {
	if err := d.pin.Out(gpio.High); err != nil {
		return 0, fmt.Errorf("turning to send: %w", err)
	}
	began := d.clk.Now()
	n, err := d.Port.Write(b)
	if err == nil {
		err = d.Drain()
	}
	if err == nil {
		err = d.linger(began.Add(d.mode.Wire(n + 1)))
	}
	if turned := d.pin.Out(gpio.Low); turned != nil {
		err = errors.Join(err, fmt.Errorf("turning to receive: %w", turned))
	}
	return n, err
}

// linger waits in a read, which ends on the microsecond; a Go timer may be a
// millisecond late, and a device's answer begins after 1.75.
func (d *directed) linger(until time.Time) error {
	for d.n < len(d.early) {
		left := until.Sub(d.clk.Now())
		if left <= 0 {
			break
		}
		if err := d.Port.SetReadTimeout(left); err != nil {
			return err
		}
		k, err := d.Port.Read(d.early[d.n:])
		if err != nil {
			return err
		}
		d.n += k
	}
	return d.Port.SetReadTimeout(d.wait)
}

// Read returns first what came while the last frame was leaving.
func (d *directed) Read(b []byte) (int, error) {
	if d.n == 0 {
		return d.Port.Read(b)
	}
	k := copy(b, d.early[:d.n])
	d.n = copy(d.early[:], d.early[k:d.n])
	return k, nil
}

// SetReadTimeout is Port's.
func (d *directed) SetReadTimeout(wait time.Duration) error {
	d.wait = wait
	return d.Port.SetReadTimeout(wait)
}

// ResetInputBuffer is Port's.
func (d *directed) ResetInputBuffer() error {
	d.n = 0
	return d.Port.ResetInputBuffer()
}

// Remarks are those of the port below.
func (d *directed) Remarks() []string { return remarksOf(d.Port) }
