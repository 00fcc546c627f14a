package rtu

import (
	"encoding/binary"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// Registers is a register map on top of a plant. Numbers are as they travel,
// counted from 0.
type Registers interface {
	// Read returns count registers.
	Read(start, count int) ([]uint16, Exception)
	// Write sets registers.
	Write(start int, values []uint16) Exception
}

// Answer is what a unit made of a request.
type Answer struct {
	Address, Function byte
	Start             int      // first register, as it travels
	Values            []uint16 // what a read answers or a write has set
	Exception         Exception
	Frame             []byte        // nil: the unit is silent
	Sampled           time.Time     // when the values were taken
	Stale             bool          // they are old because the module has lost its pump
	Delay             time.Duration // the least the unit waits before it answers
}

// Unit is one device on the line: a communication module and the plant behind
// it. It belongs to one goroutine.
type Unit struct {
	address byte
	plant   *physics.Plant
	regs    Registers
	began   time.Time

	look      // what the module knows of its plant
	stale     bool
	listening bool // listen-only mode: no answers

	marked  func(address byte, register, answer int) uint16 // nil: it measures
	answers int

	diagnostic [4]uint16 // counters 0x0B to 0x0E
	transmit   uint32    // telegrams on the module's own bus
	receive    uint32
	told       time.Time // until when those are counted
}

// look is what a module last heard from its plant.
type look struct {
	now   time.Time
	at    time.Time // when the plant was asked
	state physics.State
	pumps []physics.State
}

// Map names a register map.
type Map string

// The register maps.
const (
	Pump    Map = "pump"    // E-pump with a CIM module
	Magna   Map = "magna"   // MAGNA3
	Booster Map = "booster" // several pumps behind one module
	Solar   Map = "solar"   // RSI solar drive
	Drive   Map = "drive"   // a drive of a made-up make, with floats and coils
)

// Identity is what a module tells about the product it sits in.
type Identity struct{ Family, Type, Version uint16 }

// New returns a unit at an address. Its plant starts at the time now.
func New(address byte, kind Map, id Identity, plant *physics.Plant, now time.Time) *Unit {
	u := &Unit{address: address, plant: plant, began: now, told: now}
	u.Advance(now)
	switch kind {
	case Solar:
		u.regs = &solar{u: u}
	case Drive:
		d := &drive{u: u}
		d.coils[0] = plant.Bus().On
		u.regs = d
	default:
		u.regs = newModule(u, kind, id)
	}
	return u
}

// Address is the unit's on the line.
func (u *Unit) Address() byte { return u.address }

// Plant is what the unit stands for.
func (u *Unit) Plant() *physics.Plant { return u.plant }

// SetStale makes the module lose its plant: it goes on serving what it knew.
func (u *Unit) SetStale(on bool) { u.stale = on }

// firstMeasured is the first register, as printed, of what a module says of its pump.
const firstMeasured = 201

// Mark has the unit answer, in place of what it measures, the numbers that mark
// makes of its address, the printed register and the answers so far.
func (u *Unit) Mark(mark func(address byte, register, answer int) uint16) { u.marked = mark }

// Advance lets time pass up to now.
func (u *Unit) Advance(now time.Time) {
	if now.Before(u.look.now) {
		return
	}
	u.plant.Advance(now.Sub(u.began))
	// A module asks its product about twenty times a second.
	const ask = 50 * time.Millisecond
	asked := uint32(now.Sub(u.told) / ask)
	u.told = u.told.Add(time.Duration(asked) * ask)
	u.transmit += asked
	u.look.now = now
	if u.stale {
		return
	}
	u.receive += asked
	u.at, u.state = now, u.plant.State()
	u.pumps = u.pumps[:0]
	if n := u.plant.Pumps(); n > 1 {
		for i := range n {
			u.pumps = append(u.pumps, u.plant.PumpState(i))
		}
	}
}

// Answer acts on a frame that came off the wire whole at the time now. It
// returns false for a frame that is not for this unit.
func (u *Unit) Answer(frame []byte, now time.Time) (Answer, bool) {
	if !Sound(frame) || frame[0] != u.address && frame[0] != 0 {
		return Answer{}, false
	}
	u.Advance(now)
	a := Answer{Address: u.address, Function: frame[1], Sampled: u.at, Stale: u.stale}
	if u.listening && !restarts(frame) {
		return a, true
	}
	data := frame[2 : len(frame)-2]
	var reply []byte
	switch a.Function {
	case readHolding, readInput:
		reply = u.read(&a, data)
	case writeRegister:
		reply = u.write(&a, data, len(data) == 4)
	case writeRegisters:
		reply = u.writeMany(&a, data)
	case diagnostics:
		reply = u.diagnose(&a, data)
	case readCoils, readDiscretes, writeCoil, writeCoils:
		if d, ok := u.regs.(*drive); ok {
			reply = d.answerBits(&a, data)
		} else {
			a.Exception = IllegalFunction
		}
	default:
		a.Exception = IllegalFunction
	}
	if a.Exception != 0 {
		u.diagnostic[2]++
		reply = append([]byte{frame[0], a.Function | refused}, byte(a.Exception))
	}
	u.diagnostic[3]++
	if frame[0] == 0 || reply == nil {
		return a, true // nobody answers a broadcast
	}
	a.Frame = Seal(reply)
	if m, ok := u.regs.(*module); ok {
		a.Delay = m.delay()
	}
	return a, true
}

func (u *Unit) head(a *Answer, more ...byte) []byte {
	return append([]byte{u.address, a.Function}, more...)
}

func (u *Unit) read(a *Answer, data []byte) []byte {
	if len(data) != 4 {
		a.Exception = IllegalValue
		return nil
	}
	count := int(binary.BigEndian.Uint16(data[2:]))
	a.Start = int(binary.BigEndian.Uint16(data))
	if count < 1 || count > 125 {
		a.Exception = IllegalValue
		return nil
	}
	if a.Values, a.Exception = u.regs.Read(a.Start, count); a.Exception != 0 {
		return nil
	}
	u.answers++
	if u.marked != nil {
		for i, v := range a.Values {
			if register := a.Start + i + 1; register >= firstMeasured && v != none {
				a.Values[i] = min(u.marked(u.address, register, u.answers), maxRaw)
			}
		}
	}
	reply := u.head(a, byte(2*count))
	for _, v := range a.Values {
		reply = binary.BigEndian.AppendUint16(reply, v)
	}
	return reply
}

func (u *Unit) write(a *Answer, data []byte, whole bool) []byte {
	if !whole {
		a.Exception = IllegalValue
		return nil
	}
	a.Start = int(binary.BigEndian.Uint16(data))
	a.Values = []uint16{binary.BigEndian.Uint16(data[2:])}
	if a.Exception = u.regs.Write(a.Start, a.Values); a.Exception != 0 {
		return nil
	}
	return u.head(a, data...)
}

func (u *Unit) writeMany(a *Answer, data []byte) []byte {
	if len(data) < 5 {
		a.Exception = IllegalValue
		return nil
	}
	count := int(binary.BigEndian.Uint16(data[2:]))
	a.Start = int(binary.BigEndian.Uint16(data))
	if count < 1 || count > 123 || int(data[4]) != 2*count || len(data) != 5+2*count {
		a.Exception = IllegalValue
		return nil
	}
	for i := range count {
		a.Values = append(a.Values, binary.BigEndian.Uint16(data[5+2*i:]))
	}
	if a.Exception = u.regs.Write(a.Start, a.Values); a.Exception != 0 {
		return nil
	}
	return u.head(a, data[:4]...)
}

// Sub-functions of the diagnostics, application protocol chapter 6.8.
const (
	returnQuery      = 0x00
	restartComms     = 0x01
	returnRegister   = 0x02
	listenOnly       = 0x04
	clearCounters    = 0x0A
	busMessages      = 0x0B // 0x0B to 0x0E: the counters
	serverMessageCnt = 0x0E
)

func restarts(frame []byte) bool {
	return frame[1] == diagnostics && frame[2] == 0 && frame[3] == restartComms
}

func (u *Unit) diagnose(a *Answer, data []byte) []byte {
	if len(data) < 4 {
		a.Exception = IllegalValue
		return nil
	}
	a.Start = int(binary.BigEndian.Uint16(data))
	value := binary.BigEndian.Uint16(data[2:])
	switch a.Start {
	case returnQuery:
		return u.head(a, data...)
	case restartComms:
		was := u.listening
		u.listening = false
		clear(u.diagnostic[:])
		if was {
			return nil // it was silent when it was asked
		}
	case returnRegister:
		value = 0 // no fault of the module itself
		if u.stale {
			value |= 1 // internal communication failure
		}
	case listenOnly:
		u.listening = true
		return nil
	case clearCounters:
		clear(u.diagnostic[:])
	case busMessages, busMessages + 1, busMessages + 2, serverMessageCnt:
		value = u.diagnostic[a.Start-busMessages]
	default:
		a.Exception = IllegalFunction
		return nil
	}
	a.Values = []uint16{value}
	reply := u.head(a, data[:2]...)
	return binary.BigEndian.AppendUint16(reply, value)
}

// Heard counts a frame on the line, whoever it was for; sound says whether its
// checksum was right.
func (u *Unit) Heard(sound bool) {
	u.diagnostic[0]++
	if !sound {
		u.diagnostic[1]++
	}
}
