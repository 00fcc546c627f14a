package profile

import (
	"math"
	"math/big"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

// Profile is one pump family. It is immutable once loaded.
type Profile struct {
	Name      string // the file's name without .yaml, e.g. "cim-epump"
	Title     string // one line for people
	Source    string // where the facts come from
	Numbering int    // the printed number of the register that travels as 0: 1 or 0
	Match     []Match
	Line      Line
	Timing    Timing
	Identity  *Identity // nil: the device does not tell what it is
	Alive     *Alive    // nil: a value that arrives is a fresh one
	Blocks    []Block   // sorted, apart from one another
	Items     []Item    // sorted by period, then register
	Commands  []Command // in the file's order

	Protocol   Protocol // "" is Modbus
	FirstUnits bool     // GENIbus: its unit table is the one of 2000
}

// Match is a device that this family reads, as its module identifies it. A nil
// Type or Version fits any.
type Match struct {
	Family        int
	Type, Version *int
}

// Line is how the device leaves the factory.
type Line struct {
	Mode    fieldbus.Mode
	Address int
}

// Timing is what is known of the device's pace. Zero means unknown.
type Timing struct {
	ReplyMin time.Duration // never wait less for an answer to begin
	ReplyMax time.Duration // wait this long while the device's own pace is unknown
	Quiet    time.Duration // after a request that was given up, leave the device alone
	Pause    time.Duration // leave the device alone this long after each of its answers
	// ReplyDelay is what such a device waits before each answer, where a pump's own
	// setting does not say otherwise.
	ReplyDelay time.Duration
}

// Identity names the registers in which a module says what it is, and how long
// it waits before it answers. A zero register is absent.
type Identity struct {
	Family, Type, Version int
	ReplyDelay            int // in milliseconds
}

// Alive names a counter that grows as long as a communication module hears its
// pump. A module that has lost its pump goes on serving the last values; then
// the counter stands still.
type Alive struct {
	Register  int
	Width     int // 16 or 32
	Period    time.Duration
	Unchanged int // this many equal answers in a row after the first mean: lost
}

// Functions says which functions read a block.
type Functions byte

// The ways to read a block.
const (
	Either    Functions = iota // 03 and 04 return the same
	Holding                    // 03 only
	Input                      // 04 only
	Coils                      // 01: coils, single bits
	Discretes                  // 02: discrete inputs, single bits
)

// Block is a range of registers that the device answers as a whole.
type Block struct {
	Name        string
	First, Last int // printed numbers, both included
	Functions   Functions
}

// Coils and discrete inputs have numbers of their own. Inside a family these are
// added to them, so that a number says of what it is; Wire takes them off again.
const (
	firstCoil     = 1 << 16
	firstDiscrete = 2 << 16
)

// IsCoil tells whether a number of a family is a coil's.
func IsCoil(number int) bool { return number >= firstCoil && number < firstDiscrete }

// Contains tells whether the registers from first to last lie in the block.
func (b Block) Contains(first, last int) bool { return b.First <= first && last <= b.Last }

// Item is one point of the family: where it is and what it means.
type Item struct {
	Point     telemetry.Point
	Block     int // index into Profile.Blocks
	Register  int // printed number of the first register
	Width     int // 16, 32 or 64 bits; 1 of a coil or discrete input
	Signed    bool
	LowFirst  bool            // the first register is the low one
	Swapped   bool            // the two bytes of each register have changed places
	Float     *big.Rat        // IEEE 754 single precision, rounded to whole steps of this size; nil: an integer
	Bits      *Bits           // nil: the whole value
	OnesValid bool            // all bits set is a value; else it means "not available" (see Decode)
	Absent    []int64         // further values that mean "not available"
	Map       map[int64]int64 // the device's codes to the vocabulary's; nil: the same
	Scale     telemetry.Scale // raw to the vocabulary's unit
	Period    time.Duration
	Uncertain string // why the entry may be wrong; "" when it is not in doubt

	Geni *GeniItem // where it is on GENIbus, instead of Block and Register
}

// Bits is a part of a register: bits Low to High, both included.
type Bits struct{ Low, High int }

// Registers is the number of registers, coils or discrete inputs that the item takes.
func (it Item) Registers() int { return max(1, it.Width/16) }

// Last is the printed number of the item's last register.
func (it Item) Last() int { return it.Register + it.Registers() - 1 }

// Decode takes the item's value from its registers.
func (it Item) Decode(regs []uint16) (raw int64, q telemetry.Quality) {
	v := it.pattern(regs[:it.Registers()])
	if it.Float != nil {
		return it.float(math.Float32frombits(uint32(v)))
	}
	if !it.OnesValid && it.ones(v) {
		return 0, telemetry.NotAvailable
	}
	switch {
	case it.Bits != nil:
		raw = int64(v >> it.Bits.Low & (1<<(it.Bits.High-it.Bits.Low+1) - 1))
	case it.Signed:
		raw = int64(v<<(64-it.Width)) >> (64 - it.Width)
	default:
		if raw = int64(v); raw < 0 {
			return 0, telemetry.NotAvailable // 64 bits without a sign; no pump counts that far
		}
	}
	if slices.Contains(it.Absent, raw) {
		return 0, telemetry.NotAvailable
	}
	if to, ok := it.Map[raw]; ok {
		raw = to
	}
	return raw, telemetry.Good
}

// pattern puts the bits of the registers together, the highest first.
func (it Item) pattern(regs []uint16) (v uint64) {
	for i := range regs {
		r := regs[i]
		if it.LowFirst {
			r = regs[len(regs)-1-i]
		}
		if it.Swapped {
			r = r<<8 | r>>8
		}
		v = v<<16 | uint64(r)
	}
	return v
}

// float rounds a floating-point number to whole steps, halves away from zero. What
// is no number is not available.
func (it Item) float(f float32) (raw int64, q telemetry.Quality) {
	v := new(big.Rat).SetFloat64(float64(f))
	if v == nil { // infinite, or not a number
		return 0, telemetry.NotAvailable
	}
	v.Quo(v, it.Float)
	half := big.NewRat(int64(v.Sign()), 2)
	v.Add(v, half)
	n := new(big.Int).Quo(v.Num(), v.Denom()) // towards zero
	if !n.IsInt64() || slices.Contains(it.Absent, n.Int64()) {
		return 0, telemetry.NotAvailable
	}
	return n.Int64(), telemetry.Good
}

// ones tells whether a value has all bits set that say "not available". In a
// value of several registers without a sign the highest register says it for all:
// a device may fill in the others, and no counter of a pump comes that far. The
// low registers alone do not say it, because a counter passes 65535. A negative
// number of several registers has the highest one set as well, so with a sign all
// bits count.
func (it Item) ones(v uint64) bool {
	if it.Signed {
		return v == 1<<it.Width-1
	}
	return v>>(it.Width-16) == 0xFFFF
}

// Series is the item as a series of a pump.
func (it Item) Series(pump string) telemetry.Series {
	return telemetry.Series{Pump: pump, Point: it.Point.Name, Unit: it.Point.Unit, Scale: it.Scale, Enum: it.Point.Enum}
}

// Wire is a printed number as it travels.
func (p *Profile) Wire(register int) uint16 { return uint16(register - p.Numbering) }

// Item finds a point of the family.
func (p *Profile) Item(point string) (Item, bool) {
	for _, it := range p.Items {
		if it.Point.Name == point {
			return it, true
		}
	}
	return Item{}, false
}

// Periods are the periods of the family's items, the shortest first.
func (p *Profile) Periods() (periods []time.Duration) {
	for _, it := range p.Items { // sorted by period
		if n := len(periods); n == 0 || periods[n-1] != it.Period {
			periods = append(periods, it.Period)
		}
	}
	return periods
}
