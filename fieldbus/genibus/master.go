package genibus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/fieldbus/lateness"
)

// Errors of a transaction, beside those of the line and *OtherMasterError.
// After ErrNoAnswer and ErrDamaged the request is pending: the same Do continues
// it.
var (
	// ErrNoAnswer: nothing that could be a reply came in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrDamaged: something came, but no sound reply: a bad checksum, a reply
	// cut short, noise, or two devices at once.
	ErrDamaged = errors.New("damaged answer")
)

// OtherMasterError says that another master was heard on the bus. This one
// stays silent until nothing was heard of it for ten seconds: two masters that
// do not agree spoil one another's telegrams.
type OtherMasterError struct {
	Address byte
	Heard   time.Time
}

func (e *OtherMasterError) Error() string {
	return fmt.Sprintf("another master (address %d) speaks on this bus: this one stays silent; take one of the two away", e.Address)
}

// heardMaster is how often in a row, with no pause longer than regular, a telegram
// from or to another master was heard.
type heardMaster struct {
	last  time.Time
	times int
}

// Stats counts what a master did and heard. It belongs to the master's
// goroutine.
type Stats struct {
	Requests  uint64 // telegrams sent
	Answers   uint64 // requests that were answered, refusals included
	Refusals  uint64 // answers that refused part of the request
	Timeouts  uint64 // requests that nothing answered
	Damaged   uint64 // requests whose answer was damaged
	Stale     uint64 // sound replies to an earlier request: late or repeated
	Foreign   uint64 // sound telegrams of another device or master
	Echoes    uint64 // our own telegrams, heard back
	Malformed Malformed
	Busy      time.Duration // how long the line was taken, silences before a telegram included
}

// Master asks the devices of one bus. It belongs to one goroutine.
//
// A GENIbus reply carries nothing that ties it to its request. A device that
// answers late, or a repeater that says everything twice, makes any simple
// master take one item's value for another's. This one keeps four rules:
//
//   - Two consecutive requests to one device differ in the structure of their
//     APDUs, so that no reply fits both: where they would not, their order is
//     turned, or one item is asked for twice and the second value dropped.
//   - After a time-out or a damaged reply the same request is repeated
//     unchanged. A late reply to the first attempt is then a reply to this one,
//     and the values carry the time of the first attempt.
//   - Requests that are made regularly have structures that no other of them has
//     (Assign), so that a late reply fits only the request that it answers.
//   - An attempt that stayed unanswered is remembered, and no request that its
//     reply would fit is made meanwhile. A request that was repeated may be
//     answered twice, and is remembered alike. See package lateness.
type Master struct {
	line    Line
	clk     Clock
	address byte
	devices [256]*lateness.Memory
	stats   Stats
	dec     Decoder
	other   OtherMasterError // the other master that was heard last
	silent  time.Time        // until then, out of courtesy to it
	masters [256]heardMaster // by address

	request [MaxPDU]byte // as it travels, with what was added to it
	sent    [MaxTelegram]byte
	in      [128]byte
	heard   [2 * MaxTelegram]byte
	reply   [MaxPDU]byte
}

// NewMaster returns a master with an address of its own, 1 to LastMaster. A
// gateway that is alone on its bus takes 1.
func NewMaster(line Line, clk Clock, address byte) *Master {
	if address < 1 || address > LastMaster {
		panic(fmt.Sprintf("genibus: a master at address %d; use 1 to %d", address, LastMaster))
	}
	return &Master{line: line, clk: clk, address: address}
}

// Stats are the counters so far.
func (m *Master) Stats() Stats {
	s := m.stats
	s.Malformed = m.dec.Malformed
	return s
}

func (m *Master) memory(address byte) *lateness.Memory {
	d := m.devices[address]
	if d == nil {
		d = lateness.New(limits)
		m.devices[address] = d
	}
	return d
}

// ReadyAt returns the time from which on Do would not wait before it sends this
// request; see DoAs for variants. A scheduler that has other devices to ask looks
// first.
func (m *Master) ReadyAt(address byte, pdu []byte, buffer int, variants []Variant) time.Time {
	d, now := m.memory(address), m.clk.Now()
	d.Expire(now)
	_, _, at := m.pick(d, pdu, buffer, variants, now)
	return at
}

// OwedUntil returns the time until which the unit may reply to a request that it
// left unanswered, or to one of several attempts. Who opens the line before that
// time, and knows nothing of it, may take that reply for its own.
func (m *Master) OwedUntil(address byte) time.Time { return m.memory(address).Owed() }

// Quiet is how long a reply to an unanswered request is still expected, beside the
// telegrams' own time on the wire.
func (m *Master) Quiet(address byte) time.Duration { return m.memory(address).Quiet() }

// ReplyTime is how long the device takes to begin its reply, as a rule; zero as
// long as it has not answered.
func (m *Master) ReplyTime(address byte) time.Duration { return m.memory(address).ReplyTime() }

// Timeout is how long the device's reply would be waited for now.
func (m *Master) Timeout(address byte) time.Duration { return m.memory(address).Timeout() }

// Spoken is the time at which the device was addressed last. A pump in remote is
// addressed every KeepAlive; an empty request does.
func (m *Master) Spoken(address byte) time.Time { return m.memory(address).Spoken() }

// Learned is what the master has learnt of a device's pace; Restore takes it over
// after a restart.
func (m *Master) Learned(address byte) lateness.Learned { return m.memory(address).Learned() }

// Restore takes over what was learnt of a device's pace before a restart.
func (m *Master) Restore(address byte, l lateness.Learned) { m.memory(address).Restore(l) }

// Do sends a request and returns the PDU of its reply, valid until the next
// call, and the time of its first attempt: every value was measured then or
// later. buffer is the device's buffer, for what may have to be added. The
// reply has passed Match; a refusal in it is no error here, see Refused.
//
// It makes one attempt. Where ErrNoAnswer or ErrDamaged comes back, the
// specification allows one more: call Do again with the same request. ctx is
// looked at before anything is sent.
func (m *Master) Do(ctx context.Context, to byte, pdu []byte, buffer int) (reply []byte, at time.Time, err error) {
	return m.DoAs(ctx, to, pdu, buffer, nil)
}

// DoAs is Do for a request that is made regularly, with the ways to put it that
// Assign gave it. None means any way.
func (m *Master) DoAs(ctx context.Context, to byte, pdu []byte, buffer int, variants []Variant) (reply []byte, at time.Time, err error) {
	if to < FirstSlave || to > LastSlave {
		return nil, at, fmt.Errorf("genibus: device address %d: use %d to %d", to, FirstSlave, LastSlave)
	}
	if !Fits(pdu, buffer) {
		return nil, at, fmt.Errorf("genibus: a request of %d bytes, with a reply of up to %d, to a device with a buffer of %d", len(pdu), ReplySize(pdu), buffer)
	}
	d := m.memory(to)
	sent, turned, err := m.choose(ctx, d, pdu, buffer, variants)
	if err != nil {
		return nil, at, err
	}
	began := m.clk.Now()
	reply, at, err = m.transact(ctx, d, to, sent, blockOf(pdu))
	m.stats.Busy += m.clk.Now().Sub(began)
	if err != nil {
		return nil, at, err
	}
	if turned {
		turn(reply, firstSize(reply))
		turn(sent, firstSize(sent))
	}
	return trim(pdu, sent, reply), at, nil
}

// pick returns how to put a request next, and the time from which on it may be
// sent: the pending one where it is the same, or one that no earlier reply fits.
func (m *Master) pick(d *lateness.Memory, pdu []byte, buffer int, variants []Variant, now time.Time) (best Variant, pending bool, at time.Time) {
	var ways [2 * (padMost + 1)]Variant
	var shapes [2 * (padMost + 1)]lateness.Shape
	n, unanswered := 0, d.Pending()
	eachVariant(m.request[:0], pdu, buffer, func(v Variant, sent []byte) bool {
		if len(variants) > 0 && !slices.Contains(variants, v) {
			return true
		}
		if unanswered != nil && bytes.Equal(sent, unanswered) {
			best, pending = v, true
			return false
		}
		ways[n], shapes[n] = v, shapeOf(sent)
		n++
		return true
	})
	if pending {
		return best, true, now
	}
	if len(variants) > 0 {
		i, at := d.ChooseOwn(shapes[:n], blockOf(pdu), now)
		return ways[i], false, at
	}
	i, at := d.Choose(shapes[:n], blockOf(pdu), now)
	return ways[i], false, at
}

// choose returns the request as it is to be sent. It waits only where every way
// to put it could be given an earlier reply.
func (m *Master) choose(ctx context.Context, d *lateness.Memory, pdu []byte, buffer int, variants []Variant) (sent []byte, turned bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		now := m.clk.Now()
		d.Expire(now)
		v, pending, at := m.pick(d, pdu, buffer, variants, now)
		if !at.After(now) {
			if !pending {
				d.Abandon()
			}
			sent, _ := v.append(m.request[:0], pdu)
			return sent, v.Turned, nil
		}
		if err := m.Overhear(ctx, at); err != nil {
			return nil, false, err
		}
	}
}

// Overhear waits until a time and takes in what comes meanwhile, so that the
// lateness of a reply is measured when the reply arrives. It returns early when
// ctx ends, within overhearStep.
func (m *Master) Overhear(ctx context.Context, until time.Time) error {
	const overhearStep = 20 * time.Millisecond
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := m.clk.Now()
		if !now.Before(until) {
			return nil
		}
		step := now.Add(overhearStep)
		if until.Before(step) {
			step = until
		}
		n, err := m.line.Read(m.in[:], step)
		for b := m.in[:n]; len(b) > 0; {
			b = b[m.dec.Feed(b):]
			m.sift()
		}
		if err != nil {
			if !timeout(err) {
				return fmt.Errorf("listening: %w", err)
			}
			for m.dec.Silence() {
				m.sift()
			}
		}
	}
}

// padded appends a request to b, asking for its last item pad times more, or for
// the unit's family where it ends with no GET that could be lengthened.
func padded(b, pdu []byte, pad int) []byte {
	b = append(b, pdu...)
	if pad == 0 {
		return b
	}
	at, last := lastAPDU(pdu)
	if at >= 0 && last.Operation() == Get && last.Class != Text && len(last.Data) > 0 &&
		len(last.Data)+pad <= MaxData && replyData(last)+pad*last.Class.width() <= MaxData {
		for range pad {
			b = append(b, last.Data[len(last.Data)-1])
		}
		b[at+1] += byte(pad)
		return b
	}
	b = append(b, byte(Measured), byte(pad))
	for range pad {
		b = append(b, itemFamily)
	}
	return b
}

// rotate puts the last APDU of a request first, which costs nothing on the wire.
// It does so only where the order means nothing, among GET and INFO, and looks
// different: among several APDUs that are not alike.
func rotate(pdu []byte) bool {
	before := shapeOf(pdu)
	for rest := pdu; ; {
		a, more, ok, err := Next(rest)
		if err != nil || ok && a.Operation() == Set {
			return false
		}
		if !ok {
			break
		}
		rest = more
	}
	at, _ := lastAPDU(pdu)
	if at <= 0 {
		return false
	}
	turn(pdu, at)
	return shapeOf(pdu) != before
}

// firstSize is the length of a PDU's first APDU.
func firstSize(pdu []byte) int {
	_, rest, _, _ := Next(pdu)
	return len(pdu) - len(rest)
}

// turn rotates b so that what is at k comes first.
func turn(b []byte, k int) {
	slices.Reverse(b[:k])
	slices.Reverse(b[k:])
	slices.Reverse(b)
}

// lastAPDU is the last APDU of a PDU and where it begins; -1 when there is none.
func lastAPDU(pdu []byte) (at int, last APDU) {
	at = -1
	for rest := pdu; ; {
		a, more, ok, err := Next(rest)
		if err != nil || !ok {
			return at, last
		}
		at, last = len(pdu)-len(more)-2-len(a.Data), a
		rest = more
	}
}

// trim takes out of a reply what answers the padding.
func trim(pdu, sent, reply []byte) []byte {
	if len(sent) == len(pdu) {
		return reply
	}
	asked, last := lastAPDU(pdu)
	at, got := lastAPDU(reply)
	sentAt, padding := lastAPDU(sent)
	if sentAt != asked { // an APDU of its own
		return reply[:at]
	}
	if got.Ack() == OK {
		extra := (len(padding.Data) - len(last.Data)) * last.Class.width()
		reply[at+1] -= byte(extra)
		return reply[:len(reply)-extra]
	}
	return reply
}
