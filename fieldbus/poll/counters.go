package poll

import (
	"time"

	"penstock/internal/telemetry"
)

// resetAfter is how long a counter has to go on from a lower value before that is
// taken for a reset and not for a slip of the device.
const resetAfter = 5 * time.Minute

// resetReadings is how many readings it takes at least.
const resetReadings = 3

// counted is what a bus knows of a counter of the pump itself, such as its energy. It
// only grows; a value below the highest is in doubt, until the counter has gone on
// from there for a while.
type counted struct {
	highest int64
	known   bool
	low     int       // readings below the highest in a row that did not fall
	last    int64     // of them
	since   time.Time // of the first of them
}

// see takes in a value and tells whether it is in doubt.
func (c *counted) see(raw int64, at time.Time) bool {
	if !c.known || raw >= c.highest {
		*c = counted{highest: raw, known: true}
		return false
	}
	if c.low == 0 || raw < c.last {
		c.low, c.since = 0, at
	}
	c.low, c.last = c.low+1, raw
	if c.low >= resetReadings && at.Sub(c.since) >= resetAfter {
		*c = counted{highest: raw, known: true}
		return false
	}
	return true
}

// count takes in a good value of an item, and returns its quality. A counter that
// falls may be another pump's, which is asked who it is.
func (d *device) count(i int, raw int64, at time.Time) telemetry.Quality {
	if d.items[i].Point.Kind != telemetry.Counter {
		return telemetry.Good
	}
	if d.counted == nil {
		d.counted = map[int]*counted{}
	}
	c := d.counted[i]
	if c == nil {
		c = &counted{}
		d.counted[i] = c
	}
	if !c.see(raw, at) {
		return telemetry.Good
	}
	if c.low == 1 {
		d.doubt()
	}
	return telemetry.Doubtful
}
