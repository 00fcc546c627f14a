package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"penstock/fieldbus/lateness"
)

// The function codes of the application protocol, chapter 6, that this package
// knows the answer's length of.
const (
	readCoils          = 1
	readDiscretes      = 2
	readHolding        = 3
	readInput          = 4
	writeCoil          = 5
	writeRegister      = 6
	diagnostics        = 8
	writeCoils         = 15
	writeRegisters     = 16
	maskWrite          = 22
	readWriteRegisters = 23

	refused = 0x80 // set in an exception's function code
)

const (
	frameMax      = 256 // address, PDU of at most 253, CRC
	frameMin      = 4
	exceptionSize = 5
)

var crcTable = func() (table [256]uint16) {
	for i := range table {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
		table[i] = c
	}
	return table
}()

// crc is the CRC-16 of the serial line guide, chapter 6.2.2.
func crc(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, v := range b {
		c = c>>8 ^ crcTable[byte(c)^v]
	}
	return c
}

// sound tells whether a whole frame carries its own checksum.
func sound(frame []byte) bool {
	n := len(frame)
	return n >= frameMin && crc(frame[:n-2]) == binary.LittleEndian.Uint16(frame[n-2:])
}

// answer describes the frame that a request asks for.
type answer struct {
	address, function byte
	fixed             [6]byte // the data bytes known beforehand …
	known             int     // … and how many they are
	size              int     // of the whole frame
}

// expect derives the answer from a request. The request is a whole frame as the
// packager makes it.
func expect(adu []byte) (answer, error) {
	if len(adu) < frameMin || len(adu) > frameMax {
		return answer{}, fmt.Errorf("modbus: a request of %d bytes: a frame has %d to %d", len(adu), frameMin, frameMax)
	}
	a := answer{address: adu[0], function: adu[1]}
	data := adu[2 : len(adu)-2]
	short := false
	counted := func(n int) { // byte count, then n bytes
		a.fixed[0], a.known, a.size = byte(n), 1, 5+n
	}
	same := func(n int) { // the request's own first n data bytes
		if short = len(data) < n; !short {
			a.known = copy(a.fixed[:], data[:n])
			a.size = 4 + n
		}
	}
	switch a.function {
	case readCoils, readDiscretes:
		if short = len(data) < 4; !short {
			counted((int(binary.BigEndian.Uint16(data[2:])) + 7) / 8)
		}
	case readHolding, readInput, readWriteRegisters:
		if short = len(data) < 4; !short {
			counted(2 * int(binary.BigEndian.Uint16(data[2:])))
		}
	case writeCoil, writeRegister, writeCoils, writeRegisters:
		same(4)
	case maskWrite:
		same(6)
	case diagnostics:
		// The sub-function comes back; so does the data of sub-function 0, but
		// that of a counter is the counter. Only two-byte data is defined
		// for the others.
		if len(data) >= 4 && data[0] == 0 && data[1] == 0 {
			same(4)
		} else {
			same(2)
		}
		a.size = 4 + len(data)
	default:
		return a, fmt.Errorf("modbus: function %d: the length of its answer is not known", a.function)
	}
	if short {
		return a, fmt.Errorf("modbus: function %d with %d bytes of data is cut short", a.function, len(data))
	}
	if a.size > frameMax {
		return a, fmt.Errorf("modbus: function %d asks for an answer of %d bytes: a frame has at most %d", a.function, a.size, frameMax)
	}
	return a, nil
}

// shape is what tells one answer from another: the function, and those bytes
// after it that are known before the answer comes (the byte count of a read, the
// register and value of a write).
func (a *answer) shape() lateness.Shape {
	s := lateness.Shape(a.function)
	for i, b := range a.fixed[:a.known] {
		s |= lateness.Shape(b) << (8 * (i + 1))
	}
	return s
}

// shapeOf is the shape of an answer that came. A frame that is no answer has one
// that no request asks for.
func shapeOf(frame []byte) lateness.Shape {
	a := answer{function: frame[1]}
	data := frame[2 : len(frame)-2]
	switch a.function {
	case readCoils, readDiscretes, readHolding, readInput, readWriteRegisters:
		a.known = 1
	case maskWrite:
		a.known = 6
	case diagnostics:
		if a.known = 2; len(data) >= 4 && data[0] == 0 && data[1] == 0 {
			a.known = 4
		}
	default:
		a.known = 4
	}
	a.known = copy(a.fixed[:a.known], data)
	return a.shape()
}

// twin tells whether the answer is, byte for byte, the request itself.
func (a *answer) twin(adu []byte) bool {
	return a.size == len(adu) && a.known == len(adu)-4
}

// match is the outcome of comparing bytes with an answer.
type match int

const (
	no      match = iota // these bytes do not begin the answer
	part                 // they may, but more are needed
	damaged              // they begin like it and have its length, but not its checksum
	yes
)

// compare tells whether b begins with the answer or with its exception, and how
// long it is.
func (a *answer) compare(b []byte) (match, int) {
	if len(b) == 0 {
		return part, 0
	}
	if b[0] != a.address {
		return no, 0
	}
	if len(b) == 1 {
		return part, 0
	}
	size := a.size
	switch b[1] {
	case a.function:
		n := min(a.known, len(b)-2)
		if !bytes.Equal(b[2:2+n], a.fixed[:n]) {
			return no, 0
		}
	case a.function | refused:
		size = exceptionSize
	default:
		return no, 0
	}
	switch {
	case len(b) < size:
		return part, 0
	case sound(b[:size]):
		return yes, size
	}
	return damaged, 0
}

// frameAt returns the length of the well-formed frame that b begins with, of
// whatever device and direction, or 0.
func frameAt(b []byte) int {
	if len(b) < frameMin {
		return 0
	}
	var sizes [3]int
	switch function := b[1]; {
	case function&refused != 0:
		sizes[0] = exceptionSize
	case function == readWriteRegisters && len(b) > 10:
		sizes = [3]int{5 + int(b[2]), 13 + int(b[10]), 0}
	case function <= readInput || function == readWriteRegisters:
		sizes = [3]int{5 + int(b[2]), 8, 0}
	case (function == writeCoils || function == writeRegisters) && len(b) > 6:
		sizes = [3]int{8, 9 + int(b[6]), 0}
	case function == maskWrite:
		sizes[0] = 10
	default:
		sizes[0] = 8
	}
	for _, n := range sizes {
		if n >= frameMin && n <= len(b) && sound(b[:n]) {
			return n
		}
	}
	return 0
}
