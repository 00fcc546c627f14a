package geni

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// Item is one item of an answer, as a judge sees it.
type Item struct {
	Class byte `json:"class"`
	ID    byte `json:"id"`
	Value int  `json:"value"` // its byte; of a class of 16 bits, its two
}

// Answer is what a unit made of a telegram.
type Answer struct {
	Address byte
	Items   []Item    // values that were answered to GET
	Set     []Item    // what was set; commands have the value 0
	Refused int       // APDUs that were not answered with OK
	Frame   []byte    // nil: the unit is silent
	Sampled time.Time // when the values were taken
	// Delay is the least the unit waits before it answers. Shy: it answers only if
	// the wire is silent then, as to a connection request.
	Delay time.Duration
	Shy   bool
}

// Times of a unit (GENIbus Protocol Specification).
const (
	notPolled    = 20 * time.Second
	connectLeast = 3 * time.Millisecond
	connectMost  = 43 * time.Millisecond
	setMost      = 6 // commands, parameters and references in a telegram
)

// Unit is one device on the line. It belongs to one goroutine.
type Unit struct {
	kind    Kind
	address byte
	group   byte
	serial  string
	plant   *physics.Plant
	chance  *rand.Rand
	table   map[[2]byte]place
	classes [16]bool

	began     time.Time
	now       time.Time
	addressed time.Time // when it was last; zero: never
	state     physics.State
	night     bool
	marked    func(address byte, item, answer int) uint16 // nil: it measures
	answers   int
	latched   [256]byte // alarm bits since the last reset, by item
}

// place is where a byte of an item stands.
type place struct {
	it *item
	at int
}

// New returns a unit at an address. Its plant starts at the time now.
func New(address byte, kind Kind, plant *physics.Plant, seed int64, now time.Time) *Unit {
	u := &Unit{
		kind: kind, address: address, group: 247, serial: fmt.Sprintf("%08d", 10_000_000+uint64(seed)%90_000_000),
		plant: plant, chance: rand.New(rand.NewPCG(uint64(seed), 7)), table: map[[2]byte]place{}, began: now, now: now,
	}
	own := []item{
		{class: protocolData, id: 2, width: 1, get: constant(float64(kind.buffer)), valid: true},
		{class: protocolData, id: 3, width: 1, get: constant(0x0E), valid: true},
		number(148, 1, constant(float64(kind.family))),
		number(149, 1, constant(float64(kind.kind))),
		number(150, 1, constant(float64(kind.version))),
		{class: configuration, id: 46, width: 1, valid: true, get: func(u *Unit) float64 { return float64(u.address) },
			set: func(u *Unit, v byte) bool {
				if v < FirstAddress || v > LastAddress {
					return false
				}
				u.address = v
				return true
			}},
		{class: configuration, id: 47, width: 1, valid: true, get: func(u *Unit) float64 { return float64(u.group) },
			set: func(u *Unit, v byte) bool {
				if v < 232 || v > 247 {
					return false
				}
				u.group = v
				return true
			}},
	}
	for _, it := range slices.Concat(kind.items, own) {
		u.classes[it.class] = true
		if it.whole {
			u.table[[2]byte{it.class, it.id}] = place{&it, 0}
			continue
		}
		for at := range it.width {
			u.table[[2]byte{it.class, it.id + byte(at)}] = place{&it, at}
		}
	}
	u.Advance(now)
	return u
}

// Address is the unit's on the line. A master can change it.
func (u *Unit) Address() byte { return u.address }

// Plant is what the unit stands for.
func (u *Unit) Plant() *physics.Plant { return u.plant }

// Advance lets time pass up to now. A unit in remote that nobody has addressed
// for too long falls back to local on the way, at its time.
func (u *Unit) Advance(now time.Time) {
	if now.Before(u.now) {
		return
	}
	if u.kind.fallback > 0 && u.plant.Remote() {
		last := u.addressed
		if last.IsZero() {
			last = u.began
		}
		if at := last.Add(u.kind.fallback); !now.Before(at) {
			u.plant.Advance(max(0, at.Sub(u.began)))
			u.plant.SetRemote(false)
		}
	}
	u.plant.Advance(now.Sub(u.began))
	u.now, u.state = now, u.plant.State()
	for id := range alarmItems {
		u.latched[id] |= u.alarms(id)
	}
}

// Answer acts on a telegram that came off the wire whole at the time now. It
// returns false for one that is not for this unit, or that it does not hear.
func (u *Unit) Answer(telegram []byte, now time.Time) (Answer, bool) {
	if !Sound(telegram) || telegram[0] == dataReply || len(telegram) > u.kind.buffer {
		return Answer{}, false
	}
	to := telegram[2]
	request := telegram[0] == dataRequest
	switch {
	case to == u.address, to == u.group && !request, to == broadcast && !request:
	case to == connection && request && (u.addressed.IsZero() || now.Sub(u.addressed) >= notPolled):
	default:
		return Answer{}, false
	}
	u.Advance(now)
	u.answers++
	if to == u.address {
		u.addressed = now
	}
	a := Answer{Address: u.address, Sampled: now}
	reply := []byte{dataReply, 0, telegram[3], u.address}
	left := setMost
	for pdu := telegram[before : len(telegram)-2]; len(pdu) > 0; {
		if pdu[0]&0x80 != 0 { // request for service: for masters among themselves
			pdu = pdu[1:]
			continue
		}
		if len(pdu) < 2 || pdu[0] > 15 || len(pdu) < 2+int(pdu[1]&0x3F) {
			return Answer{}, false // the checksum is right, and the telegram makes no sense
		}
		data := pdu[2 : 2+int(pdu[1]&0x3F)]
		ack, out := u.apdu(&a, pdu[0], pdu[1]>>6, data, &left)
		if ack != 0 {
			a.Refused++
		}
		reply = append(append(reply, pdu[0], ack<<6|byte(len(out))), out...)
		pdu = pdu[2+len(data):]
	}
	if !request || len(reply)+2 > u.kind.buffer {
		return a, true
	}
	a.Frame = seal(reply)
	if to == connection {
		a.Shy = true
		a.Delay = connectLeast + time.Duration(u.chance.Int64N(int64(connectMost-connectLeast)))
	}
	return a, true
}

// Operations and acknowledges.
const (
	opGet  = 0
	opSet  = 2
	opInfo = 3

	ackClass   = 1
	ackID      = 2
	ackIllegal = 3
)

// apdu carries one APDU out and returns its acknowledge and data.
func (u *Unit) apdu(a *Answer, class, op byte, data []byte, left *int) (ack byte, out []byte) {
	if class == text {
		return u.text(op, data)
	}
	if class == commands {
		return u.commandAPDU(a, op, data, left)
	}
	switch {
	case !u.classes[class]:
		return ackClass, nil
	case op == opSet && (class == configuration || class == reference):
		return u.set(a, class, data, left)
	case op == opGet, op == opInfo && class != protocolData:
	default:
		return u.illegal(data)
	}
	for _, id := range data {
		p, ok := u.table[[2]byte{class, id}]
		if !ok {
			return ackID, []byte{id}
		}
		it := p.it
		if it.follow != nil {
			now := it.follow(u)
			it = &now
		}
		if op == opInfo {
			out = append(out, it.info(p.at)...)
			continue
		}
		raw := it.raw(it.get(u))
		u.markOver(raw, p)
		if it.whole {
			out = append(out, raw...)
			a.Items = append(a.Items, Item{class, id, int(raw[0])<<8 | int(raw[1])})
			continue
		}
		out = append(out, raw[p.at])
		a.Items = append(a.Items, Item{class, id, int(raw[p.at])})
	}
	if len(out) > 63 {
		return u.illegal(data)
	}
	return 0, out
}

// Mark has the unit answer, in place of what it measures, bytes that mark makes of
// its address, the class and ID of an item, and the answers so far.
func (u *Unit) Mark(mark func(address byte, item, answer int) uint16) { u.marked = mark }

// markOver replaces the bytes of a value. Only scaled values that keep their scale
// are measured; the high byte stays one of a value that is available.
func (u *Unit) markOver(raw []byte, p place) {
	if u.marked == nil || p.it.format < scaled || p.it.follow != nil || p.it.class == reference {
		return
	}
	for i := range raw {
		raw[i] = byte(u.marked(u.address, int(p.it.class)<<8|int(p.it.id)+i, u.answers))
	}
	raw[0] = min(raw[0], 0xFE)
}

// illegal refuses an operation. The specification shows the acknowledge without
// data, its appendix with the first item; units of both sorts exist.
func (u *Unit) illegal(data []byte) (ack byte, out []byte) {
	if u.kind.nameless || len(data) == 0 {
		return ackIllegal, nil
	}
	return ackIllegal, data[:1]
}

func (u *Unit) commandAPDU(a *Answer, op byte, data []byte, left *int) (ack byte, out []byte) {
	if op != opSet && op != opInfo || op == opSet && len(data) > *left {
		return u.illegal(data)
	}
	for _, id := range data {
		if !slices.Contains(u.kind.commands, id) {
			return ackID, []byte{id}
		}
		if op == opInfo {
			out = append(out, 0x80)
			continue
		}
		*left--
		u.command(id)
		a.Set = append(a.Set, Item{Class: commands, ID: id})
	}
	u.state = u.plant.State()
	return 0, out
}

// set sets pairs of item and value, up to the first that is unknown.
func (u *Unit) set(a *Answer, class byte, data []byte, left *int) (ack byte, out []byte) {
	if len(data)%2 != 0 || len(data)/2 > *left {
		return u.illegal(data)
	}
	for ; len(data) > 0; data = data[2:] {
		p, ok := u.table[[2]byte{class, data[0]}]
		switch {
		case !ok:
			return ackID, data[:1]
		case p.it.set == nil || !p.it.set(u, data[1]):
			return u.illegal(data)
		}
		*left--
		a.Set = append(a.Set, Item{class, data[0], int(data[1])})
	}
	u.state = u.plant.State()
	return 0, nil
}

// text answers one text, with a zero at its end.
func (u *Unit) text(op byte, data []byte) (ack byte, out []byte) {
	if op != opGet || len(data) != 1 {
		return u.illegal(data)
	}
	switch data[0] {
	case 1:
		return 0, append([]byte(u.kind.name), 0)
	case 9:
		return 0, append([]byte(u.serial), 0)
	}
	return ackID, data
}
