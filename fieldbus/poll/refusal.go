package poll

import (
	"slices"
	"time"

	"penstock/fieldbus/profile"
)

// When a device is asked again for what it refused: soon after it first did, then
// less and less often. What it has served before it has: for servedLately it is asked
// for that in each slot on Modbus, and after refusalSoon on GENIbus.
const (
	refusalSoon  = 5 * time.Second
	refusalFirst = 10 * time.Second
	refusalMost  = 6 * time.Hour
	servedLately = 5 * time.Minute
)

// refusals is what a device refuses to have read. It belongs to the goroutine that
// runs the bus.
type refusals struct {
	rows  map[frameKey]int // refusals in a row of each frame
	items map[int]int      // of each item, on GENIbus
	again time.Time        // when everything is asked for again; zero: nothing is refused
	wait  time.Duration    // from the last refusal that counted to again
}

func newRefusals() refusals {
	return refusals{rows: map[frameKey]int{}, items: map[int]int{}}
}

// refused takes in that a device will not have a frame read. A frame that was never
// served is cut, until single items are refused. That counts when the device has
// refused it several times in a row: a module that starts refuses everything, and a
// disturbed one anything.
func (b *Bus) refused(d *device, f *frame, err error, now time.Time) {
	d.pending, d.tries = nil, 0
	if b.otherFunction(d, f, err) {
		return
	}
	d.refusedNow(f.items)
	k, served := f.key(), d.servedLately(f.items, now)
	_, _, _, alone := d.cutOf(f)
	if !served && !alone {
		d.refuse(f)
		b.reserve(d)
		return // what was due is due still, in smaller frames
	}
	if d.refusals.rows[k]++; d.refusals.rows[k] < refusalsCount {
		return // asked for again at once
	}
	if served {
		d.refusals.rows[k] = refusalsCount - 1 // one more in the next slot is enough
		b.giveUp(d, f.items)
		return
	}
	delete(d.refusals.rows, k)
	d.refuse(f)
	b.reserve(d)
	var points []string
	for i := range d.items {
		if f.items.has(i) && d.items[i].series >= 0 {
			points = append(points, d.items[i].Point.Name)
		}
	}
	b.leftOut(d, points, now)
	b.log.Info("a pump does not have some points of its family", "pump", d.ID, "points", points, "error", err)
	b.giveUp(d, f.items)
}

// refusedNow takes in that a frame of these items was refused. Where the device has
// served all of them before, it may be another device, which refuses other things.
func (d *device) refusedNow(items set) {
	for i, t := range d.read {
		if items.has(i) && t.IsZero() {
			return
		}
	}
	d.doubt()
}

// servedLately tells whether the device has served all of these items lately.
func (d *device) servedLately(items set, now time.Time) bool {
	for i, t := range d.read {
		if items.has(i) && (t.IsZero() || now.Sub(t) > servedLately) {
			return false
		}
	}
	return true
}

// leftOut takes in that points are not read any more, and plans when they are asked
// for again.
func (b *Bus) leftOut(d *device, points []string, now time.Time) {
	if len(points) == 0 {
		return
	}
	if r := &d.refusals; r.again.IsZero() {
		r.wait = min(max(2*r.wait, refusalFirst), refusalMost)
		r.again = now.Add(r.wait)
	}
	b.countRefused(d, now)
}

// leftOutSoon does the same for points that the device has served before.
func (b *Bus) leftOutSoon(d *device, now time.Time) {
	if soon := now.Add(refusalSoon); d.refusals.again.IsZero() || soon.Before(d.refusals.again) {
		d.refusals.again = soon
	}
	b.countRefused(d, now)
}

// countRefused keeps up what Status says of the points that the device refuses.
func (b *Bus) countRefused(d *device, now time.Time) {
	n := 0
	for i := range d.items {
		if d.items[i].series >= 0 && d.lacks(i) {
			n++
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.refusedPoints = n; n > 0 && d.refusedSince.IsZero() {
		d.refusedSince = now
	}
}

// askRefusedAgain asks a device again for what it has refused, when it is time.
func (b *Bus) askRefusedAgain(now time.Time) {
	for _, d := range b.devices {
		if r := &d.refusals; r.again.IsZero() || r.again.After(now) {
			continue
		}
		d.refusals.again = time.Time{}
		if d.geni != nil {
			d.restore()
			continue
		}
		d.offerRefused()
		b.reserve(d)
	}
}

// accepted takes in that a device has served a frame.
func (b *Bus) accepted(d *device, f *frame) {
	if len(d.refusals.rows) > 0 {
		delete(d.refusals.rows, f.key())
	}
	for i := range d.refusals.items {
		if f.items.has(i) {
			delete(d.refusals.items, i)
		}
	}
	if d.refusedPoints == 0 || !d.refusals.again.IsZero() {
		return
	}
	// It was asked again for what it refused. Has it served all of it?
	for i := range d.items {
		if d.items[i].series >= 0 && (d.lacks(i) || d.read[i].IsZero()) {
			return
		}
	}
	d.refusals.wait = 0
	b.mu.Lock()
	d.refusedPoints, d.refusedSince = 0, time.Time{}
	b.mu.Unlock()
}

// offerRefused has the registers that the device refuses asked for again, each item
// in a block of its own: what the device has is read as before meanwhile.
func (d *device) offerRefused() {
	var holes []profile.Block
	for i, s := range d.spans {
		at := slices.IndexFunc(d.Profile.Blocks, func(b profile.Block) bool { return b.Contains(s.first, s.last) })
		if !d.lacks(i) || at < 0 {
			continue
		}
		hole := d.Profile.Blocks[at]
		hole.First, hole.Last = s.first, s.last
		for k := 0; k < len(holes); { // items that share registers are in one
			if h := holes[k]; h.First <= hole.Last && hole.First <= h.Last {
				hole.First, hole.Last = min(h.First, hole.First), max(h.Last, hole.Last)
				holes = slices.Delete(holes, k, k+1)
				k = 0
				continue
			}
			k++
		}
		holes = append(holes, hole)
	}
	d.blocks = append(d.blocks, holes...)
	d.locate()
}

// restore puts back what the device was found not to have. A frame that waits to be
// asked again was planned without that, and is planned anew.
func (d *device) restore() {
	d.pending, d.tries = nil, 0
	if d.geni != nil {
		d.geni.surveyed = false
		return
	}
	d.blocks = slices.Clone(d.Profile.Blocks)
	d.locate()
}

// forget forgets what was learnt of what the device has: it may be another one.
func (d *device) forget() {
	d.refusals, d.function = newRefusals(), functions(profile.Either)
	d.restore()
}

// confirmedRefusals returns those of the IDs whose refusal counts: all items that
// need them were refused several times in a row.
func (b *Bus) confirmedRefusals(d *device, class byte, ids []byte) (confirmed []byte) {
	for _, id := range ids {
		counts := true
		for i := range d.items {
			g := d.items[i].Geni
			if byte(g.Class) != class || !slices.Contains(g.IDs, id) || d.geni.known[i].absent {
				continue
			}
			if d.refusals.items[i]++; d.refusals.items[i] < refusalsCount {
				counts = false
			}
		}
		if counts {
			confirmed = append(confirmed, id)
		}
	}
	return confirmed
}
