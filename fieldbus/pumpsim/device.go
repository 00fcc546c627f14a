package pumpsim

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/fieldbus/pumpsim/geni"
	"penstock/fieldbus/pumpsim/physics"
	"penstock/fieldbus/pumpsim/rtu"
)

// Protocol is what a line speaks.
type Protocol string

// The protocols.
const (
	Modbus  Protocol = "modbus"
	GENIbus Protocol = "genibus"
)

// geniMode is the one speed and format of GENIbus.
var geniMode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// device is a unit on the line, of either protocol.
type device interface {
	Address() byte
	Plant() *physics.Plant
	Advance(now time.Time)
	// heard tells of a frame on the line, whoever it was for.
	heard(sound bool)
	// reply acts on a frame; false if it was not for this device.
	reply(frame []byte, now time.Time) (reply, bool)
	// setStale has the device's module lose its pump.
	setStale(on bool) error
	// mark is PumpOptions.Marked.
	mark()
}

// reply is what a device made of a frame.
type reply struct {
	served Served
	frame  []byte        // nil: it is silent
	delay  time.Duration // the least it waits, from the request's last bit
	shy    bool          // it answers only if the wire is silent then
}

// framing is what the line has to know of a protocol's frames.
type framing interface {
	// silence is what ends a frame, and parts two.
	silence(fieldbus.Mode) time.Duration
	sound(frame []byte) bool
	target(frame []byte) byte
	source(frame []byte) byte
	// refuse is the refusal of a request that would have had this answer.
	refuse(request, answer []byte, code int) []byte
	// function is the function code of a request; 0 where there is none.
	function(request []byte) int
	// ready is the answer with a ready-for-send byte; nil where there is none.
	ready(answer []byte, roll *rand.Rand) []byte
	readdress(frame []byte, source byte) []byte
	// scramble is a sound frame of the same shape with other values.
	scramble(frame []byte, roll *rand.Rand) []byte
	// burst damages bits within a run of n, in the order of the checksum.
	burst(frame []byte, n int, roll *rand.Rand)
}

// mark is the number that a marked unit gives as a value in one of its answers.
func mark(address byte, item, answer int) uint16 {
	x := uint64(address)<<56 | uint64(item)<<40 | uint64(answer)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return uint16(x ^ x>>31)
}

// modbusDevice is a communication module with its pump.
type modbusDevice struct{ *rtu.Unit }

func (d modbusDevice) heard(sound bool)       { d.Heard(sound) }
func (d modbusDevice) setStale(on bool) error { d.SetStale(on); return nil }
func (d modbusDevice) mark()                  { d.Mark(mark) }

func (d modbusDevice) reply(frame []byte, now time.Time) (reply, bool) {
	a, ok := d.Answer(frame, now)
	return reply{
		served: Served{
			Sampled: a.Sampled, Address: int(a.Address), Function: int(a.Function), Start: a.Start,
			Values: a.Values, Exception: int(a.Exception), Stale: a.Stale,
		},
		frame: a.Frame, delay: a.Delay,
	}, ok
}

type modbusFraming struct{}

// silence is 3.5 characters, or 1.75 ms above 19200 baud (serial line guide,
// chapter 2.5.1.1).
func (modbusFraming) silence(m fieldbus.Mode) time.Duration {
	if m.Baud > 19200 {
		return 1750 * time.Microsecond
	}
	return 7 * m.Wire(1) / 2
}

func (modbusFraming) sound(b []byte) bool                    { return rtu.Sound(b) }
func (modbusFraming) target(b []byte) byte                   { return b[0] }
func (modbusFraming) source(b []byte) byte                   { return b[0] }
func (modbusFraming) function(b []byte) int                  { return int(b[1]) }
func (modbusFraming) ready([]byte, *rand.Rand) []byte        { return nil }
func (modbusFraming) readdress(b []byte, source byte) []byte { return rtu.Readdress(b, source) }
func (modbusFraming) burst(b []byte, n int, roll *rand.Rand) { fault.BurstBits(b, n, roll) }

func (modbusFraming) refuse(_, answer []byte, code int) []byte {
	return rtu.Refuse(answer, rtu.Exception(code))
}

func (modbusFraming) scramble(frame []byte, roll *rand.Rand) []byte {
	b := append([]byte(nil), frame[:len(frame)-2]...)
	for i := 3; i < len(b); i++ {
		b[i] = byte(roll.Uint32())
	}
	return rtu.Seal(b)
}

// geniDevice is a unit on GENIbus.
type geniDevice struct{ *geni.Unit }

func (d geniDevice) heard(bool) {}
func (d geniDevice) mark()      { d.Mark(mark) }

func (d geniDevice) setStale(bool) error {
	return errors.New("a pump on GENIbus has no module that could lose it")
}

func (d geniDevice) reply(frame []byte, now time.Time) (reply, bool) {
	a, ok := d.Answer(frame, now)
	return reply{
		served: Served{Sampled: a.Sampled, Address: int(a.Address), Items: a.Items, Set: a.Set, Refused: a.Refused},
		frame:  a.Frame, delay: a.Delay, shy: a.Shy,
	}, ok
}

type geniFraming struct{}

// silence is the idle time that units detect (GENIbus Protocol Specification,
// 1.5 to 2.7 ms). Within a telegram a byte follows the other after 1.2 ms at most.
func (geniFraming) silence(fieldbus.Mode) time.Duration    { return 1500 * time.Microsecond }
func (geniFraming) sound(b []byte) bool                    { return geni.Sound(b) }
func (geniFraming) target(b []byte) byte                   { return geni.Target(b) }
func (geniFraming) source(b []byte) byte                   { return geni.Source(b) }
func (geniFraming) function([]byte) int                    { return 0 }
func (geniFraming) readdress(b []byte, source byte) []byte { return geni.Readdress(b, source) }

// refuse takes the codes 1 to 3 of the acknowledge; any other is "operation
// illegal".
func (geniFraming) refuse(request, answer []byte, code int) []byte {
	return geni.Refuse(request, answer, byte(min(code, 3)))
}

func (geniFraming) ready(answer []byte, roll *rand.Rand) []byte { return geni.Ready(answer, roll.IntN) }

func (geniFraming) scramble(b []byte, roll *rand.Rand) []byte {
	return geni.Scramble(b, func() byte { return byte(roll.Uint32()) })
}

// burst turns the bytes round, since this checksum takes each byte's highest bit
// first, and spares the start byte, which it does not cover.
func (geniFraming) burst(b []byte, n int, roll *rand.Rand) {
	b = b[1:]
	turn := func() {
		for i := range b {
			b[i] = bits.Reverse8(b[i])
		}
	}
	turn()
	fault.BurstBits(b, n, roll)
	turn()
}

// newDevice makes the device of a model at an address.
func newDevice(p Protocol, m model, address byte, plant *physics.Plant, seed int64, now time.Time) (device, error) {
	if p == GENIbus {
		if m.geni == nil {
			return nil, fmt.Errorf("the model %s is not on GENIbus", m.name)
		}
		return geniDevice{geni.New(address, *m.geni, plant, seed, now)}, nil
	}
	if m.kind == "" {
		return nil, fmt.Errorf("the model %s is not on Modbus", m.name)
	}
	return modbusDevice{rtu.New(address, m.kind, m.id, plant, now)}, nil
}
