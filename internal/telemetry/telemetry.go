// Package telemetry holds the words that every part of Penstock shares: pump,
// point, reading, catalogue and gap.
//
// A pump answers with raw integers: register 304 holds 2870, data item 148
// holds 117. Penstock carries these integers unchanged from the serial line to
// the store. What they mean (unit, scale, name) is written down once, in a
// Catalogue, and travels once. This keeps a reading small and exact, and a
// wrong scale can be corrected afterwards without touching what was measured.
//
// The catalogue groups series by how often they are read. All series of a
// group share a time grid: a reading's time is the scheduled slot of its
// group, and only a reading that was more than LateTolerance off its slot
// carries an exact time of its own.
package telemetry

import (
	"math/big"
	"time"
)

// LateTolerance is how far a reading may be from its scheduled slot before its
// own time is recorded.
const LateTolerance = 100 * time.Millisecond

// Quality tells how far a reading can be trusted.
type Quality uint8

const (
	// Good is a value that the pump measured in this slot.
	Good Quality = iota
	// NotAvailable is the pump's own answer that it has no such value.
	NotAvailable
	// Stale is a value that a communication module repeats although it lost
	// contact with its pump.
	Stale
	// Missing is a slot that was not read: no answer, a refused address, or a
	// cycle that was dropped because the bus was late.
	Missing
	_ // of the wire: nothing is said of the slot
	// Doubtful is a value that a counter cannot have: it is below one before. The
	// counter was reset, or the pump's answer was wrong for once.
	Doubtful
)

// HasValue tells whether a reading of this quality has a value.
func (q Quality) HasValue() bool { return q == Good || q == Stale || q == Doubtful }

func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case NotAvailable:
		return "not available"
	case Stale:
		return "stale"
	case Missing:
		return "missing"
	case Doubtful:
		return "doubtful"
	}
	return "unknown quality"
}

// Scale turns a raw integer into a value in the unit of its series, exactly:
//
//	value = (Num*raw + Add) / Den
//
// A temperature register in 0.01 K shown in °C is {Num: 1, Add: -27315, Den: 100}.
type Scale struct {
	Num, Add, Den int64
}

// Unit is the scale that changes nothing.
var Unit = Scale{Num: 1, Den: 1}

// Known tells whether there is a scale. The zero Scale is the one of a point whose
// device has not told it yet: its raw values are kept, and nobody knows what they
// are in the point's unit.
func (s Scale) Known() bool { return s != Scale{} }

// Value applies the scale for display. Stored data stays raw.
func (s Scale) Value(raw int64) float64 {
	f, _ := s.Exact(raw).Float64()
	return f
}

// Exact applies the scale without rounding. A zero denominator counts as 1.
func (s Scale) Exact(raw int64) *big.Rat {
	n := new(big.Int).Mul(big.NewInt(s.Num), big.NewInt(raw))
	n.Add(n, big.NewInt(s.Add))
	return new(big.Rat).SetFrac(n, big.NewInt(max(s.Den, 1)))
}

// Pump is one device on a bus.
type Pump struct {
	ID      string // unique within the gateway and stable over restarts, e.g. "bus1-12"
	Name    string // what people call it
	Family  string // the profile that reads it, e.g. "e-pump"
	Bus     string // the bus it is on, e.g. "bus1"
	Address int    // its address on that bus
}

// Series is one point of one pump.
type Series struct {
	Pump  string // Pump.ID
	Point string // a name of the point vocabulary
	Unit  string // UCUM, "1" for a pure number or an enumeration
	Scale Scale
	Enum  string // the enumeration that names the raw values, or ""
}

// Group is a set of series that are read together, once each period.
type Group struct {
	Period time.Duration
	Series []Series
}

// Catalogue says what the integers of a gateway mean. It is immutable: a
// change (a pump more, another scale) is another catalogue.
type Catalogue struct {
	Pumps  []Pump
	Groups []Group
}

// Reading is one raw value of the series Groups[Group].Series[Series] of the
// catalogue in force.
type Reading struct {
	Group, Series int
	Slot          time.Time     // the scheduled time
	Off           time.Duration // when it was asked for, less Slot
	Raw           int64         // meaningful when Quality.HasValue
	Quality       Quality
	Unsure        time.Duration // how far Slot may be off either way: the gateway did not know the time
}

// Time is the reading's time as it is stored: the slot, or the exact time when
// it was more than LateTolerance off.
func (r Reading) Time() time.Time {
	if r.Off > LateTolerance || r.Off < -LateTolerance {
		return r.Slot.Add(r.Off)
	}
	return r.Slot
}

// GapReason says why readings are missing for good.
type GapReason uint8

const (
	// UncleanStop: the gateway lost power or was killed; its open block went.
	UncleanStop GapReason = 1 + iota
	// QueueFull: the queue had reached its bound and dropped its oldest history.
	QueueFull
	// Damaged: records on the gateway's disk could not be read back.
	Damaged
)

func (g GapReason) String() string {
	switch g {
	case UncleanStop:
		return "unclean stop"
	case QueueFull:
		return "queue full"
	case Damaged:
		return "damaged on disk"
	}
	return "unknown reason"
}

// Gap names readings that are lost for good, so that nobody takes a hole for
// a pump at rest. A gap by sequence number (QueueFull, Damaged) names the
// records that went; every gap names the time they covered.
type Gap struct {
	Reason   GapReason
	From, To time.Time
	// FromSeq and ToSeq are the first and last sequence number lost from the
	// history lane, both 0 when the readings never became a record.
	FromSeq, ToSeq uint64
}

// Event says that a code of a pump changed, at once: an alarm came or went, a
// pump fell back to local. The same change also arrives as a reading, later. Or it
// says something of one of the gateway's links, which no reading does.
type Event struct {
	Time        time.Time     // zero: the gateway did not know it
	Unsure      time.Duration // how far Time may be off either way
	Pump, Point string        // Pump.ID, and the name of the point
	Link        string        // the name of a link; Pump is empty then
	Raw, Before int64         // what it is now, and what it was
}

// Exchanged is the point of an event that says that another device stands at a pump's
// address. It is the event's pump from then on. The raw value is what it says of
// itself: family × 65536 + type × 256 + version.
const Exchanged = "exchanged"

// DataUsed is the point of an event that says that a link has used 80 or 100 % of
// its data for the month.
const DataUsed = "data_used"
