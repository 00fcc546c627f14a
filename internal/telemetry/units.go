package telemetry

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// NewScale returns the scale of a raw integer that counts steps of a unit, with
// an offset in that unit, into another unit of the same quantity. It is exact:
//
//	NewScale(1/100, 0, "K", "Cel")    // {1, -27315, 100}
//	NewScale(1/1000, 0, "bar", "m[H2O]") // {2000, 0, 196133}
func NewScale(step, offset *big.Rat, from, to string) (Scale, error) {
	mul, add := big.NewRat(1, 1), new(big.Rat)
	if from != to {
		f, ok := units[from]
		if !ok {
			return Scale{}, fmt.Errorf("unit %q is not known; a value in %q may be given in %s", from, to, alternatives(to))
		}
		t, ok := units[to]
		if !ok || t.quantity != f.quantity {
			return Scale{}, fmt.Errorf("unit %q is another quantity than %q, which may be given in %s", from, to, alternatives(to))
		}
		mul.Quo(rat(f.factor), rat(t.factor))
		add.Sub(rat(f.offset), rat(t.offset))
		add.Quo(add, rat(t.factor))
	}
	num := new(big.Rat).Mul(step, mul)
	add.Add(add, new(big.Rat).Mul(offset, mul))

	// One common denominator for both.
	gcd := new(big.Int).GCD(nil, nil, num.Denom(), add.Denom())
	den := new(big.Int).Div(new(big.Int).Mul(num.Denom(), add.Denom()), gcd)
	n := new(big.Int).Div(new(big.Int).Mul(num.Num(), den), num.Denom())
	a := new(big.Int).Div(new(big.Int).Mul(add.Num(), den), add.Denom())
	if !n.IsInt64() || !a.IsInt64() || !den.IsInt64() {
		return Scale{}, fmt.Errorf("%s %s in %q does not fit a scale of three 64-bit numbers", step.RatString(), from, to)
	}
	return Scale{Num: n.Int64(), Add: a.Int64(), Den: den.Int64()}, nil
}

// Raw is the raw integer whose value is closest to v, and whether it is exactly
// v. A scale without a slope has no inverse; it gives 0.
func (s Scale) Raw(v *big.Rat) (raw *big.Int, exact bool) {
	if s.Num == 0 {
		return new(big.Int), false
	}
	r := new(big.Rat).Mul(v, new(big.Rat).SetInt64(max(s.Den, 1)))
	r.Sub(r, new(big.Rat).SetInt64(s.Add))
	r.Quo(r, new(big.Rat).SetInt64(s.Num))
	if r.IsInt() {
		return r.Num(), true
	}
	// Halves are rounded away from zero.
	half := big.NewRat(int64(r.Sign()), 2)
	r.Add(r, half)
	return new(big.Int).Quo(r.Num(), r.Denom()), false
}

// unit is a UCUM unit: value in the base unit of its quantity = factor*v + offset.
type unit struct {
	quantity       string
	factor, offset string
}

var units = map[string]unit{
	"1": {"ratio", "1", "0"}, "%": {"ratio", "0.01", "0"}, "[ppm]": {"ratio", "0.000001", "0"},
	"K": {"temperature", "1", "0"}, "Cel": {"temperature", "1", "273.15"}, "[degF]": {"temperature", "5/9", "45967/180"},
	// The metre of water column is UCUM's: 9.80665 kPa. A column of water
	// stands for a pressure here; a length of the unit m does not.
	"Pa": {"pressure", "1", "0"}, "kPa": {"pressure", "1000", "0"}, "mbar": {"pressure", "100", "0"},
	"bar": {"pressure", "100000", "0"}, "m[H2O]": {"pressure", "9806.65", "0"},
	"[psi]": {"pressure", "6894.757293168", "0"}, "[ft_i'H2O]": {"pressure", "2989.06692", "0"},
	"m": {"length", "1", "0"}, "cm": {"length", "0.01", "0"}, "mm": {"length", "0.001", "0"}, "[ft_i]": {"length", "0.3048", "0"},
	"m3/s": {"flow", "1", "0"}, "m3/h": {"flow", "1/3600", "0"}, "L/s": {"flow", "0.001", "0"},
	"L/min": {"flow", "1/60000", "0"}, "L/h": {"flow", "1/3600000", "0"}, "mL/h": {"flow", "1/3600000000", "0"},
	"[gal_us]/min": {"flow", "473176473/7500000000000", "0"},
	"m3":           {"volume", "1", "0"}, "L": {"volume", "0.001", "0"}, "mL": {"volume", "0.000001", "0"},
	"J": {"energy", "1", "0"}, "kJ": {"energy", "1000", "0"}, "W.h": {"energy", "3600", "0"},
	"kW.h": {"energy", "3600000", "0"}, "MW.h": {"energy", "3600000000", "0"},
	"W": {"power", "1", "0"}, "kW": {"power", "1000", "0"}, "MW": {"power", "1000000", "0"},
	"W.h/m3": {"energy for a volume", "1", "0"}, "kW.h/m3": {"energy for a volume", "1000", "0"},
	"W/m2": {"irradiance", "1", "0"},
	"A":    {"current", "1", "0"}, "mA": {"current", "0.001", "0"},
	"V": {"voltage", "1", "0"}, "mV": {"voltage", "0.001", "0"}, "kV": {"voltage", "1000", "0"},
	"Hz": {"frequency", "1", "0"}, "/min": {"speed of rotation", "1", "0"}, "/s": {"speed of rotation", "60", "0"},
	"N.m": {"torque", "1", "0"},
	"s":   {"time", "1", "0"}, "min": {"time", "60", "0"}, "h": {"time", "3600", "0"}, "d": {"time", "86400", "0"},
	"mo": {"months", "1", "0"},
}

// alternatives lists the units that convert to one.
func alternatives(to string) string {
	list := []string{to}
	for name, u := range units {
		if t, ok := units[to]; ok && u.quantity == t.quantity && name != to {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// rat is a number of the table above.
func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic("telemetry: " + s + " is not a number")
	}
	return r
}
