package profile

import (
	"math/big"

	"penstock/internal/telemetry"
)

// Protocol is the language that a family speaks.
type Protocol string

// The protocols.
const (
	Modbus  Protocol = "modbus"
	Genibus Protocol = "genibus"
)

// Confidence tells how a fact of a GENIbus family is known.
type Confidence string

// How facts are known, the surest first.
const (
	Primary    Confidence = "A" // read in a document of the pump's maker
	Excerpt    Confidence = "B" // a page of the maker's, seen as an excerpt
	ThirdParty Confidence = "C" // code or documents of a third party
	Derived    Confidence = "D" // derived for this project, or tested by it
)

// Text says it in words.
func (c Confidence) Text() string {
	switch c {
	case Primary:
		return "from the maker's document"
	case Excerpt:
		return "from an excerpt of the maker's document"
	case ThirdParty:
		return "from a third party"
	case Derived:
		return "derived for this project"
	}
	return "of unknown origin"
}

// GeniItem is where a point of a GENIbus device is. What it means (unit, scale,
// whether 0xFF is a value) the device tells itself, unless Fixed.
type GeniItem struct {
	Class int
	// IDs are the items that make up the value, its high byte first. In classes
	// of wider items it is one ID.
	IDs        []byte
	Fixed      bool           // Item.Scale is the file's, and holds whatever the device says
	Factor     *big.Rat       // the device's value is multiplied by this; nil is 1
	Follows    string         // the point on whose change the device is asked again what this means
	Alarms     map[byte]Bits8 // the value is the code of the first bit that is set
	Confidence Confidence
}

// Bits8 are the codes of a byte's bits, the lowest first; 0 is none.
type Bits8 [8]int64

// Bytes is the number of bytes that the value is put together from.
func (g *GeniItem) Bytes() int { return len(g.IDs) * GeniWidth(g.Class) }

// GeniWidth is how many bytes one ID of a class holds.
func GeniWidth(class int) int {
	switch class {
	case 11, 12, 13:
		return 2
	case 14:
		return 4
	}
	return 1
}

// GeniCommand is how a GENIbus device is told something.
type GeniCommand struct {
	Send      map[int64][]byte // commands of class 3, for each value
	Reference int              // or the item of class 5 that takes the value; 0 is none
	// Confidence tells how it is known.
	Confidence Confidence
}

// DecodeGeni takes the item's value from its bytes. allValid says that 0xFF is a
// value, as the device's INFO tells. An absent value is known by its high byte.
func (it Item) DecodeGeni(b []byte, allValid bool) (raw int64, q telemetry.Quality) {
	if it.Geni.Alarms != nil {
		return it.Geni.alarm(b)
	}
	if b[0] == 0xFF && !allValid && !it.OnesValid {
		return 0, telemetry.NotAvailable
	}
	for _, c := range b {
		raw = raw<<8 | int64(c)
	}
	if it.Bits != nil {
		raw = raw >> it.Bits.Low & (1<<(it.Bits.High-it.Bits.Low+1) - 1)
	}
	for _, a := range it.Absent {
		if raw == a {
			return 0, telemetry.NotAvailable
		}
	}
	if it.Map != nil {
		to, ok := it.Map[raw]
		if !ok {
			to = raw + Unmapped
		}
		raw = to
	}
	return raw, telemetry.Good
}

// Unmapped is added to a code that a GENIbus family's map does not hold, so that
// it is shown as unknown and not as the vocabulary's code of the same number.
const Unmapped = 1000

// otherFault is the code of a bit that is set and has no code.
const otherFault = 16

// alarm is the code of the first bit that is set. A byte of ones alone is "not
// available"; where all bytes are, nothing is known of alarms.
func (g *GeniItem) alarm(b []byte) (code int64, q telemetry.Quality) {
	q = telemetry.NotAvailable
	for i, id := range g.IDs {
		if b[i] == 0xFF {
			continue
		}
		q = telemetry.Good
		for bit, code := range g.Alarms[id] {
			if b[i]>>bit&1 == 0 {
				continue
			}
			if code == 0 {
				code = otherFault
			}
			return code, telemetry.Good
		}
	}
	return 0, q
}

// Speaks is the protocol of the family.
func (p *Profile) Speaks() Protocol {
	if p.Protocol == "" {
		return Modbus
	}
	return p.Protocol
}
