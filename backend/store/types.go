package store

import (
	"encoding/json"
	"errors"
	"time"

	"penstock/internal/telemetry"
)

// ErrNoGateway: there is no gateway of that serial number.
var ErrNoGateway = errors.New("there is no such gateway")

// Gateway is a gateway as far as the backend knows it.
type Gateway struct {
	Serial, Model, Board string
	Added                time.Time
	Online               bool
	Since                time.Time       // of Online; zero: it has never connected
	LastReading          time.Time       // zero: none has come
	Ahead                time.Time       // the latest date beyond the present that a reading had when it came; zero: none
	State                json.RawMessage // of its state topic, nil if none
	Revoked              time.Time       // zero: it is not
	Reason               string          // of the revocation
}

// Value is the newest reading of a point, with the series as the catalogue of the
// reading's own block has it: another scale may hold by now.
type Value struct {
	telemetry.Series
	Time    time.Time
	Raw     int64
	Quality telemetry.Quality
}

// Sample is one reading of a known point.
type Sample struct {
	Time    time.Time
	Raw     int64
	Quality telemetry.Quality
	Unsure  time.Duration // how far Time may be off, either way
	// Series says what Raw means, by the catalogue of the reading's own block.
	Series *telemetry.Series
}

// Reading is one reading with its names.
type Reading struct {
	Pump, Point string
	Sample
}

// Update says that something about a gateway has changed: readings from From to
// To have come, or, when both are zero, its presence is another.
type Update struct {
	Gateway  string
	From, To time.Time
}

// Alarm is something that somebody should look at.
type Alarm struct {
	Gateway string
	Time    time.Time
	Text    string
}

// Counters count what a gateway has sent.
type Counters struct {
	Records, Readings, Unreadable, Conflicts int64
}
