package genibus

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Commands of the circulator family (class 3; UPE manual, and christoph2/GENIBus
// for the later ones).
const (
	CmdReset         = 1
	CmdResetAlarm    = 2
	CmdStop          = 5
	CmdStart         = 6
	CmdRemote        = 7
	CmdLocal         = 8
	CmdConstFreq     = 22
	CmdPropPress     = 23
	CmdConstPress    = 24
	CmdMin           = 25
	CmdMax           = 26
	CmdAuto          = 52
	CmdNightReduct   = 66
	CmdNoNightReduct = 67
)

// RefRemote is the set-point that a pump in remote follows (class 5).
const RefRemote = 1

// The items of class 2 that show how a pump is run.
const (
	itemMode1 = 81
	itemMode2 = 82
	itemMode3 = 83
)

// Mode is how a pump is run, from act_mode1 to act_mode3 (UPE manual).
type Mode struct {
	Operation    byte // 0 start, 1 stop, 2 min, 3 max, 7 hand
	Control      byte // 0 constant pressure, 1 proportional pressure, 2 constant frequency, 5 automatic, 6 other
	Night        bool // night reduction
	Test         bool
	Temperature  bool // temperature influence
	ButtonLocked bool
	System       byte // 0 normal, 3 survive, 4 alarm standby
	Alarm        bool // one is not acknowledged
	Local        bool // the panel commands, not the bus
}

// ParseMode takes the mode from its three bytes.
func ParseMode(mode1, mode2, mode3 byte) Mode {
	return Mode{
		Operation: mode1 & 7, Control: mode1 >> 3 & 7, Night: mode1&0x40 != 0, Test: mode1&0x80 != 0,
		Temperature: mode2&1 != 0, ButtonLocked: mode2&0x20 != 0,
		System: mode3 & 7, Alarm: mode3&8 != 0, Local: mode3&0x10 != 0,
	}
}

// ReadMode asks a pump how it is run.
func (m *Master) ReadMode(ctx context.Context, to byte, buffer int) (Mode, error) {
	pdu := AppendGet(nil, Measured, itemMode1, itemMode2, itemMode3)
	reply, err := m.Try(ctx, to, pdu, buffer)
	if err != nil {
		return Mode{}, err
	}
	if r := Refused(to, pdu, reply); r != nil {
		return Mode{}, r
	}
	a, _, _, err := Next(reply)
	if err != nil {
		return Mode{}, err
	}
	return ParseMode(a.Data[0], a.Data[1], a.Data[2]), nil
}

// ErrLocal says that a pump obeys its panel. It takes one command, CmdRemote;
// to give it is a decision for somebody to make, and never a retry.
var ErrLocal = errors.New("the pump is in local: its panel commands it; take it with the command REMOTE first")

// Command carries commands out, in order, in one telegram. In local a pump would
// ignore everything but CmdRemote, acknowledged all the same, so the mode is read
// first, and ErrLocal returned. A device's refusal is a *Refusal; the commands
// before the one that it names were carried out.
func (m *Master) Command(ctx context.Context, to byte, buffer int, ids ...byte) error {
	if len(ids) == 0 || ids[0] != CmdRemote {
		mode, err := m.ReadMode(ctx, to, buffer)
		var refused *Refusal
		switch {
		case errors.As(err, &refused): // a device without these items has no local
		case err != nil:
			return fmt.Errorf("asking who commands the pump: %w", err)
		case mode.Local:
			return ErrLocal
		}
	}
	return m.set(ctx, to, buffer, AppendSet(nil, Commands, ids...))
}

// SetReference sets a reference value, such as RefRemote. It lasts until the
// pump falls back to local, and may be set as often as one likes.
func (m *Master) SetReference(ctx context.Context, to byte, buffer int, id, value byte) error {
	return m.set(ctx, to, buffer, AppendSet(nil, Reference, id, value))
}

// SetParameter sets a configuration parameter, unless it has the value already.
// Parameters are kept in EEPROM, which wears out: nothing may set one again and
// again. It is read back, and returns whether it had to be changed.
func (m *Master) SetParameter(ctx context.Context, to byte, buffer int, id, value byte) (changed bool, err error) {
	is, err := m.parameter(ctx, to, buffer, id)
	if err != nil || is == value {
		return false, err
	}
	if err := m.set(ctx, to, buffer, AppendSet(nil, Configuration, id, value)); err != nil {
		return true, err
	}
	if is, err = m.parameter(ctx, to, buffer, id); err == nil && is != value {
		err = fmt.Errorf("genibus: parameter %d of device %d was set to %d, and reads %d", id, to, value, is)
	}
	return true, err
}

func (m *Master) parameter(ctx context.Context, to byte, buffer int, id byte) (value byte, err error) {
	refused, err := m.Collect(ctx, to, Configuration, Get, []byte{id}, buffer, func(_ byte, data []byte) { value = data[0] })
	if err == nil && len(refused) > 0 {
		err = &Refusal{From: to, Class: Configuration, Operation: Get, Ack: UnknownID, ID: int(id)}
	}
	return value, err
}

// set sends a SET and turns a refusal into an error.
func (m *Master) set(ctx context.Context, to byte, buffer int, pdu []byte) error {
	reply, err := m.Try(ctx, to, pdu, buffer)
	if err != nil {
		return err
	}
	if r := Refused(to, pdu, reply); r != nil {
		return r
	}
	return nil
}

// PercentReference is the reference value of a set-point in percent of its
// range, 0 to 100: 254 steps, the nearest one.
func PercentReference(percent float64) (byte, error) {
	if !(percent >= 0 && percent <= 100) {
		return 0, fmt.Errorf("genibus: a set-point of %v %%: use 0 to 100", percent)
	}
	return byte(math.Round(percent * 254 / 100)), nil
}

// CurveReference is the reference value that selects one of a UPE's curves, 1 to
// steps (item ref_steps of class 4): the middle of the curve's part of the range.
func CurveReference(curve, steps int) (byte, error) {
	if steps < 1 || curve < 1 || curve > steps {
		return 0, fmt.Errorf("genibus: curve %d of %d", curve, steps)
	}
	return byte((254*curve - 127) / steps), nil
}
