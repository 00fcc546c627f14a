package poll

import (
	"slices"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
)

// A device is read in a fixed set of frames, so that each of them can have answers
// that look like those of no other: an answer that comes late, even after a
// restart, then cannot be taken for another frame's. The set is planned
// beforehand, for each combination of groups that may fall due together and for
// each class of turnaround. What is due is read in the frames that the plan of its
// combination has for it.

// turnarounds are the classes of turnaround that frames are planned for. What a
// device takes is rounded to the nearest in ratio.
var turnarounds = [...]time.Duration{assumedTurnaround, 50 * time.Millisecond, 250 * time.Millisecond}

func turnaroundClass(d time.Duration) int {
	for i := range len(turnarounds) - 1 {
		if d*d < turnarounds[i]*turnarounds[i+1] {
			return i
		}
	}
	return len(turnarounds) - 1
}

// mostBits bounds the combinations of groups; the slow groups of a device with
// more periods share the last bit.
const mostBits = 5

// mostVariants is how many ways a frame is given to be put on the wire.
const mostVariants = 8

// combination is a set of groups of one device, a bit each.
type combination uint32

// planKey names a plan.
type planKey struct {
	groups     combination
	turnaround int // class
}

// frameKey names a frame by what it reads: on Modbus the registers, on GENIbus the
// telegram.
type frameKey struct {
	start, count int
	pdu          string
}

func (f *frame) key() frameKey {
	if f.geni != nil {
		return frameKey{pdu: string(f.geni.pdu)}
	}
	return frameKey{start: f.start, count: f.count}
}

// shapes is what a device's frames look like on the wire. It outlasts a change of
// plan: a shape that was given to a frame is never given to another.
type shapes struct {
	taken  map[lateness.Shape]bool
	modbus map[frameKey][]modbus.Variant
	geni   map[frameKey][]genibus.Variant
}

func newShapes() *shapes {
	return &shapes{taken: map[lateness.Shape]bool{}, modbus: map[frameKey][]modbus.Variant{}, geni: map[frameKey][]genibus.Variant{}}
}

// combination returns the groups that something of due belongs to.
func (d *device) combination(due set) (c combination) {
	for i, g := range d.groups {
		if intersect(due, g.items) {
			c |= 1 << min(i, mostBits-1)
		}
	}
	return c
}

// items returns all items of a combination.
func (d *device) itemsOf(c combination) (all set) {
	for i, g := range d.groups {
		if c&(1<<min(i, mostBits-1)) != 0 {
			all.union(g.items)
		}
	}
	return all
}

// plan returns the frames that read the due items.
func (d *device) plan(due set, c cost) []frame {
	if d.plans == nil {
		d.prepare(c.geni)
	}
	if frames, ok := d.narrowed[due]; ok {
		return frames
	}
	if d.narrowed == nil || len(d.narrowed) >= maxPlans {
		d.narrowed = map[set][]frame{}
	}
	all := d.combination(due)
	fast := all & -all // the bit of the shortest period
	frames := d.parts(due, c, all)
	for _, other := range [][]frame{d.parts(due, c, fast, all&^fast), d.parts(due, c, bits(all)...)} {
		if total(other) < total(frames) {
			frames = other
		}
	}
	d.narrowed[due] = frames
	return frames
}

// bits returns the single groups of a combination.
func bits(all combination) (out []combination) {
	for ; all != 0; all &= all - 1 {
		out = append(out, all&-all)
	}
	return out
}

// parts returns the frames that read the due items where the groups of each part
// are read together, and those of different parts apart.
func (d *device) parts(due set, c cost, parts ...combination) (frames []frame) {
	for _, part := range parts {
		left := common(due, d.itemsOf(part))
		for _, f := range d.plans[planKey{part, turnaroundClass(c.turnaround)}] {
			if intersect(f.items, left) {
				f.items = common(f.items, left)
				f.cost = c.of(&f)
				frames = append(frames, f)
			}
		}
	}
	return frames
}

func common(a, b set) set {
	for i := range a {
		a[i] &= b[i]
	}
	return a
}

// prepare plans the device's frames for every combination of groups, and gives
// each its ways on the wire.
func (d *device) prepare(geni bool) {
	d.plans, d.narrowed = map[planKey][]frame{}, nil
	var order []*frame // a pointer a frame, in the order in which shapes are given
	seen := map[frameKey]bool{}
	if f := d.id.frame; f != nil {
		order, seen[f.key()] = append(order, f), true
	}
	for class, t := range turnarounds {
		for c := combination(1); c < 1<<min(len(d.groups), mostBits); c++ {
			frames := d.frames(d.itemsOf(c), d.costOf(t))
			d.plans[planKey{c, class}] = frames
			for i := range frames {
				frames[i].all = frames[i].items
				if k := frames[i].key(); !seen[k] {
					seen[k] = true
					order = append(order, &frames[i])
				}
			}
		}
	}
	if geni {
		d.assignGeni(order)
	} else {
		d.assignModbus(order)
	}
	if f := d.id.frame; f != nil {
		f.cost, f.modbus = d.costOf(assumedTurnaround).of(f), d.shapes.modbus[f.key()]
		if f.geni != nil {
			f.geni.variants = d.shapes.geni[f.key()]
		}
	}
	for _, frames := range d.plans {
		for i := range frames {
			k := frames[i].key()
			frames[i].modbus = d.shapes.modbus[k]
			if frames[i].geni != nil {
				frames[i].geni.variants = d.shapes.geni[k]
			}
		}
	}
}

func (d *device) assignModbus(order []*frame) {
	var requests []modbus.Request
	var keys []frameKey
	for _, f := range order {
		if k := f.key(); d.shapes.modbus[k] == nil {
			requests, keys = append(requests, d.request(f)), append(keys, k)
		}
	}
	for i, v := range modbus.Assign(d.shapes.taken, requests, mostVariants) {
		d.shapes.modbus[keys[i]] = v
	}
}

func (d *device) assignGeni(order []*frame) {
	var pdus [][]byte
	var keys []frameKey
	for _, f := range order {
		if k := f.key(); d.shapes.geni[k] == nil {
			pdus, keys = append(pdus, f.geni.pdu), append(keys, k)
		}
	}
	for i, v := range genibus.Assign(d.shapes.taken, pdus, d.geni.buffer, mostVariants) {
		d.shapes.geni[keys[i]] = v
	}
}

// startPhase is for how long after an unclean start the frames are put on the wire
// as the run before did not put them.
const startPhase = 15 * time.Second

// rotated returns the variants to use now. The first two are the ordinary ones.
// After a start that may be owed answers, others are used for a while, and each
// such start uses those that the starts before it did not: an answer to the run
// before then fits none of ours.
func rotated[V any](all []V, starting bool, run int) []V {
	sets := min(3, (len(all)-2)/2)
	if !starting || sets < 1 {
		return all
	}
	from := 2 + 2*(run%sets)
	return all[from : from+2]
}

// starting tells whether answers to the run before may still come.
func (b *Bus) starting() bool {
	return b.owed && b.clk.Now().Sub(b.begun) < startPhase
}

// request is a frame as the Modbus master takes it.
func (b *Bus) request(d *device, f *frame) modbus.Request {
	r := d.request(f)
	ways := f.modbus
	if d.function != modbus.Either { // those of the function that the device refuses are of no use
		ways = slices.DeleteFunc(slices.Clone(ways), func(v modbus.Variant) bool { return !r.Allows(v.Function) })
	}
	r.Variants = rotated(ways, b.starting(), b.run)
	return r
}

func (d *device) request(f *frame) modbus.Request {
	var b profile.Block
	if f.block >= 0 {
		b = d.blocks[f.block]
	} else { // the identity's registers, which no refusal cuts
		b = profile.Block{First: f.start, Last: f.start + f.count - 1}
		if i := slices.IndexFunc(d.Profile.Blocks, func(b profile.Block) bool { return b.Contains(f.start, f.start+f.count-1) }); i >= 0 {
			b = d.Profile.Blocks[i]
		}
	}
	use := functions(b.Functions)
	if use == modbus.Either {
		use = d.function
	}
	return modbus.Request{
		Address: byte(d.Address), Functions: use,
		Start: d.Profile.Wire(f.start), Count: f.count,
		First: d.Profile.Wire(b.First), Last: d.Profile.Wire(b.Last),
	}
}

// readyAt returns the time from which on a frame may be read without waiting for
// an answer that could be taken for its own.
func (b *Bus) readyAt(d *device, f *frame) time.Time {
	if b.geni == nil {
		return b.master.ReadyAt(b.request(d, f))
	}
	if !d.geni.surveyed {
		return time.Time{}
	}
	return b.geni.master.ReadyAt(byte(d.Address), f.geni.pdu, d.geni.buffer, rotated(f.geni.variants, b.starting(), b.run))
}

// reserve tells the Modbus master what the answers to planned reads look like.
func (b *Bus) reserve(d *device) {
	if b.geni != nil {
		return
	}
	d.plan(d.itemsOf(1), b.cost(d))
	var planned []modbus.Variant
	for _, v := range d.shapes.modbus {
		planned = append(planned, v...)
	}
	b.master.Reserve(byte(d.Address), planned)
}
