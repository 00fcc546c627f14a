package genibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of a transaction, beside those of the line and *OtherMasterError.
// After ErrNoAnswer and ErrDamaged the request is pending: the same Do continues
// it, anything else waits for QuietUntil.
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
//   - A request that is given up binds its device, and only that device, for a
//     quiet window.
//   - An attempt that stayed unanswered is remembered for as long, and no
//     request that its reply would fit is made meanwhile. A request that was
//     repeated may be answered twice, and is remembered alike.
type Master struct {
	line    Line
	clk     Clock
	address byte
	devices [256]*memory
	stats   Stats
	dec     Decoder
	other   OtherMasterError // the other master that was heard last
	silent  time.Time        // until then, out of courtesy to it

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

func (m *Master) memory(address byte) *memory {
	d := m.devices[address]
	if d == nil {
		d = newMemory()
		m.devices[address] = d
	}
	return d
}

// QuietUntil is when the device may be asked something else than the request
// that it left unanswered. It is in the past when there is none. Do waits for it
// by itself.
func (m *Master) QuietUntil(address byte) time.Time { return m.memory(address).quietUntil() }

// OwedUntil is when the unit no longer owes a reply to a request that it left
// unanswered, or to one of several attempts. Whoever opens the line before that time,
// and knows nothing of it, may take that reply for its own.
func (m *Master) OwedUntil(address byte) time.Time { return m.memory(address).owedUntil() }

// Quiet is how long a reply to a request to the unit need be feared, beside the
// telegrams' own time on the wire.
func (m *Master) Quiet(address byte) time.Duration { return m.memory(address).quiet() }

// ReplyTime is the longest that the device recently took to begin its reply;
// zero as long as it has not answered.
func (m *Master) ReplyTime(address byte) time.Duration { return m.memory(address).high }

// Timeout is how long the device's reply would be waited for now.
func (m *Master) Timeout(address byte) time.Duration { return m.memory(address).patience() }

// Spoken is when the device was addressed last. A pump in remote is addressed
// every KeepAlive; an empty request does.
func (m *Master) Spoken(address byte) time.Time { return m.memory(address).spoken }

// Do sends a request and returns the PDU of its reply, valid until the next
// call, and the time of its first attempt: every value was measured then or
// later. buffer is the device's buffer, for what may have to be added. The
// reply has passed Match; a refusal in it is no error here, see Refused.
//
// It makes one attempt. Where ErrNoAnswer or ErrDamaged comes back, the
// specification allows one more: call Do again with the same request. ctx is
// looked at before anything is sent.
func (m *Master) Do(ctx context.Context, to byte, pdu []byte, buffer int) (reply []byte, at time.Time, err error) {
	if to < FirstSlave || to > LastSlave {
		return nil, at, fmt.Errorf("genibus: device address %d: use %d to %d", to, FirstSlave, LastSlave)
	}
	if !Fits(pdu, buffer) {
		return nil, at, fmt.Errorf("genibus: a request of %d bytes, with a reply of up to %d, to a device with a buffer of %d", len(pdu), ReplySize(pdu), buffer)
	}
	d := m.memory(to)
	sent, turned, err := m.choose(ctx, d, pdu, buffer)
	if err != nil {
		return nil, at, err
	}
	began := m.clk.Now()
	reply, at, err = m.transact(ctx, d, to, sent)
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

// padMost is by how many items a request is lengthened at most to look different
// from those before it.
const padMost = 4

// choose returns the request as it is to be sent: the pending one where it is the
// same, or one that no earlier reply fits. It waits only where nothing else is
// left.
func (m *Master) choose(ctx context.Context, d *memory, pdu []byte, buffer int) (sent []byte, turned bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	for {
		now := m.clk.Now()
		d.expire(now)
		soonest := time.Time{}
		for variant := range 2 * (padMost + 1) {
			pad, turned := variant/2, variant%2 == 1
			sent := padded(m.request[:0], pdu, pad)
			if turned && !rotate(sent) {
				continue // there is nothing to turn
			}
			if d.repeats(sent) {
				return sent, turned, nil
			}
			if variant > 0 && !Fits(sent, buffer) {
				continue
			}
			at := d.clear(shapeOf(sent), now)
			if q := d.quietUntil(); q.After(at) {
				at = q
			}
			if !at.After(now) && !d.pending {
				return sent, turned, nil
			}
			if soonest.IsZero() || at.Before(soonest) {
				soonest = at
			}
		}
		if err := m.clk.Sleep(ctx, max(soonest.Sub(now), time.Millisecond)); err != nil {
			return nil, false, err
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
