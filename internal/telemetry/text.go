package telemetry

import (
	"fmt"
	"math/big"
	"strings"
)

// UnitText is how people write a UCUM unit: "m3/h" is "m³/h", "1" is nothing.
func UnitText(ucum string) string {
	if s, ok := unitTexts[ucum]; ok {
		return s
	}
	return ucum
}

var unitTexts = map[string]string{
	"1": "", "Cel": "°C", "m3/h": "m³/h", "m3": "m³", "m[H2O]": "m", "{rpm}": "rpm", "/min": "rpm",
	"kW.h": "kWh", "W.h/m3": "Wh/m³", "L/s": "l/s", "mo": "months",
}

// Number writes a scaled raw value exactly where that takes few digits, else
// with the four significant ones that a person reads.
func (s Scale) Number(raw int64) string {
	r := s.Exact(raw)
	digits := 0
	for den := new(big.Int).Set(r.Denom()); den.Cmp(big.NewInt(1)) > 0; digits++ {
		if digits == 3 { // not a short decimal fraction
			f, _ := r.Float64()
			return trimZeros(fmt.Sprintf("%.*f", decimals(f), f))
		}
		den = new(big.Rat).Mul(r, new(big.Rat).SetInt(pow10(digits+1))).Denom()
	}
	return r.FloatString(max(digits, s.places()))
}

// places is the number of decimals that a raw step of 1 needs, at most 3, so
// that a value does not change its width as it moves.
func (s Scale) places() int {
	step := new(big.Rat).SetFrac64(max(s.Num, 1), max(s.Den, 1))
	for d := range 4 {
		if new(big.Rat).Mul(step, new(big.Rat).SetInt(pow10(d))).IsInt() {
			return d
		}
	}
	return 0
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func decimals(f float64) int {
	switch f = max(f, -f); {
	case f >= 1000:
		return 0
	case f >= 100:
		return 1
	case f >= 10:
		return 2
	}
	return 3
}

func trimZeros(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Text is a value as a person reads it: "3.214 bar", "constant pressure".
func Text(enum, unit string, scale Scale, raw int64) string {
	if enum != "" {
		return EnumText(enum, raw)
	}
	if !scale.Known() {
		return fmt.Sprintf("raw %d, scale not known", raw)
	}
	return strings.TrimSpace(scale.Number(raw) + " " + UnitText(unit))
}

// EnumText names a raw value of an enumeration. A value that the enumeration
// does not know is said to be unknown, with its number: it is never dropped.
func EnumText(enum string, raw int64) string {
	if s, ok := enumerations[enum][raw]; ok {
		return s
	}
	return fmt.Sprintf("unknown code %d", raw)
}

// EnumCode is the raw value that a word of an enumeration names.
func EnumCode(enum, word string) (raw int64, ok bool) {
	for raw, text := range enumerations[enum] {
		if text == word {
			return raw, true
		}
	}
	return 0, false
}
