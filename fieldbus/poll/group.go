package poll

import "time"

// group is the items of one device that share a period, and where their time
// grid stands. It belongs to the goroutine that runs the bus.
type group struct {
	index  int // in Bus.Groups; -1: read for our own sake, not reported
	items  set
	order  []int // the items, in the order of the catalogue's series
	period time.Duration
	offset time.Duration // of the slots from multiples of the period since 1970

	next  time.Time // the next slot to begin
	slot  time.Time // the slot begun last
	open  bool      // slot has begun, and next has not
	early bool      // slot is the one before the bus began to run
}

// at returns the group's last slot that is not after t.
func (g *group) at(t time.Time) time.Time {
	since := t.UnixNano() - int64(g.offset)
	k := since / int64(g.period)
	if since%int64(g.period) < 0 {
		k--
	}
	return time.Unix(0, k*int64(g.period)+int64(g.offset)).UTC()
}

// deadline is when a slot that was not read is given up.
func (g *group) deadline() time.Time { return g.slot.Add(g.period) }

// start puts the group on its grid. The slot that t falls into is read at once,
// so that a bus that comes up shows its values without waiting a period.
func (g *group) start(t time.Time) {
	g.next = g.at(t)
	g.open, g.early = false, true
}

// skip puts the group on its grid after t, leaving out what lies between.
func (g *group) skip(t time.Time) {
	g.next = g.at(t).Add(g.period)
	g.open = false
}

// begin begins the next slot.
func (g *group) begin() {
	g.early = g.early && !g.open
	g.slot, g.open = g.next, true
	g.next = g.next.Add(g.period)
}
