package geni

import (
	"math"

	"penstock/fieldbus/pumpsim/physics"
)

// Classes of items.
const (
	protocolData  = 0
	measured      = 2
	commands      = 3
	configuration = 4
	reference     = 5
	text          = 7
	measured16    = 11
)

// Formats of items, the SIF of an INFO head.
const (
	plain    = 0
	bits     = 1
	scaled   = 2
	extended = 3
)

// unit is a row of the unit table: its index, and what one of it is worth.
type unit struct {
	index  byte
	factor float64
}

// Units of the table (GENIbus Protocol Specification; 10 to 15 as in MP 204,
// edition 2.28).
var (
	current01 = unit{1, 0.1}  // A
	voltage01 = unit{3, 0.1}  // V
	voltage5  = unit{5, 5}    // V
	power1    = unit{7, 1}    // W
	power10   = unit{8, 10}   // W
	power100  = unit{9, 100}  // W
	hertzHalf = unit{11, 0.5} // Hz
	hertz     = unit{16, 1}   // Hz
	hertz2    = unit{38, 2}   // Hz
	rpm12     = unit{18, 12}  // 1/min
	rpm100    = unit{19, 100} // 1/min
	celsius   = unit{21, 1}   // °C
	flow1     = unit{23, 1}   // m³/h
	head1     = unit{25, 1}   // m
	percent   = unit{30, 1}   // %
	kWh1      = unit{31, 1}   // kWh
	kWh100    = unit{33, 100} // kWh
	minutes   = unit{80, 1}   // min
	flow01    = unit{22, 0.1} // m³/h
	bar001    = unit{27, 0.01}
	noUnit    = unit{127, 1}
)

// item is a value of one or more bytes.
type item struct {
	class, id byte
	width     int // bytes, at consecutive IDs
	format    byte
	unit      unit
	zero      int
	span      int  // RANGE
	valid     bool // 0xFF is a value
	whole     bool // all bytes at one ID (classes 11 and up)
	get       func(u *Unit) float64
	follow    func(u *Unit) item // if the scale follows the control mode: the item as it is now
	set       func(u *Unit, v byte) bool
}

// raw codes a value, the high byte first.
func (it *item) raw(v float64) []byte {
	n := v
	most := math.Exp2(float64(8 * it.width))
	if !it.valid {
		most -= math.Exp2(float64(8 * (it.width - 1))) // the high byte is not 0xFF
	}
	switch it.format {
	case scaled:
		n = (v/it.unit.factor - float64(it.zero)) * 254 / float64(it.span) * math.Exp2(float64(8*(it.width-1)))
	case extended:
		n = v/it.unit.factor - float64(it.zero)*math.Exp2(float64(8*(it.width-2)))
		if it.width == 1 {
			n = v/it.unit.factor - float64(it.zero)
		}
	}
	b := make([]byte, it.width)
	if math.IsNaN(v) {
		b[0] = 0xFF
		return b
	}
	whole := uint64(min(max(math.Round(n), 0), most-1))
	for i := range b {
		b[i] = byte(whole >> (8 * (it.width - 1 - i)))
	}
	return b
}

// info is the entry of an INFO reply for one byte of the item.
func (it *item) info(at int) []byte {
	head := byte(0x80) | it.format
	if it.set == nil {
		head |= 3 << 2 // cannot be changed
	}
	if it.valid {
		head |= 0x20
	}
	if at > 0 {
		return []byte{head | 0x30} // a low-order byte: every value is one
	}
	if it.format < scaled {
		return []byte{head}
	}
	index, zero := it.unit.index, it.zero
	if zero < 0 {
		index, zero = index|0x80, -zero
	}
	if it.format == scaled {
		return []byte{head, index, byte(zero), byte(it.span)}
	}
	return []byte{head, index, byte(zero >> 8), byte(zero)}
}

// m8 is a scaled measured item of 8 bits.
func m8(id byte, u unit, zero, span int, get func(u *Unit) float64) item {
	return item{class: measured, id: id, width: 1, format: scaled, unit: u, zero: zero, span: span, get: get}
}

// m16 is one of 16 bits.
func m16(id byte, u unit, span int, get func(u *Unit) float64) item {
	return item{class: measured, id: id, width: 2, format: scaled, unit: u, span: span, get: get}
}

// xn is a measured item of extended precision and so many bytes.
func xn(id byte, width int, u unit, get func(u *Unit) float64) item {
	return item{class: measured, id: id, width: width, format: extended, unit: u, get: get}
}

// number is a measured item without a scale, of so many bytes.
func number(id byte, width int, get func(u *Unit) float64) item {
	return item{class: measured, id: id, width: width, format: plain, valid: true, get: get}
}

// flags is a measured item of bits.
func flags(id byte, get func(u *Unit) float64) item {
	return item{class: measured, id: id, width: 1, format: bits, valid: true, get: get}
}

// constant is a value that stays.
func constant(v float64) func(*Unit) float64 { return func(*Unit) float64 { return v } }

// of takes a value out of the plant's state.
func of[T ~float64](get func(s *physics.State) T) func(*Unit) float64 {
	return func(u *Unit) float64 { return float64(get(&u.state)) }
}
