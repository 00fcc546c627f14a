package genibus

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"penstock/fieldbus/lateness"
)

// transact sends a request once and waits for its reply.
func (m *Master) transact(ctx context.Context, d *lateness.Memory, to byte, pdu []byte, block lateness.Block) ([]byte, time.Time, error) {
	telegram := Telegram{DataRequest, to, m.address, pdu}.Append(m.sent[:0])
	least := len(telegram) + Overhead // the shortest exchange
	if err := m.silence(); err != nil {
		return nil, time.Time{}, err
	}
	d.Begin(pdu, shapeOf(pdu), block, m.clk.Now(), Wire(least+min(ReplySize(pdu), MaxPDU)))
	sent, err := m.line.Write(telegram)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sending to device %d: %w", to, err)
	}
	m.stats.Requests++
	expected := Wire(least + expectedReply(pdu))
	if err := m.nap(sent.Add(expected + Gap)); err != nil {
		return nil, time.Time{}, err
	}
	before := m.dec.Malformed.total()
	reply, err := m.receive(to, pdu, telegram, sent.Add(Wire(len(telegram))+d.Timeout()))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading from device %d: %w", to, err)
	}
	if reply == nil {
		if m.clk.Now().Before(m.silent) {
			return nil, time.Time{}, m.stopped()
		}
		if m.dec.Malformed.total() > before {
			m.stats.Damaged++
			return nil, time.Time{}, fmt.Errorf("device %d: %w", to, ErrDamaged)
		}
		m.stats.Timeouts++
		return nil, time.Time{}, fmt.Errorf("device %d: %w", to, ErrNoAnswer)
	}
	m.stats.Answers++
	if Refused(to, pdu, reply) != nil {
		m.stats.Refusals++
	}
	at := d.Answered(m.clk.Now())
	m.sift()
	return reply, at, nil
}

// expectedReply is the least that a reply which refuses nothing holds.
func expectedReply(pdu []byte) (size int) {
	for {
		a, rest, ok, err := Next(pdu)
		if err != nil || !ok {
			return size
		}
		size += 2
		switch {
		case a.Operation() == Info:
			size += len(a.Data)
		case a.Operation() == Get:
			size += len(a.Data) * a.Class.width()
		}
		pdu = rest
	}
}

// silence waits for the gap that a telegram begins after, and takes in what was
// heard meanwhile.
func (m *Master) silence() error {
	n, err := m.line.Quiet(Gap, m.heard[:])
	for b := m.heard[:n]; len(b) > 0; {
		b = b[m.dec.Feed(b):]
		m.sift()
	}
	for m.dec.Silence() {
		m.sift()
	}
	if err != nil {
		return fmt.Errorf("waiting for silence: %w", err)
	}
	if m.clk.Now().Before(m.silent) {
		return m.stopped()
	}
	return nil
}

func (m *Master) stopped() error {
	e := m.other
	return &e
}

// nap sleeps while a long reply is on the wire, up to shortly before it can be
// complete. Without it every piece that the driver hands over would wake the
// processor.
func (m *Master) nap(complete time.Time) error {
	const shortly, worth = 3 * time.Millisecond, 5 * time.Millisecond
	if d := complete.Add(-shortly).Sub(m.clk.Now()); d >= worth {
		return m.clk.Sleep(context.Background(), d)
	}
	return nil
}

// receive reads until the reply is there. A nil reply without an error means
// that none came.
func (m *Master) receive(to byte, pdu, telegram []byte, first time.Time) ([]byte, error) {
	m.dec.Reset()
	deadline, end := first, first.Add(Wire(2*MaxTelegram))
	for {
		n, err := m.line.Read(m.in[:], deadline)
		now := m.clk.Now()
		if err != nil {
			if !timeout(err) {
				return nil, err
			}
			if m.dec.Silence() {
				if reply := m.take(to, pdu, telegram); reply != nil {
					return reply, nil
				}
				if deadline = first; deadline.Before(now) {
					deadline = now
				}
				continue
			}
			return nil, nil
		}
		for b := m.in[:n]; len(b) > 0; {
			b = b[m.dec.Feed(b):]
			if reply := m.take(to, pdu, telegram); reply != nil {
				return reply, nil
			}
		}
		switch {
		case now.After(end): // babble
			return nil, nil
		case m.dec.Pending() > 0:
			deadline = now.Add(breath)
		default:
			deadline = first
		}
	}
}

// take goes through the telegrams that have come, and returns the reply if it is
// among them. What is behind it stays for the silence before the next telegram.
func (m *Master) take(to byte, pdu, telegram []byte) []byte {
	for {
		t, ok := m.dec.Next()
		if !ok {
			return nil
		}
		if t.Start == DataReply && t.From == to && t.To == m.address && Match(pdu, t.PDU) == nil {
			return m.reply[:copy(m.reply[:], t.PDU)]
		}
		if t.Start == DataRequest && t.To == to && t.From == m.address && bytes.Equal(t.PDU, telegram[4:len(telegram)-2]) {
			m.stats.Echoes++
			continue
		}
		m.note(t)
	}
}

// sift notes all telegrams that have come; none of them is waited for.
func (m *Master) sift() {
	for {
		t, ok := m.dec.Next()
		if !ok {
			return
		}
		m.note(t)
	}
}

// note takes in a telegram that is not the reply.
func (m *Master) note(t Telegram) {
	now := m.clk.Now()
	if t.Start == DataReply {
		if d := m.devices[t.From]; t.To == m.address && d != nil && d.Seen(func(a *lateness.Asked) bool { return Match(a.Request, t.PDU) == nil }, now) {
			m.stats.Stale++
			return
		}
		m.stats.Foreign++
		m.overheard(t.To, now) // the master whom this answers
		return
	}
	m.stats.Foreign++
	m.overheard(t.From, now)
}

// overheard takes in a telegram from or to a master. A stray one may be noise with
// a checksum that happens to fit: a master is heard again and again. The start byte is outside the checksum, so
// that a device's reply can come to look like a request; hence devices count
// for none.
func (m *Master) overheard(address byte, now time.Time) {
	if address == m.address || address >= FirstSlave && address <= LastSlave {
		return
	}
	h := &m.masters[address]
	if now.Sub(h.last) > regular {
		h.times = 0
	}
	h.last = now
	if h.times = min(h.times+1, masterSure); h.times < masterLikely {
		return
	}
	silence := suspicion
	if h.times == masterSure {
		silence = courtesy
	}
	m.silent = later(m.silent, now.Add(silence))
	m.other = OtherMasterError{address, now}
}

// Tell sends a Data Message, to one device, to a group or to Broadcast. Nobody
// answers; the bus is left alone afterwards for as long as it takes them.
func (m *Master) Tell(ctx context.Context, to byte, pdu []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(pdu) > Room(SmallestBuffer) {
		return fmt.Errorf("genibus: a message of %d bytes; every device takes %d", len(pdu), Room(SmallestBuffer))
	}
	began := m.clk.Now()
	defer func() { m.stats.Busy += m.clk.Now().Sub(began) }()
	if err := m.silence(); err != nil {
		return err
	}
	telegram := Telegram{DataMessage, to, m.address, pdu}.Append(m.sent[:0])
	sent, err := m.line.Write(telegram)
	if err != nil {
		return fmt.Errorf("sending a message to %d: %w", to, err)
	}
	m.stats.Requests++
	return m.clk.Sleep(context.Background(), sent.Add(Wire(len(telegram))+AfterMessage).Sub(m.clk.Now()))
}
