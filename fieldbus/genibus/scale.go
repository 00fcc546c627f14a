package genibus

import (
	"errors"
	"fmt"
	"math/big"
)

// Scale turns the raw integer of an item into a value, exactly:
//
//	value = (Num*raw + Add) / Den  in Unit
type Scale struct {
	Num, Add, Den int64
	Unit          Unit
}

// Why an item has no scale.
var (
	// ErrNoUnit: the device has no unit for the item, or one that is not in the
	// table. The raw value is kept all the same.
	ErrNoUnit = errors.New("genibus: no unit is known for the item")
	// ErrWidth: the format has no meaning for a value of this many bytes.
	ErrWidth = errors.New("genibus: the format does not fit the width")
)

// pure is the unit of a number that counts something.
var pure = Unit{"number", 1, 1, "1"}

// Scale is the scale of a value of width bytes, 1 to 4, of which this is the
// meaning of the first (GENIbus Application Programmers Manual, chapter on
// scaling). A number or a bit field is its own value.
func (m Meaning) Scale(width int, g Generation) (Scale, error) {
	if width < 1 || width > 4 || m.Format == Scaled && width > 2 {
		return Scale{}, fmt.Errorf("%w: %d bytes", ErrWidth, width)
	}
	if m.Format < Scaled || m.LowByte {
		return Scale{Num: 1, Den: 1, Unit: pure}, nil
	}
	u, ok := g.Lookup(m.Unit)
	if !ok {
		return Scale{}, fmt.Errorf("%w: unit index %d", ErrNoUnit, m.Unit)
	}
	zero := int64(m.Zero)
	if m.Negative {
		zero = -zero
	}
	s := Scale{Num: u.Num, Den: u.Den, Unit: u}
	if m.Format == Extended {
		// The zero counts in steps of the value's two highest bytes, or in its
		// only one.
		s.Add = zero << (8 * max(width-2, 0)) * u.Num
		return s.reduced(), nil
	}
	full := int64(254)
	switch {
	case width == 2:
		full *= 256
	case m.AllValid:
		full = 255
	}
	s.Num *= int64(m.Range)
	s.Add = zero * full * u.Num
	s.Den *= full
	return s.reduced(), nil
}

// reduced is the scale in lowest terms.
func (s Scale) reduced() Scale {
	g := gcd(gcd(abs(s.Num), abs(s.Add)), s.Den)
	s.Num, s.Add, s.Den = s.Num/g, s.Add/g, s.Den/g
	return s
}

func abs(x int64) int64 { return max(x, -x) }

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, 1)
}

// Exact is the value of a raw integer, without rounding.
func (s Scale) Exact(raw uint32) *big.Rat {
	n := new(big.Int).Mul(big.NewInt(s.Num), big.NewInt(int64(raw)))
	n.Add(n, big.NewInt(s.Add))
	return new(big.Rat).SetFrac(n, big.NewInt(s.Den))
}

// Float is the value of a raw integer, for display.
func (s Scale) Float(raw uint32) float64 {
	f, _ := s.Exact(raw).Float64()
	return f
}
