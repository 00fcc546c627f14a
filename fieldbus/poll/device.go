package poll

import (
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// After this many frames in a row without an answer a device counts as dead.
const deadAfter = 3

// The penalty of a device that does not answer: how long it is left alone after
// a frame was given up. It doubles from the second one on.
const (
	penaltyFirst = time.Second
	penaltyMost  = time.Minute
)

// attempts is how often a frame is asked for before it is given up, where the
// device is alive: a disturbed frame is the usual reason. One that is not is asked
// once.
const attempts = 4

// device is what a bus knows of one of its pumps. It belongs to the goroutine
// that runs the bus, but for the part below mu's name.
type device struct {
	Device
	pump             telemetry.Pump
	baseID, baseName string        // of the first device at the address
	mode             fieldbus.Mode // of the line
	groups           []*group      // the shortest period first
	items            []item
	geni             *geniDevice     // nil on Modbus
	blocks           []profile.Block // the profile's, cut where the device refused a read
	spans            []span
	plans            map[planKey][]frame
	shapes           *shapes
	// what plan returned for what was due, at the present pace
	narrowed map[set][]frame

	pace   time.Duration // the turnaround that narrowed is made for
	read   []time.Time   // when each item was read last
	missed int           // slots of the fastest group in a row that came too late

	due     set    // begun and not read
	pending *frame // asked for and not answered: to be repeated before anything else
	tries   int    // of pending

	notBefore time.Time // leave the device alone until then
	failures  int       // frames in a row that were given up
	health    health    // how many of its requests it answers
	id        identification
	standing  Standing
	refusals  refusals
	function  modbus.Functions // Either until the device refuses one
	counted   map[int]*counted // the pump's own counters, by item
	counter   counter          // of the module's contact with its pump

	// Guarded by Bus.mu: what Status shows.
	failed        int // failures
	replyTime     time.Duration
	learned       lateness.Learned
	state         State
	since         time.Time
	lastGood      time.Time
	problem       string
	dropped       int64
	refusedPoints int // that the device refuses to have read
	refusedSince  time.Time
	values        []Value // of items that are reported
}

// item is one item of the profile as the bus reports it.
type item struct {
	profile.Item
	group  *group
	series int // in the group; -1: not reported
}

// maxPlans bounds for how many sets of due items a device remembers the frames. In
// the ordinary course there are a handful: one for each combination of groups that
// fall due together, and what is left of it after each frame.
const maxPlans = 256

// costOf is what reading the device takes at this turnaround.
func (d *device) costOf(turnaround time.Duration) cost {
	if d.geni != nil {
		return geniCost(turnaround)
	}
	return modbusCost(d.mode, turnaround)
}

// frames plans what reads the due items, by the rules of the device's protocol.
func (d *device) frames(due set, c cost) []frame {
	if d.geni != nil {
		return planGeni(d.items, d.geni.known, d.geni.buffer, due, c)
	}
	return plan(d.spans, due, c)
}

// lacks tells whether the device was found not to have an item.
func (d *device) lacks(i int) bool {
	if d.geni != nil {
		return lacking(d.items, d.geni.known, i)
	}
	return d.spans[i].block < 0
}

// urgent is the group with something due whose slot ends first, or nil.
func (d *device) urgent() (first *group) {
	for _, g := range d.groups {
		if g.open && d.hasDue(g) && (first == nil || g.deadline().Before(first.deadline())) {
			first = g
		}
	}
	return first
}

// hopeless tells whether what is due of a group cannot be read before its slot
// ends. To begin it would only make another pump late as well. A group that
// takes longer than its period is read all the same, as much of it as will go.
func (d *device) hopeless(g *group, c cost, now time.Time) bool {
	var need time.Duration
	for _, f := range d.plan(d.due, c) {
		if intersect(f.items, g.items) {
			need += f.cost
		}
	}
	return need <= g.period*9/10 && now.Add(need).After(g.deadline())
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
// holds the item with the earliest deadline; of two alike, the one that was read
// longer ago. Where that one waits, because an older answer could be taken for its
// own, another that is due goes first.
func (d *device) frame(c cost, waits func(*frame) bool) *frame {
	g := d.urgent()
	switch {
	case d.doubtful() && g == nil:
		return nil
	case d.doubtful():
		return d.id.frame
	case d.pending != nil && (g == nil || !waits(d.pending)):
		return d.pending
	case g == nil:
		return nil
	}
	frames := d.plan(d.due, c)
	best := d.pending
	if best == nil {
		best = d.longestAgo(frames, func(f *frame) bool { return intersect(f.items, g.items) })
	}
	if best != nil && waits(best) {
		if other := d.longestAgo(frames, func(f *frame) bool { return !waits(f) }); other != nil {
			return other
		}
	}
	return best
}

// longestAgo is the frame that was read longest ago of those that are wanted; nil
// where there is none.
func (d *device) longestAgo(frames []frame, wanted func(*frame) bool) (best *frame) {
	var oldest time.Time
	for i := range frames {
		if !wanted(&frames[i]) {
			continue
		}
		if t := d.lastRead(&frames[i]); best == nil || t.Before(oldest) {
			best, oldest = &frames[i], t
		}
	}
	return best
}

// lastRead is when the item of a frame that was read longest ago was read.
func (d *device) lastRead(f *frame) (oldest time.Time) {
	first := true
	for i, t := range d.read {
		if f.items.has(i) && (first || t.Before(oldest)) {
			oldest, first = t, false
		}
	}
	return oldest
}

func intersect(a, b set) bool {
	for i := range a {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// penalty is how long the device is left alone after its failures. One that is
// alive is not: what disturbs it disturbs one frame at a time.
func (d *device) penalty() time.Duration {
	if d.failures < 2 || d.health.alive() {
		return 0
	}
	p := penaltyFirst << min(d.failures-2, 10)
	return min(p, penaltyMost)
}

// health is the share of requests that a device answered lately, smoothed over
// about eight of them. Whether a device pays for its retries from the budget of
// those that do not answer depends on it alone.
type health float64

const (
	healthWeight = 1.0 / 8
	healthLeast  = 0.25 // of a device that is alive
)

func (h health) alive() bool { return h >= healthLeast }

// note takes in whether a request was answered.
func (h *health) note(answered bool) {
	is := health(0)
	if answered {
		is = 1
	}
	*h += (is - *h) * healthWeight
}

// cutOf tells where to cut a frame that the device refuses, although its profile says
// that the registers are one block: the registers from low to high that its items
// need, and the one to cut before. alone: the items share registers, so that there is
// no cut between them.
func (d *device) cutOf(f *frame) (low, high, cut int, alone bool) {
	low, high = 1<<30, 0
	for i, s := range d.spans {
		if f.all.has(i) {
			low, high = min(low, s.first), max(high, s.last)
		}
	}
	// Cut in the middle, but not through an item.
	cut, alone = low, true
	for i, s := range d.spans {
		if f.all.has(i) && s.first > low && (alone || abs(2*s.first-low-high) < abs(2*cut-low-high)) {
			if !d.through(s.first) {
				cut, alone = s.first, false
			}
		}
	}
	return low, high, cut, alone
}

// refuse takes in that the device refuses to have a frame read. The block is cut
// between the frame's items, so that a later frame holds fewer of them; an item that
// is refused alone is left out.
func (d *device) refuse(f *frame) {
	low, high, cut, alone := d.cutOf(f)
	b := d.blocks[f.block]
	left, right := b, b
	if alone {
		left.Last, right.First = low-1, high+1
	} else {
		left.Last, right.First = cut-1, cut
	}
	d.blocks = append(d.blocks[:f.block:f.block], append([]profile.Block{left, right}, d.blocks[f.block+1:]...)...)
	d.locate()
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

// locate finds the items in the blocks anew. A frame that waits to be repeated is of
// the blocks before; what it is for is due still.
func (d *device) locate() {
	items := make([]profile.Item, len(d.items))
	for i := range d.items {
		items[i] = d.items[i].Item
	}
	d.pending, d.tries = nil, 0
	d.spans = spans(items, d.blocks)
	d.plans = nil
	if d.read == nil {
		d.read = make([]time.Time, len(items))
	}
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
