package pumpsim

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/fault"
)

// hit finds the first hit of a kind.
func (b *bus) hit(k fault.Kind) (fault.Hit, bool) {
	i := slices.IndexFunc(b.hits, func(h fault.Hit) bool { return h.Kind == k })
	if i < 0 {
		return fault.Hit{}, false
	}
	return b.hits[i], true
}

// afflict puts an answer on the wire from start on, after the faults that hit
// its request. The order is that of a real line: what the device does, then what
// the wire does to it, then when it comes.
func (b *bus) afflict(e *Served, request, frame []byte, start time.Time) {
	note := func(k fault.Kind) (fault.Hit, bool) {
		h, ok := b.hit(k)
		if ok {
			e.Faults = append(e.Faults, k.String())
		}
		return h, ok
	}
	note(fault.Echo)     // the master hears it already
	note(fault.Exchange) // it has happened
	if h, ok := note(fault.Unplug); ok {
		b.unplug = h.Wait
		b.finish(e)
		return
	}
	if h, ok := note(fault.Babble); ok {
		n := int(h.Wait / b.mode.Wire(1))
		b.put(&transmission{start: start, parts: []part{{bytes: fault.RandomBytes(max(n, 1), h.Roll)}}})
		b.babble = start.Add(b.mode.Wire(n))
		b.finish(e)
		return
	}
	if _, ok := note(fault.Silence); ok {
		b.finish(e)
		return
	}
	own := b.habit(byte(e.Address))
	if code := b.refusal(e, request, note); code != 0 {
		e.Exception = code
		frame = b.framing.refuse(request, frame, code)
	}
	if h, ok := b.hit(fault.Ready); ok {
		if longer := b.framing.ready(frame, h.Roll); longer != nil {
			note(fault.Ready)
			frame = longer
		}
	}
	said := frame
	if h, ok := b.hit(fault.Old); ok && len(own.said) > 0 {
		note(fault.Old)
		frame = own.older(frame, h)
	}
	own.keep(said)
	for _, again := range own.come() {
		other := &transmission{start: start, clear: true, parts: []part{{bytes: again}}}
		b.put(other)
		start = start.Add(other.wire(b.mode) + b.gap + b.turnaround)
	}
	if h, ok := note(fault.Again); ok {
		own.again = append(own.again, copyOf{bytes.Clone(said), 1 + h.Roll.IntN(h.N)})
	}
	if h, ok := note(fault.Wrong); ok {
		frame = b.framing.readdress(frame, b.stranger(b.framing.source(frame), h.Roll))
	}
	sound := frame // foreign answers have its shape
	frame = bytes.Clone(frame)
	if h, ok := note(fault.Flip); ok {
		fault.FlipBits(frame, h.N, h.Roll)
	}
	if h, ok := note(fault.Burst); ok {
		b.framing.burst(frame, h.N, h.Roll)
	}
	if h, ok := note(fault.Overwrite); ok {
		fault.OverwriteBytes(frame, h.N, h.Roll)
	}
	if h, ok := note(fault.Late); ok {
		start = start.Add(h.Wait)
	}
	if h, ok := note(fault.Foreign); ok {
		other := &transmission{start: start, clear: true, parts: []part{{bytes: b.foreign(sound, h.Roll)}}}
		b.put(other)
		start = start.Add(other.wire(b.mode) + b.gap + b.turnaround)
	}
	if h, ok := note(fault.Noise); ok {
		noise := fault.RandomBytes(1+h.Roll.IntN(h.N), h.Roll)
		at := start.Add(b.mode.Wire(len(frame)) + b.pauseUpTo(b.turnaround, h.Roll))
		if h.Roll.IntN(2) == 0 {
			at = start.Add(-b.mode.Wire(len(noise)) - b.pauseUpTo(b.gap, h.Roll))
			at = later(at, b.ends)
		}
		b.put(&transmission{start: at, parts: []part{{bytes: noise}}})
	}
	t := &transmission{start: start, clear: b.hitNone(fault.Noise), parts: []part{{bytes: frame}}, entry: e}
	if h, ok := note(fault.Cut); ok {
		n := min(1+h.Roll.IntN(h.N), len(frame)-1)
		if h.Roll.IntN(2) == 0 { // the driver was switched on too late
			t.parts[0] = part{pause: b.mode.Wire(n), bytes: frame[n:]}
		} else { // or off too early
			t.parts[0].bytes = frame[:len(frame)-n]
		}
	}
	if h, ok := note(fault.Split); ok && len(t.parts[0].bytes) > 1 {
		whole := t.parts[0]
		at := 1 + h.Roll.IntN(len(whole.bytes)-1)
		t.parts = []part{{pause: whole.pause, bytes: whole.bytes[:at]}, {pause: h.Wait, bytes: whole.bytes[at:]}}
	}
	var behind *transmission
	if h, ok := note(fault.Glue); ok {
		other := part{bytes: b.foreign(sound, h.Roll)}
		if h.Roll.IntN(2) == 0 {
			t.parts = append([]part{other}, t.parts...)
		} else {
			behind = &transmission{start: start.Add(t.wire(b.mode)), parts: []part{other}}
		}
	}
	e.Sent = true
	b.put(t)
	if behind != nil { // not a part of t: the answer is complete before it
		b.put(behind)
	}
	if h, ok := note(fault.Repeat); ok {
		b.put(&transmission{start: start.Add(t.wire(b.mode) + h.Wait), parts: t.parts})
	}
}

func (b *bus) hitNone(k fault.Kind) bool {
	_, ok := b.hit(k)
	return !ok
}

func later(a, c time.Time) time.Time {
	if a.Before(c) {
		return c
	}
	return a
}

func (b *bus) pauseUpTo(d time.Duration, r *rand.Rand) time.Duration {
	return time.Duration(r.Int64N(int64(d) + 1))
}

// stranger is an address other than the given one.
func (b *bus) stranger(address byte, r *rand.Rand) byte {
	other := byte(1 + r.IntN(246))
	if other >= address {
		other++
	}
	return other
}

// foreign is a well-formed answer of another device, of the shape of frame but
// with other values.
func (b *bus) foreign(frame []byte, r *rand.Rand) []byte {
	other := b.framing.readdress(frame, b.stranger(b.framing.source(frame), r))
	return b.framing.scramble(other, r)
}
