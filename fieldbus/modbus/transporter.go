package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
)

// Silence is the time that parts two frames, t3.5: 3.5 characters of 11 bits,
// or 1.75 ms above 19200 baud.
func Silence(mode fieldbus.Mode) time.Duration {
	if mode.Baud > 19200 {
		return 1750 * time.Microsecond
	}
	return 35 * 11 * time.Second / time.Duration(10*mode.Baud)
}

// echo is whether a line hands our own requests back, as two-wire transceivers
// do whose receiver stays on while they send.
type echo byte

const (
	echoUnknown echo = iota
	echoAbsent
	echoPresent
)

// Transporter carries frames over a line, and makes sure that an answer belongs
// to its request. It is the Transporter of goburrow/modbus. It belongs to the
// goroutine that owns the line.
type Transporter struct {
	line    *fieldbus.Line
	devices [256]*device
	echo    echo

	// buf is what came since the request was sent, up to n. Before from there
	// is nothing that could still begin the answer.
	buf     [4 * frameMax]byte
	n, from int
	heard   [2 * frameMax]byte // what came before it was sent
}

// NewTransporter returns a transporter on line.
func NewTransporter(line *fieldbus.Line) *Transporter { return &Transporter{line: line} }

func (t *Transporter) device(address byte) *device {
	d := t.devices[address]
	if d == nil {
		d = newDevice()
		t.devices[address] = d
	}
	return d
}

// Send sends a request and returns the frame that answers it, an exception
// perhaps, valid until the next Send. It waits, for seconds if need be, where
// the request's answer could otherwise be mistaken for an earlier one.
func (t *Transporter) Send(adu []byte) ([]byte, error) {
	want, err := expect(adu)
	if err != nil {
		return nil, err
	}
	d, clk := t.device(want.address), t.line.Clock()
	block := d.block
	chosen := block != 0 // by Master, so that no earlier answer fits
	if d.block = 0; !chosen {
		block = blockOf(adu)
	}
	now := clk.Now()
	d.Expire(now)
	if !bytes.Equal(adu, d.Pending()) {
		d.Abandon()
		if free := d.Clear(want.shape(), block, now); !chosen && free.After(now) {
			if err := t.Overhear(context.Background(), free); err != nil {
				return nil, err
			}
			d.Expire(clk.Now())
		}
	}
	began := clk.Now()
	reply, err := t.transact(d, adu, &want, block)
	t.line.Counters().AddBusy(clk.Now().Sub(began))
	return reply, err
}

func (t *Transporter) transact(d *device, adu []byte, want *answer, block lateness.Block) ([]byte, error) {
	if err := t.quiet(); err != nil {
		return nil, err
	}
	mode, count := t.line.Mode(), t.line.Counters()
	wire := mode.Wire(len(adu) + want.size)
	d.Begin(adu, want.shape(), block, t.line.Clock().Now(), wire)
	sent, err := t.line.Write(adu)
	if err != nil {
		return nil, fmt.Errorf("sending to device %d: %w", want.address, err)
	}
	count.Requests.Add(1)
	if err := t.nap(sent.Add(wire)); err != nil {
		return nil, err
	}
	reply, err := t.receive(adu, want, sent.Add(wire+d.Timeout()))
	if err != nil {
		return nil, err
	}
	count.Answers.Add(1)
	if reply.frame[1]&refused != 0 {
		count.Exceptions.Add(1)
		d.Refused(reply.at)
	} else {
		d.sampled = d.Answered(reply.at)
	}
	t.sift(t.buf[t.from:t.n], nil)
	return reply.frame, nil
}

// quiet waits for the silence that a frame begins after.
func (t *Transporter) quiet() error {
	n, err := t.line.Quiet(Silence(t.line.Mode()), t.heard[:])
	t.sift(t.heard[:n], nil)
	if err != nil {
		return fmt.Errorf("waiting for silence on %s: %w", t.line.Path(), err)
	}
	return nil
}

// nap sleeps while a long answer is on the wire, up to shortly before it can be
// complete at the earliest. Without it every piece that the driver hands over
// would wake the processor, 16 times for 125 registers.
func (t *Transporter) nap(complete time.Time) error {
	const (
		shortly = 3 * time.Millisecond // more than a timer is ever late
		worth   = 5 * time.Millisecond
	)
	clk := t.line.Clock()
	if d := complete.Add(-shortly).Sub(clk.Now()); d >= worth {
		return clk.Sleep(context.Background(), d)
	}
	return nil
}

// received is a frame and the time of its last byte.
type received struct {
	frame []byte
	at    time.Time
}

// receive reads until the answer is complete. Whatever else comes is put aside
// while the clock runs.
func (t *Transporter) receive(adu []byte, want *answer, deadline time.Time) (received, error) {
	t.n, t.from = 0, 0
	var (
		first    received // an answer that may be an echo
		injured  bool
		twin     = want.twin(adu)
		patience = deadline
	)
	for {
		k, err := t.line.Read(t.buf[t.n:], deadline)
		now := t.line.Clock().Now()
		if errors.Is(err, fieldbus.ErrTimeout) {
			break
		}
		if err != nil {
			return received{}, fmt.Errorf("reading from device %d: %w", want.address, err)
		}
		t.n += k
		for {
			at, size, bad := t.search(want)
			injured = injured || bad
			if size == 0 {
				break
			}
			got := received{t.buf[at : at+size], now}
			if twin && got.frame[1]&refused == 0 && first.frame == nil && t.echo != echoAbsent {
				first, t.from = got, at+size
				continue
			}
			if echoed := t.sift(t.buf[:at], adu); echoed || !twin {
				t.noteEcho(echoed)
			}
			t.from = at + size
			return got, nil
		}
		if deadline = patience; injured {
			// Its length is complete, so that nothing more will come of it.
			if soon := now.Add(t.pause()); soon.Before(deadline) {
				deadline = soon
			}
		}
		t.makeRoom()
	}
	if first.frame != nil && t.echo == echoUnknown {
		t.noteEcho(false)
		return first, nil
	}
	return received{}, t.failure(adu, want, injured)
}

// Overhear waits until a time and takes in what comes meanwhile, so that the
// lateness of an answer is measured when the answer arrives. It returns early when
// ctx ends, within overhearStep.
func (t *Transporter) Overhear(ctx context.Context, until time.Time) error {
	const overhearStep = 20 * time.Millisecond
	clk := t.line.Clock()
	n := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := clk.Now()
		if !now.Before(until) {
			t.sift(t.heard[:n], nil)
			return nil
		}
		k, err := t.line.Read(t.heard[n:], earlier(until, now.Add(overhearStep)))
		switch n += k; {
		case err != nil && !errors.Is(err, fieldbus.ErrTimeout):
			return fmt.Errorf("listening on %s: %w", t.line.Path(), err)
		case err != nil || n == len(t.heard): // a gap ends a frame
			t.sift(t.heard[:n], nil)
			n = 0
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// pause is a gap that means the end of what a device had to say. It is longer
// than 3.5 characters, because drivers and adapters deliver in pieces.
func (t *Transporter) pause() time.Duration {
	return t.line.Mode().Wire(20) + 2*time.Millisecond
}

// search looks for the answer in what was received. It returns its place and
// size, or zero, and whether it passed an answer with a bad checksum.
func (t *Transporter) search(want *answer) (at, size int, injured bool) {
	start := t.from
	settled := true
	for at = start; at < t.n; at++ {
		m, size := want.compare(t.buf[at:t.n])
		switch m {
		case yes:
			return at, size, injured
		case damaged:
			injured = true
		case part:
			settled = false
		}
		if settled {
			t.from = at + 1
		}
	}
	return 0, 0, injured
}

// makeRoom drops the older half of a full buffer: only babble fills it.
func (t *Transporter) makeRoom() {
	half := len(t.buf) / 2
	if t.n < len(t.buf) {
		return
	}
	t.line.Counters().Noise.Add(uint64(half))
	t.n = copy(t.buf[:], t.buf[half:])
	t.from = max(0, t.from-half)
}

// failure says why there is no answer, and counts it.
func (t *Transporter) failure(adu []byte, want *answer, injured bool) error {
	count := t.line.Counters()
	cut := t.from < t.n // something still began like the answer
	before := count.Noise.Load()
	t.sift(t.buf[:t.n], adu)
	switch {
	case injured:
		count.Corrupt.Add(1)
		return fmt.Errorf("device %d: %w: bad checksum", want.address, ErrDamaged)
	case cut:
		count.Cut.Add(1)
		return fmt.Errorf("device %d: %w: it stopped after %d bytes", want.address, ErrDamaged, t.n-t.from)
	case count.Noise.Load() > before:
		count.Corrupt.Add(1)
		return fmt.Errorf("device %d: %w: %d bytes that belong to no frame", want.address, ErrDamaged, count.Noise.Load()-before)
	}
	count.Timeouts.Add(1)
	return fmt.Errorf("device %d: %w", want.address, ErrNoAnswer)
}

func (t *Transporter) noteEcho(heard bool) {
	if t.echo = echoAbsent; heard {
		t.echo = echoPresent
	}
}

// sift counts what is in bytes that were not the answer, lets the devices learn
// from their late answers, and tells whether our own request adu was among it.
func (t *Transporter) sift(b, adu []byte) (echoed bool) {
	count, now := t.line.Counters(), t.line.Clock().Now()
	for len(b) > 0 {
		n := frameAt(b)
		if n == 0 {
			count.Noise.Add(1)
			b = b[1:]
			continue
		}
		frame := b[:n]
		d := t.devices[frame[0]]
		switch {
		case adu != nil && !echoed && bytes.Equal(frame, adu):
			echoed = true
			count.Echoes.Add(1)
		case d != nil && d.late(frame, now):
			count.Stale.Add(1)
		default:
			count.Foreign.Add(1)
		}
		b = b[n:]
	}
	return echoed
}
