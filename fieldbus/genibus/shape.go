package genibus

import (
	"hash/maphash"

	"penstock/fieldbus/lateness"
)

// shapeOf is what the replies to a request look like: its classes, operations and
// counts. Requests of different shapes cannot be answered by one another's
// replies. A SET is answered alike whatever it sets.
func shapeOf(pdu []byte) lateness.Shape {
	h := uint64(14695981039346656037) // FNV-1a
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for {
		a, rest, ok, err := Next(pdu)
		if err != nil || !ok {
			return lateness.Shape(h)
		}
		mix(byte(a.Class))
		switch {
		case a.Operation() == Set:
			mix(0)
		case a.Operation() == Info:
			mix(0x80 | byte(len(a.Data)))
		default:
			mix(byte(len(a.Data)*max(a.Class.width(), 1)) & 0x7F)
		}
		pdu = rest
	}
}

var seed = maphash.MakeSeed()

// blockOf names what a request is about: the request as it was asked for.
func blockOf(pdu []byte) lateness.Block { return lateness.Block(maphash.Bytes(seed, pdu)) }

// Variant is one way to put a request on the wire without changing what it asks
// for: how many items are asked for twice at its end, and whether its last APDU
// goes first.
type Variant struct {
	Pad    int
	Turned bool
}

// padMost is by how many items a request is lengthened at most to look different
// from those before it.
const padMost = 4

// append appends the request to b as the variant puts it. It reports false where
// the request cannot be put so.
func (v Variant) append(b, pdu []byte) ([]byte, bool) {
	b = padded(b, pdu, v.Pad)
	return b, !v.Turned || rotate(b)
}

// eachVariant calls use with each way to put a request to a device with this
// buffer, the cheapest first, until it returns false. sent is valid during the
// call.
func eachVariant(room, pdu []byte, buffer int, use func(v Variant, sent []byte) bool) {
	for i := range 2 * (padMost + 1) {
		v := Variant{Pad: i / 2, Turned: i%2 == 1}
		sent, ok := v.append(room[:0], pdu)
		if ok && (i == 0 || Fits(sent, buffer)) && !use(v, sent) {
			return
		}
	}
}

// Assign gives each of the requests that one unit is asked regularly the ways to
// put it in which its reply cannot be taken for that of another of them: no two
// requests share a shape. taken holds the shapes that are given already, and is
// added to. Each request is given its cheapest way before any is given its second,
// and most ways at the most. A request that is given none has to be told apart by
// waiting.
func Assign(taken map[lateness.Shape]bool, pdus [][]byte, buffer, most int) [][]Variant {
	out := make([][]Variant, len(pdus))
	var room [MaxPDU]byte
	for range most {
		for i, pdu := range pdus {
			eachVariant(room[:0], pdu, buffer, func(v Variant, sent []byte) bool {
				s := shapeOf(sent)
				if taken[s] {
					return true
				}
				taken[s] = true
				out[i] = append(out[i], v)
				return false
			})
		}
	}
	return out
}
