package genibus

import (
	"errors"
	"fmt"
)

// Format is how an item is coded, the two lowest bits of its INFO head.
type Format byte

// The formats.
const (
	Unscaled Format = 0 // a plain number
	BitField Format = 1 // each bit has a meaning
	Scaled   Format = 2 // zero and range, for values of 8 and 16 bits
	Extended Format = 3 // zero of 16 bits and steps of one unit, for 8 to 32 bits
)

// Meaning is what a device says of one item: an entry of an INFO reply.
type Meaning struct {
	Format   Format
	AllValid bool // 0xFF is a value like any other (VI); otherwise it means "not available"
	LowByte  bool // the item is a low-order byte of a longer value (BO)
	Access   byte // 0 user, 1 service, 2 factory, 3 cannot be changed
	Unit     byte // index of the unit table; 127: the device has none for it
	Negative bool // the zero is
	Zero     int  // without its sign
	Range    int  // Scaled only
}

// NoUnit is the unit index of an item without a unit.
const NoUnit = 127

// infoSize is the length of the entry that a head begins.
func infoSize(head byte) int {
	if Format(head&3) >= Scaled && head&headLow == 0 {
		return 4
	}
	return 1
}

// The bits of an INFO head.
const (
	headMark  = 0b1100_0000 // 10 in every head
	headValid = 0b0010_0000
	headLow   = 0b0001_0000
)

var errInfo = errors.New("genibus: this is no INFO entry")

// ParseInfo takes the first entry off the data of an INFO reply. Entries differ
// in length, so that they must be taken one after another.
func ParseInfo(data []byte) (m Meaning, rest []byte, err error) {
	if len(data) == 0 || data[0]&headMark != 0x80 {
		return Meaning{}, nil, errInfo
	}
	n := infoSize(data[0])
	if len(data) < n {
		return Meaning{}, nil, fmt.Errorf("%w: it stops after %d of %d bytes", errInfo, len(data), n)
	}
	m = Meaning{
		Format: Format(data[0] & 3), AllValid: data[0]&headValid != 0, LowByte: data[0]&headLow != 0,
		Access: data[0] >> 2 & 3, Unit: NoUnit,
	}
	if n == 4 {
		m.Unit, m.Negative = data[1]&0x7F, data[1]&0x80 != 0
		m.Zero, m.Range = int(data[2]), int(data[3])
		if m.Format == Extended {
			m.Zero, m.Range = m.Zero<<8|m.Range, 0
		}
	}
	return m, data[n:], nil
}

// Append appends the entry as a device sends it.
func (m Meaning) Append(data []byte) []byte {
	head := byte(0x80) | byte(m.Format) | m.Access<<2
	if m.AllValid {
		head |= headValid
	}
	if m.LowByte {
		head |= headLow
	}
	data = append(data, head)
	if infoSize(head) == 1 {
		return data
	}
	unit := m.Unit
	if m.Negative {
		unit |= 0x80
	}
	if m.Format == Extended {
		return append(data, unit, byte(m.Zero>>8), byte(m.Zero))
	}
	return append(data, unit, byte(m.Zero), byte(m.Range))
}

// infoFits tells whether data holds an entry for each item that was asked for.
// INFO of a command is its head alone, whatever its format says.
func infoFits(asked APDU, data []byte) bool {
	for range asked.Data {
		if asked.Class == Commands {
			if len(data) == 0 || data[0]&headMark != 0x80 {
				return false
			}
			data = data[1:]
			continue
		}
		_, rest, err := ParseInfo(data)
		if err != nil {
			return false
		}
		data = rest
	}
	return len(data) == 0
}

// available tells whether a value is one, by its high byte.
func (m Meaning) available(high byte) bool { return m.AllValid || high != 0xFF }

// Value puts a value together from its bytes, the high one first, and tells
// whether it is one: by the high byte alone, as devices mean it.
func (m Meaning) Value(b []byte) (raw uint32, available bool) {
	for _, c := range b {
		raw = raw<<8 | uint32(c)
	}
	return raw, len(b) > 0 && m.available(b[0])
}
