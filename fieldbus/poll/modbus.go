package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// master is what a bus needs of a protocol master; *modbus.Master is one. Its
// obligations: a transaction in flight is finished even when ctx ends; after
// ErrNoAnswer and ErrDamaged the same request may be repeated at once; ReadyAt
// tells from when on another one may be made.
type master interface {
	Read(ctx context.Context, r modbus.Request, dst []uint16) (time.Time, error)
	Write(ctx context.Context, address byte, register, value uint16) error
	WriteCoil(ctx context.Context, address byte, coil uint16, on bool) error
	pacer
	ReadyAt(r modbus.Request) time.Time
	Reserve(address byte, planned []modbus.Variant)
	SetTiming(address byte, t modbus.Timing)
}

var _ master = (*modbus.Master)(nil)

func functions(f profile.Functions) modbus.Functions {
	switch f {
	case profile.Holding:
		return modbus.Holding
	case profile.Input:
		return modbus.Input
	case profile.Coils:
		return modbus.Coils
	case profile.Discretes:
		return modbus.Discretes
	}
	return modbus.Either
}

// timing is the profile's, moved by what the device waits of itself: a module whose
// SlaveMinimumReplyDelay is two seconds is as quick after these as another at once.
func timing(dev Device) modbus.Timing {
	t := dev.Profile.Timing
	delay, pause := cmp.Or(dev.ReplyDelay, t.ReplyDelay), cmp.Or(dev.Pause, t.Pause)
	m := modbus.Timing{ReplyMin: t.ReplyMin, ReplyMax: t.ReplyMax, Quiet: t.Quiet, Pause: pause}
	if delay > t.ReplyMin {
		m.ReplyMin, m.ReplyMax, m.Quiet = delay, delay+t.ReplyMax, 2*delay+t.Quiet
	}
	return m
}

// read carries out one frame and hands each of its values to put.
func (b *Bus) read(ctx context.Context, d *device, f *frame, put func(i int, raw int64, q telemetry.Quality)) (time.Time, error) {
	if b.geni != nil {
		return b.readGeni(ctx, d, f, put)
	}
	regs := b.regs[:f.count]
	at, err := b.master.Read(ctx, b.request(d, f), regs)
	if err != nil {
		return at, err
	}
	for i := range d.items {
		if f.items.has(i) {
			raw, q := d.items[i].Decode(regs[d.items[i].Register-f.start:])
			put(i, raw, q)
		}
	}
	return at, nil
}

// What a transaction's error means to the scheduler.
type fault int

const (
	noFault   fault = iota
	silent          // no sound answer: repeat, then leave the device alone
	refusing        // the device will not have this read
	busy            // the device is there, and asks to be left alone for now
	replanned       // the device is there, and what is due has to be planned anew
	lineFault       // nothing to do with this device
)

func faultOf(err error) fault {
	var refusal *modbus.Exception
	switch {
	case err == nil:
		return noFault
	case errors.As(err, &refusal):
		if refusal.Code == modbus.IllegalAddress || refusal.Code == modbus.IllegalFunction || refusal.Code == modbus.IllegalValue {
			return refusing
		}
		return busy
	case errors.Is(err, modbus.ErrNoAnswer), errors.Is(err, modbus.ErrDamaged),
		errors.Is(err, genibus.ErrNoAnswer), errors.Is(err, genibus.ErrDamaged):
		return silent
	case errors.Is(err, errReplan):
		return replanned
	case errors.As(err, new(*genibus.Refusal)):
		return refusing
	}
	return lineFault
}

// otherMaster tells whether the bus has another master.
func otherMaster(err error) bool { return errors.As(err, new(*genibus.OtherMasterError)) }

// frameTimeout is what a frame costs that nobody answers.
func (b *Bus) frameTimeout(d *device, f *frame) time.Duration {
	return f.cost + b.pace().Timeout(byte(d.Address))
}

// failureText says what was seen of a device that gives no sound answer.
func failureText(err error, failures int, mode fieldbus.Mode) string {
	what := "no answer"
	if errors.Is(err, modbus.ErrDamaged) || errors.Is(err, genibus.ErrDamaged) {
		what = "answers are damaged: check the wiring, and that nothing else has this address"
	} else if failures >= deadAfter {
		what = fmt.Sprintf("no answer: check its power, its address and that it is set to %v", mode)
	}
	return what
}
