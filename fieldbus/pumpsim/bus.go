package pumpsim

import (
	"bytes"
	"math/rand/v2"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
)

// bus is what happens on the wire, as a machine without a clock or a port: it is
// told what the master sends and what time it is, and says what the devices put
// on the wire and when it wants to be called again. It belongs to whoever holds
// the simulator's lock.
type bus struct {
	mode        fieldbus.Mode
	gap         time.Duration // the silence that ends a frame
	turnaround  time.Duration
	fromLastBit bool
	framing     framing
	units       []device
	dice        *fault.Dice
	chance      *rand.Rand // what becomes of collisions

	// The request that is arriving.
	heard    []byte
	began    time.Time // its first bit
	ends     time.Time // the last bit of what has come so far
	garbled  bool      // in another mode, or while somebody babbled
	hits     []fault.Hit
	requests int
	last     map[byte][]byte // the request before, by address
	habits   map[byte]*habit // by address
	// exchange puts another unit in the place of those at an address, for a time.
	exchange func(address byte, at time.Time, lasts time.Duration)
	// other names the model of a unit that stands in another's place.
	other func(device) string

	// What goes out.
	waiting []*transmission
	now     sending
	active  bool
	free    time.Time // when the last bit was sent
	made    int
	babble  time.Time // until when somebody babbles
	unplug  time.Duration

	finished []Served // to be collected
	stats    Stats
	late     latenesses
}

func newBus(o Options) *bus {
	b := &bus{
		mode: o.Mode, turnaround: o.Turnaround, fromLastBit: o.FromLastBit,
		framing: modbusFraming{}, last: map[byte][]byte{}, habits: map[byte]*habit{},
		dice: fault.NewDice(o.Faults, o.Seed), chance: rand.New(rand.NewPCG(uint64(o.Seed), 0xC0)),
	}
	if o.Protocol == GENIbus {
		// A unit knows by the length where a telegram ends.
		b.framing, b.fromLastBit = geniFraming{}, true
	}
	b.gap = b.framing.silence(o.Mode)
	return b
}

// at finds the device of an address.
func (b *bus) at(address byte) device {
	for _, u := range b.units {
		if u.Address() == address {
			return u
		}
	}
	return nil
}

// hear takes bytes that the master sends from the time at on. They follow what
// it is still sending. sent is the mode it sends in.
func (b *bus) hear(p []byte, at time.Time, sent fieldbus.Mode) {
	if len(b.heard) > 0 && at.After(b.ends.Add(b.gap)) {
		b.endRequest()
	}
	if len(b.heard) == 0 {
		b.requests++
		b.began, b.ends, b.garbled = at, at, false
		b.hits = b.dice.Draw(b.requests, b.addressed(p))
	}
	if at.Before(b.ends) {
		at = b.ends
	}
	b.ends = at.Add(sent.Wire(len(p)))
	b.garbled = b.garbled || sent != b.mode || at.Before(b.babble)
	for _, h := range b.hits {
		if h.Kind == fault.Echo {
			b.put(&transmission{start: at, parts: []part{{bytes: bytes.Clone(p)}}})
		}
	}
	if len(b.heard)+len(p) <= 4*frameMax { // more is no frame of anybody's
		b.heard = append(b.heard, p...)
	}
}

const frameMax = 259

// addressed is the address that a frame's beginning names.
func (b *bus) addressed(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	return int(b.framing.target(p))
}

// next is when something is due; zero if nothing is before the master speaks.
func (b *bus) next() (t time.Time) {
	if len(b.heard) > 0 {
		t = b.ends.Add(b.gap)
	}
	if b.active {
		due, _ := b.now.due(b.mode)
		return sooner(t, due)
	}
	if w := b.first(); w != nil {
		// The first bytes count from when the transmission gets the wire.
		t = sooner(t, b.startOf(w))
	}
	return t
}

func sooner(a, c time.Time) time.Time {
	if a.IsZero() || !c.IsZero() && c.Before(a) {
		return c
	}
	return a
}

// idle tells that nothing is on its way.
func (b *bus) idle() bool { return !b.active && len(b.waiting) == 0 && len(b.heard) == 0 }

// due does what is due at now. send hands bytes to the master and returns when
// it had them.
func (b *bus) due(now time.Time, send func([]byte) time.Time) {
	if len(b.heard) > 0 && !now.Before(b.ends.Add(b.gap)) {
		b.endRequest()
	}
	for {
		if !b.active && !b.begin(now) {
			return
		}
		at, p := b.now.due(b.mode)
		if now.Before(at) {
			return
		}
		arrived := send(p)
		if !b.now.advance(b.mode) {
			b.complete(at, arrived)
		}
	}
}

// begin gives the wire to the transmission that is due first.
func (b *bus) begin(now time.Time) bool {
	w := b.first()
	if w == nil {
		return false
	}
	start := b.startOf(w)
	if now.Before(start) {
		return false
	}
	for i := range b.waiting {
		if b.waiting[i] == w {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			break
		}
	}
	if w.shy && start.After(w.start) { // somebody else speaks
		if w.entry != nil {
			w.entry.Sent = false
			w.entry.Faults = append(w.entry.Faults, "busy")
			b.finish(w.entry)
		}
		return b.begin(now)
	}
	b.now, b.active = sending{transmission: w, from: start.Add(w.parts[0].pause)}, true
	return true
}

func (b *bus) first() (w *transmission) {
	for _, t := range b.waiting {
		if w == nil || t.start.Before(w.start) || t.start.Equal(w.start) && t.order < w.order {
			w = t
		}
	}
	return w
}

// startOf is when a transmission gets the wire: as planned, or when it is free.
func (b *bus) startOf(w *transmission) time.Time {
	free := b.free
	if w.clear && !free.IsZero() {
		free = free.Add(b.gap)
	}
	if free.After(w.start) {
		return free
	}
	return w.start
}

// complete ends the transmission that had the wire. Its last byte was to arrive
// at planned and did at arrived.
func (b *bus) complete(planned, arrived time.Time) {
	e := b.now.entry
	b.free, b.active, b.now = planned, false, sending{}
	if e == nil {
		return
	}
	b.late.add(arrived.Sub(planned))
	e.Planned, e.Done = planned, arrived
	b.habit(byte(e.Address)).spoke = planned
	b.finish(e)
}

func (b *bus) finish(e *Served) {
	b.stats.Served++
	b.finished = append(b.finished, *e)
}

// put makes a transmission wait for its time.
func (b *bus) put(t *transmission) {
	t.order = b.made
	b.made++
	b.waiting = append(b.waiting, t)
}

// endRequest takes the frame that the silence has ended.
func (b *bus) endRequest() {
	frame, at := b.heard, b.ends.Add(b.gap)
	b.heard = nil
	b.stats.Requests++
	sound := !b.garbled && b.framing.sound(frame)
	for _, u := range b.units {
		u.heard(sound)
	}
	if !sound {
		b.stats.Unheard++
		return
	}
	target := b.framing.target(frame)
	repeat := bytes.Equal(frame, b.last[target])
	b.last[target] = frame
	if h, ok := b.hit(fault.Exchange); ok {
		b.exchange(target, at, h.Wait)
	}
	nobody := true
	for _, u := range b.units {
		if b.paused(u, target) {
			b.finish(&Served{Request: b.requests, Repeat: repeat, Began: b.began, Asked: b.ends, Sampled: at,
				Address: int(target), Faults: []string{fault.Pause.String()}})
			continue
		}
		r, ok := u.reply(frame, at)
		if !ok {
			continue
		}
		nobody = false
		e := r.served
		e.Request, e.Repeat, e.Began, e.Asked = b.requests, repeat, b.began, b.ends
		e.Other = b.other(u)
		if r.frame == nil {
			b.finish(&e)
			continue
		}
		b.answer(&e, frame, r, at)
	}
	if nobody {
		b.stats.Unheard++
	}
}

// answer puts a unit's answer on the wire, with what happens to it.
func (b *bus) answer(e *Served, request []byte, r reply, recognised time.Time) {
	start := recognised.Add(b.turnaround)
	if b.fromLastBit {
		if start = b.ends.Add(b.turnaround); start.Before(recognised) {
			start = recognised
		}
	}
	if least := b.ends.Add(r.delay); least.After(start) {
		start = least
	}
	before := len(b.waiting)
	b.afflict(e, request, r.frame, start)
	for _, t := range b.waiting[before:] {
		if t.shy = r.shy; t.entry != nil {
			b.collide(t)
		}
	}
}

// collide has a transmission meet another that begins in the same moment: what
// the master hears is neither.
func (b *bus) collide(t *transmission) {
	for _, other := range b.waiting {
		apart := t.start.Sub(other.start).Abs()
		if other == t || other.entry == nil || other.entry.Request != t.entry.Request || apart >= b.mode.Wire(1) {
			continue
		}
		for _, x := range []*transmission{t, other} {
			for i := range x.parts {
				x.parts[i].bytes = bytes.Clone(x.parts[i].bytes)
				for j := range x.parts[i].bytes {
					x.parts[i].bytes[j] &= byte(b.chance.Uint32())
				}
			}
			x.entry.Faults = append(x.entry.Faults, "collision")
		}
	}
}

// abandon gives up what has not been sent, and says so in the log.
func (b *bus) abandon() {
	if b.active {
		b.waiting = append(b.waiting, b.now.transmission)
	}
	for _, t := range b.waiting {
		if t.entry != nil {
			t.entry.Sent = false
			t.entry.Faults = append(t.entry.Faults, "stopped")
			b.finish(t.entry)
		}
	}
	b.waiting, b.active, b.heard = nil, false, nil
}
