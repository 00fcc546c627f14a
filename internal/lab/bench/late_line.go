package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/pumpsim/fault"
)

// badLine is a serial line with devices on a bad day: answers that come late,
// twice, in pieces, damaged, or after another device's. It knows no clock: it is
// told when a request began, and says when which bytes arrive. So the same day
// can be played in memory and on a pseudo-terminal.
//
// Every register of every answer has a value of its own, made from the device,
// the register and the number of the answer. Whoever looks at a value can tell
// where it came from, and when it was sampled; see verdict.
type badLine struct {
	mode    fieldbus.Mode
	devices map[byte]*tagged
	dice    *fault.Dice

	requests  int
	damaged   int // answers whose bytes were changed
	harmless  int // reads before faults begin
	scheduled []stretch
	coming    []arrival // by time; what next and due hand out
}

// tagged is a device whose values tell where they are from.
type tagged struct {
	address    byte
	turnaround time.Duration        // from a request's last bit
	learnt     func() time.Duration // an answer is late by at most ten times this
	samples    []time.Time          // when the values of each answer were taken
}

// stretch is a time that the wire is taken for.
type stretch struct{ from, to time.Time }

// arrival is bytes and when the last of them is there.
type arrival struct {
	at    time.Time
	bytes []byte
}

const stranger = 99 // the address of a device that nobody asks

// value is a register of a device in one of its answers.
func value(address byte, register uint16, sample int) uint16 {
	x := uint64(address)<<56 | uint64(register)<<40 | uint64(sample)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return uint16(x ^ x>>31)
}

// hear takes a whole request whose first bit was sent at a time.
func (l *badLine) hear(request []byte, at time.Time) {
	l.scheduled = slices.DeleteFunc(l.scheduled, func(s stretch) bool { return s.to.Before(at) })
	if len(request) != 8 || request[1] != 3 && request[1] != 4 || string(seal(slices.Clone(request[:6]))) != string(request) {
		return
	}
	d := l.devices[request[0]]
	if d == nil {
		return
	}
	l.requests++
	hits := l.dice.Draw(l.requests, int(d.address))
	if l.requests <= l.harmless {
		hits = nil
	}
	ends := at.Add(l.mode.Wire(len(request)))
	sampled := ends.Add(modbus.Silence(l.mode))
	sample := len(d.samples)
	d.samples = append(d.samples, sampled)
	reply := replyOf(request, func(register uint16) uint16 { return value(d.address, register, sample) })
	start := ends.Add(d.turnaround)
	if start.Before(sampled) {
		start = sampled
	}
	l.afflict(d, reply, start, hits)
}

// afflict puts an answer on the wire from start on, after what happens to it.
func (l *badLine) afflict(d *tagged, reply []byte, start time.Time, hits []fault.Hit) {
	whole := slices.Clone(reply)
	pause, split, copies, repeatAfter := time.Duration(0), len(reply), 1, time.Duration(0)
	for _, h := range hits {
		switch h.Kind {
		case fault.Flip:
			fault.FlipBits(reply, h.N, h.Roll)
		case fault.Burst:
			fault.BurstBits(reply, h.N, h.Roll)
		case fault.Overwrite:
			fault.OverwriteBytes(reply, h.N, h.Roll)
		case fault.Late:
			start = start.Add(time.Duration(h.Roll.Float64() * 10 * float64(d.learnt())))
		case fault.Foreign:
			start = l.send(foreign(whole, h.Roll), start, 0, len(whole)).Add(d.turnaround)
		case fault.Split:
			pause, split = h.Wait, 1+h.Roll.IntN(len(reply)-1)
		case fault.Repeat:
			copies, repeatAfter = 2, h.Wait
		default:
			panic("the line has no fault of the kind " + h.Kind.String())
		}
	}
	if !slices.Equal(reply, whole) {
		l.damaged++
	}
	for range copies {
		start = l.send(reply, start, pause, split).Add(repeatAfter)
	}
}

// foreign is an answer of another device that looks like this one.
func foreign(reply []byte, r *rand.Rand) []byte {
	b := slices.Clone(reply[:len(reply)-2])
	b[0] = stranger
	for i := 3; i+1 < len(b); i += 2 {
		binary.BigEndian.PutUint16(b[i:], uint16(r.Uint32()))
	}
	return seal(b)
}

// send makes a frame arrive, from start on or when the wire is free, with a
// pause before its byte number split. It returns when the last bit is there.
func (l *badLine) send(frame []byte, start time.Time, pause time.Duration, split int) time.Time {
	took := l.mode.Wire(len(frame)) + pause
	gap := modbus.Silence(l.mode)
	at := 0
	for ; at < len(l.scheduled); at++ {
		s := l.scheduled[at]
		if start.Add(took + gap).Before(s.from) {
			break
		}
		if after := s.to.Add(gap); after.After(start) {
			start = after
		}
	}
	l.scheduled = slices.Insert(l.scheduled, at, stretch{start, start.Add(took)})
	for sent := 0; sent < len(frame); {
		to := min(sent+piece, len(frame))
		if sent < split {
			to = min(to, split)
		}
		due := start.Add(l.mode.Wire(to))
		if to > split {
			due = due.Add(pause)
		}
		l.arrive(arrival{due, frame[sent:to]})
		sent = to
	}
	return start.Add(took)
}

func (l *badLine) arrive(a arrival) {
	i := len(l.coming)
	for i > 0 && l.coming[i-1].at.After(a.at) {
		i--
	}
	l.coming = slices.Insert(l.coming, i, a)
}

// take hands out what arrives until a time.
func (l *badLine) take(until time.Time, to func(arrival)) {
	n := 0
	for ; n < len(l.coming) && !l.coming[n].at.After(until); n++ {
		to(l.coming[n])
	}
	l.coming = slices.Delete(l.coming, 0, n)
}

// verdict tells whether values that were read from start on can be what the
// device was asked for: all from one answer, and sampled at the time that the
// reading states, or after it.
func (d *tagged) verdict(start uint16, values []uint16, stated time.Time) bool {
	for sample := len(d.samples) - 1; sample >= 0 && !d.samples[sample].Before(stated); sample-- {
		fits := true
		for i, v := range values {
			fits = fits && v == value(d.address, start+uint16(i), sample)
		}
		if fits {
			return true
		}
	}
	return false
}

// far is a badLine as the far end of a pseudo-terminal.
type far struct {
	*badLine
	heard []byte
	last  time.Time
}

// Hear is wire.Far's. A master's frame may arrive in pieces, but not with a
// pause in it.
func (f *far) Hear(b []byte, at time.Time, _ int) {
	if at.Sub(f.last) > 10*time.Millisecond {
		f.heard = f.heard[:0]
	}
	f.last = at
	if f.heard = append(f.heard, b...); len(f.heard) >= 8 {
		f.hear(f.heard[:8], at)
		f.heard = f.heard[:0]
	}
}

// Due is wire.Far's.
func (f *far) Due(now time.Time, send func([]byte) time.Time) time.Duration {
	f.take(now, func(a arrival) { send(a.bytes) })
	return 0
}

// Next is wire.Far's.
func (f *far) Next() time.Time {
	if len(f.coming) == 0 {
		return time.Time{}
	}
	return f.coming[0].at
}

// Idle is wire.Far's.
func (f *far) Idle() bool { return len(f.coming) == 0 }
