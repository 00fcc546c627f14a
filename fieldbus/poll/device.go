package poll

import (
	"time"

	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// After this many cycles in a row without an answer a device counts as dead.
const deadAfter = 3

// The penalty of a device that does not answer: how long it is left alone after
// a failed cycle. It doubles from the second one on.
const (
	penaltyFirst = time.Second
	penaltyMost  = time.Minute
)

// attempts is how often a request of a poll is sent before its cycle is given
// up. A device that answered before deserves a second chance: a disturbed frame
// is the usual reason.
const attempts = 2

// device is what a bus knows of one of its pumps. It belongs to the goroutine
// that runs the bus, but for the part below mu's name.
type device struct {
	Device
	pump   telemetry.Pump
	groups []*group // the shortest period first
	items  []item
	blocks []profile.Block // the profile's, cut where the device refused a read
	spans  []span
	plans  map[set][]frame

	due     set    // begun and not read
	pending *frame // asked for and not answered: to be repeated before anything else
	tries   int    // of pending

	notBefore time.Time // leave the device alone until then
	failures  int       // cycles in a row without an answer
	counter   counter   // of the module's contact with its pump

	// Guarded by Bus.mu: what Status shows.
	failed    int // failures
	replyTime time.Duration
	state     State
	since     time.Time
	lastGood  time.Time
	problem   string
	dropped   int64
	values    []Value // of items that are reported
}

// item is one item of the profile as the bus reports it.
type item struct {
	profile.Item
	group  *group
	series int // in the group; -1: not reported
}

// maxPlans bounds how many plans a device remembers. In the ordinary course
// there are a handful: one for each combination of groups that fall due
// together, and what is left of it after each frame.
const maxPlans = 256

// plan returns the frames that read the due items.
func (d *device) plan(due set, c cost) []frame {
	if frames, ok := d.plans[due]; ok {
		return frames
	}
	if d.plans == nil || len(d.plans) >= maxPlans {
		d.plans = map[set][]frame{}
	}
	frames := plan(d.spans, due, c)
	d.plans[due] = frames
	return frames
}

// deadline is the earliest deadline of what is due.
func (d *device) deadline() (first time.Time, any bool) {
	for _, g := range d.groups {
		if !g.open || !d.hasDue(g) {
			continue
		}
		if t := g.deadline(); !any || t.Before(first) {
			first, any = t, true
		}
	}
	return first, any
}

func (d *device) hasDue(g *group) bool {
	for i := range d.due {
		if d.due[i]&g.items[i] != 0 {
			return true
		}
	}
	return false
}

// frame is the frame to read now: the pending one, or the planned one that
// holds the item with the earliest deadline.
func (d *device) frame(c cost) *frame {
	if d.pending != nil {
		return d.pending
	}
	frames := d.plan(d.due, c)
	var best *frame
	var earliest time.Time
	for i := range frames {
		for _, g := range d.groups {
			if !g.open || !intersect(frames[i].items, g.items) {
				continue
			}
			if t := g.deadline(); best == nil || t.Before(earliest) {
				best, earliest = &frames[i], t
			}
		}
	}
	return best
}

func intersect(a, b set) bool {
	for i := range a {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// penalty is how long the device is left alone after its failures.
func (d *device) penalty() time.Duration {
	if d.failures < 2 {
		return 0
	}
	p := penaltyFirst << min(d.failures-2, 10)
	return min(p, penaltyMost)
}

// refuse takes in that the device refuses to have a frame read, although its
// profile says that the registers are one block. The block is cut between the
// frame's items, so that a later frame holds fewer of them; an item that is
// refused alone is left out for good. It tells whether that was so.
func (d *device) refuse(f *frame) (alone bool) {
	low, high := 1<<30, 0 // the registers that items of the frame need
	for i, s := range d.spans {
		if f.items.has(i) {
			low, high = min(low, s.first), max(high, s.last)
		}
	}
	// Cut in the middle, but not through an item.
	cut, alone := low, true
	for i, s := range d.spans {
		if f.items.has(i) && s.first > low && (alone || abs(2*s.first-low-high) < abs(2*cut-low-high)) {
			if !d.through(s.first) {
				cut, alone = s.first, false
			}
		}
	}
	b := d.blocks[f.block]
	left, right := b, b
	if alone {
		left.Last, right.First = low-1, high+1
	} else {
		left.Last, right.First = cut-1, cut
	}
	d.blocks = append(d.blocks[:f.block:f.block], append([]profile.Block{left, right}, d.blocks[f.block+1:]...)...)
	d.locate()
	return alone
}

// through tells whether an item begins before the register and ends in or
// after it.
func (d *device) through(register int) bool {
	for _, s := range d.spans {
		if s.first < register && register <= s.last {
			return true
		}
	}
	return false
}

func abs(x int) int { return max(x, -x) }

// locate finds the items in the blocks anew.
func (d *device) locate() {
	items := make([]profile.Item, len(d.items))
	for i := range d.items {
		items[i] = d.items[i].Item
	}
	d.spans = spans(items, d.blocks)
	d.plans = nil
}

// counter watches a module's count of what it hears from its pump.
type counter struct {
	value uint32
	same  int // answers in a row without a change
	known bool
}

// see takes in a value.
func (c *counter) see(v uint32) {
	if c.known && c.value == v {
		c.same++
	} else {
		c.same = 0
	}
	c.value, c.known = v, true
}
