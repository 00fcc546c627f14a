package web

import (
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode"

	"penstock/internal/telemetry"
)

// finest is how many decimals of a unit a person in a pump room can use. A
// scale that is coarser than that shows fewer.
var finest = map[string]int{
	"m[H2O]": 2, "m": 2, "bar": 3, "m3/h": 2, "m3": 1,
	"Cel": 1, "K": 1, "%": 1, "/min": 0, "Hz": 1,
	"W": 0, "kW": 3, "kW.h": 1, "W.h/m3": 1, "A": 2, "V": 1, "N.m": 1, "h": 0,
}

// decimals is how many places every value of a series is written with, so that
// a value does not change its width as it moves.
func decimals(s telemetry.Series) int {
	most, ok := finest[s.Unit]
	if !ok {
		most = 3
	}
	if !s.Scale.Known() {
		return 0
	}
	step := new(big.Rat).Abs(big.NewRat(s.Scale.Num, max(s.Scale.Den, 1)))
	one, ten := big.NewRat(1, 1), big.NewRat(10, 1)
	places := 0
	for places < most && step.Sign() != 0 && !step.IsInt() && step.Cmp(one) < 0 {
		step.Mul(step, ten)
		places++
	}
	if places == 0 && !step.IsInt() { // such as steps of 1.5
		places = min(1, most)
	}
	return places
}

// number writes a raw value exactly to the places given, thousands apart by a
// narrow space.
func number(scale telemetry.Scale, raw int64, places int) string {
	s := scale.Exact(raw).FloatString(places)
	s, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(s, ".")
	var b strings.Builder
	if negative && strings.Trim(s, "0.") != "" { // no minus before a zero
		b.WriteString("\u2212")
	}
	for i, r := range whole {
		if i > 0 && len(whole) > 4 && (len(whole)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(r)
	}
	if fraction != "" {
		b.WriteString("." + fraction)
	}
	return b.String()
}

// label is the name of a point as a heading: "motor_temperature" is "Motor
// temperature", "pump3_speed" is "Pump 3 speed".
func label(point string) string {
	s := strings.ReplaceAll(point, "_", " ")
	if rest, ok := strings.CutPrefix(s, "pump"); ok && rest != "" && unicode.IsDigit(rune(rest[0])) {
		s = "pump " + rest
	}
	for _, word := range []string{"dc", "mpp"} { // abbreviations
		if rest, ok := strings.CutPrefix(s, word+" "); ok {
			return strings.ToUpper(word) + " " + rest
		}
	}
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// The sections of a pump, in the order in which they are shown.
const (
	sectionState       = "State and control"
	sectionMeasured    = "Measured"
	sectionTemperature = "Temperatures"
	sectionCounted     = "Counters"
)

var sections = []string{sectionMeasured, sectionTemperature, sectionState, sectionCounted}

// section sorts a point by what the vocabulary says of it, so that a new point
// finds its place by itself.
func section(point, unit, enum string) string {
	p, known := telemetry.LookupPoint(point)
	switch {
	case enum != "" || known && (p.Kind == telemetry.Code || p.Kind == telemetry.Flag || p.Kind == telemetry.Bits):
		return sectionState
	case known && p.Kind == telemetry.Counter:
		return sectionCounted
	case unit == "Cel" || unit == "K":
		return sectionTemperature
	case strings.Contains(point, "setpoint") || strings.Contains(point, "limit") || point == "feedback":
		return sectionState
	}
	return sectionMeasured
}

// headlines are the points that a person looks for first; a pump shows the
// first few that it has in large figures.
var headlines = []string{"head", "flow", "speed", "power", "outlet_pressure", "differential_pressure", "setpoint", "current", "motor_temperature"}

const maxHeadlines = 4

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}

func join(words []string) string { return strings.Join(words, ", ") }
