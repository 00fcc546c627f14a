package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
)

// Functions says which functions read a block of registers.
type Functions byte

// The ways to read a block. Either is the best: consecutive requests then differ
// at no cost.
const (
	Either    Functions = iota // 03 and 04 return the same
	Holding                    // 03 only
	Input                      // 04 only
	Coils                      // 01: Start and Count are of coils, each read as 0 or 1
	Discretes                  // 02: of discrete inputs, likewise
)

// MaxRegisters is the most that one request can read.
const MaxRegisters = 125

// Request asks for Count registers of a device.
type Request struct {
	Address   byte      // 1–247
	Functions Functions // how the block may be read
	Start     uint16    // as it travels: the printed register less one
	Count     int       // 1–125

	// First and Last bound the block around the request, as addresses on the
	// wire: a read may be widened up to them. Both zero means that nothing
	// outside the request may be read.
	First, Last uint16

	// Variants are the ways to make a planned read, the preferred first; see
	// Assign. Empty means any way whose answer no planned read could take for its own.
	Variants []Variant

	// Attempts is how often the request is sent before Read gives up; zero
	// means once.
	Attempts int

	most int // registers that may be asked for; 0: as many as its ways have
}

// bits tells whether the request is about single bits.
func (r *Request) bits() bool { return r.Functions == Coils || r.Functions == Discretes }

func (r *Request) bounded() bool { return r.First != 0 || r.Last != 0 }

func (r *Request) validate(room int) error {
	switch {
	case r.Address < 1 || r.Address > 247:
		return fmt.Errorf("modbus: device address %d: use 1 to 247", r.Address)
	case r.Count < 1 || r.Count > MaxRegisters: // of coils, too: a family needs no more
		return fmt.Errorf("modbus: a read of %d registers: use 1 to %d", r.Count, MaxRegisters)
	case int(r.Start)+r.Count > 1<<16:
		return fmt.Errorf("modbus: a read of %d registers from %d: addresses end at 65535", r.Count, r.Start)
	case room < r.Count:
		return fmt.Errorf("modbus: a read of %d registers into room for %d", r.Count, room)
	case r.bounded() && (r.Start < r.First || int(r.Start)+r.Count-1 > int(r.Last)):
		return fmt.Errorf("modbus: a read of %d registers from %d leaves its block, %d to %d", r.Count, r.Start, r.First, r.Last)
	}
	return nil
}

// Master asks the devices of one line. It belongs to the goroutine that owns
// the line, and lives as long: what it has learnt outlasts a vanished adapter.
type Master struct {
	t *Transporter
}

// NewMaster returns a master on line.
func NewMaster(line *fieldbus.Line) *Master { return &Master{t: NewTransporter(line)} }

// SetTiming tells what is known of a device's pace beforehand.
func (m *Master) SetTiming(address byte, timing Timing) {
	m.t.device(address).SetLimits(timing.limits())
}

// Learned is what the master has learnt of a device's pace; Restore takes it over
// after a restart.
func (m *Master) Learned(address byte) lateness.Learned { return m.t.device(address).Learned() }

// Restore takes over what was learnt of a device's pace before a restart.
func (m *Master) Restore(address byte, l lateness.Learned) { m.t.device(address).Restore(l) }

// Reserve names the ways in which the planned reads of a device are made. Other
// requests to it then use none of their shapes.
func (m *Master) Reserve(address byte, planned []Variant) {
	d := m.t.device(address)
	d.reserved = make(map[lateness.Shape]bool, len(planned))
	for _, v := range planned {
		d.reserved[v.Shape()] = true
	}
}

// ReadyAt returns the time from which on Read would not wait before it sends.
// Read waits by itself; a scheduler that has other devices to ask looks first.
func (m *Master) ReadyAt(r Request) time.Time {
	d, now := m.t.device(r.Address), m.t.line.Clock().Now()
	d.Expire(now)
	if _, ok := d.continues(&r, now); ok {
		return now
	}
	_, at := d.pick(&r, now)
	return at
}

// OwedUntil returns the time until which the device may answer a request that it
// left unanswered, or one of several attempts. Who opens the line before that
// time, and knows nothing of it, may take that answer for its own.
func (m *Master) OwedUntil(address byte) time.Time { return m.t.device(address).Owed() }

// Quiet is how long an answer to an unanswered request is still expected, beside
// the frames' own time on the wire.
func (m *Master) Quiet(address byte) time.Duration { return m.t.device(address).Quiet() }

// ReplyTime is how long the device takes to answer as a rule, without the frames'
// own time on the wire; zero as long as it has not answered.
func (m *Master) ReplyTime(address byte) time.Duration { return m.t.device(address).ReplyTime() }

// Timeout is how long the device would be waited for now, without the frames'
// own time on the wire.
func (m *Master) Timeout(address byte) time.Duration { return m.t.device(address).Timeout() }

// Overhear waits until a time, or until ctx ends, and takes in late answers
// meanwhile.
func (m *Master) Overhear(ctx context.Context, until time.Time) error {
	return m.t.Overhear(ctx, until)
}

// Client is goburrow's client for a device, for the functions that Master has
// no method for: 01, 02, 05, 15, 22, 23. It is as safe as Master, but waits a
// quiet window where the same kind of request is made twice in a row.
func (m *Master) Client(address byte) gomodbus.Client {
	d := m.t.device(address)
	if d.client == nil {
		packager := gomodbus.NewRTUClientHandler("") // for its packager; it opens nothing
		packager.SlaveId = address
		d.client = gomodbus.NewClient2(packager, m.t)
	}
	return d.client
}

// Read reads registers into dst, which must have room for r.Count, and returns
// the earliest time at which the values can have been sampled: that of the first
// attempt which this answer may belong to.
//
// An error is a *fieldbus.PortError (the port is gone), fieldbus.ErrBabble, an
// *Exception (the device refused), ErrNoAnswer or ErrDamaged. The last two leave
// the request pending, so that the same Read continues it. ctx is looked at
// between attempts: a transaction in flight is finished.
func (m *Master) Read(ctx context.Context, r Request, dst []uint16) (time.Time, error) {
	if err := r.validate(len(dst)); err != nil {
		return time.Time{}, err
	}
	d := m.t.device(r.Address)
	client := m.Client(r.Address)
	var err error
	var tooWide []Variant // refused by this device just now
	for left := max(1, r.Attempts); left > 0; left-- {
		var v Variant
		if v, err = m.choose(ctx, d, &r); err != nil {
			return time.Time{}, err
		}
		var data []byte
		d.block = r.block()
		if data, err = v.read(client); err == nil {
			skip := int(r.Start - v.Start)
			for i := range r.Count {
				if r.bits() {
					dst[i] = uint16(data[(skip+i)/8] >> ((skip + i) % 8) & 1)
					continue
				}
				dst[i] = binary.BigEndian.Uint16(data[2*(skip+i):])
			}
			d.served(v, tooWide, m.t.line.Clock().Now())
			return d.sampled, nil
		}
		if d.narrower(&r, v, err, m.t.line.Clock().Now()) {
			tooWide = append(tooWide, v)
			left++ // the narrower read is no repetition
			continue
		}
		if !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrDamaged) {
			break
		}
	}
	return time.Time{}, refusal(r.Address, err)
}

// Write writes one register with function 06. Errors are those of Read; after
// ErrNoAnswer or ErrDamaged the register may or may not have been written, and
// the same Write continues the request.
func (m *Master) Write(ctx context.Context, address byte, register, value uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := m.Client(address).WriteSingleRegister(register, value)
	return refusal(address, err)
}

// WriteCoil switches one coil with function 05, as Write does.
func (m *Master) WriteCoil(ctx context.Context, address byte, coil uint16, on bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	value := uint16(0)
	if on {
		value = 0xFF00
	}
	_, err := m.Client(address).WriteSingleCoil(coil, value)
	return refusal(address, err)
}

// WriteMultiple writes consecutive registers with function 16, as Write does.
func (m *Master) WriteMultiple(ctx context.Context, address byte, register uint16, values []uint16) error {
	data := make([]byte, 0, 2*len(values))
	for _, v := range values {
		data = binary.BigEndian.AppendUint16(data, v)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := m.Client(address).WriteMultipleRegisters(register, uint16(len(values)), data)
	return refusal(address, err)
}

// refusal turns goburrow's exception into ours.
func refusal(address byte, err error) error {
	var e *gomodbus.ModbusError
	if errors.As(err, &e) {
		return &Exception{Address: address, Function: e.FunctionCode &^ refused, Code: e.ExceptionCode}
	}
	return err
}
