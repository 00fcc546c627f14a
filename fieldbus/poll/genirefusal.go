package poll

import (
	"bytes"
	"context"
	"slices"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/internal/telemetry"
)

// leaveOut finds out which items of a telegram the device does not have, and
// leaves them out from now on.
func (b *Bus) leaveOut(ctx context.Context, d *device, f *frame, reply []byte, put func(i int, raw int64, q telemetry.Quality)) error {
	d.refusedNow(f.items)
	var points []string
	now := b.clk.Now()
	for request := f.geni.pdu; ; {
		asked, more, ok, err := genibus.Next(request)
		got, rest, answered, _ := genibus.Next(reply)
		if err != nil || !ok || !answered {
			break
		}
		request, reply = more, rest
		if got.Ack() == genibus.OK {
			continue
		}
		refused := got.Data // the first that it does not have; the next telegram finds the next
		switch {
		case got.Ack() == genibus.UnknownClass:
			refused = asked.Data
		case len(refused) == 0:
			refused, err = b.geni.master.Collect(ctx, byte(d.Address), asked.Class, genibus.Get, asked.Data, d.geni.buffer, func(byte, []byte) {})
			if err != nil {
				return err
			}
		}
		refused = b.confirmedRefusals(d, byte(asked.Class), refused)
		gone := d.drop(asked.Class, refused, false)
		if points = append(points, gone...); len(gone) == 0 {
			continue
		}
		if d.served(gone, now) {
			b.leftOutSoon(d, now)
		}
		b.leftOut(d, gone, now)
	}
	b.missing(d, points)
	d.putAbsent(put)
	return errReplan
}

// served tells whether the device has served all of these points lately.
func (d *device) served(points []string, now time.Time) bool {
	var items set
	for i := range d.items {
		if d.items[i].series >= 0 && slices.Contains(points, d.items[i].Point.Name) {
			items.add(i)
		}
	}
	return d.servedLately(items, now)
}

// putAbsent says of what is due and absent that it is missing.
func (d *device) putAbsent(put func(i int, raw int64, q telemetry.Quality)) {
	for i := range d.items {
		if d.due.has(i) && d.lacks(i) {
			put(i, 0, telemetry.Missing)
		}
	}
}

func (b *Bus) missing(d *device, points []string) {
	if len(points) > 0 {
		b.log.Info("a pump does not have some points of its family", "pump", d.ID, "points", points)
	}
}

// drop leaves out the items that need one of these IDs. An alarm code is made of
// the bits that are there. That INFO is refused says nothing of an item whose
// scale the family has.
func (d *device) drop(class genibus.Class, ids []byte, info bool) (points []string) {
	d.plans = nil
	for i := range d.items {
		it := &d.items[i]
		if genibus.Class(it.Geni.Class) != class || d.geni.known[i].absent || info && it.Geni.Fixed {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(it.Geni.IDs), func(id byte) bool { return bytes.IndexByte(ids, id) >= 0 })
		if len(left) == len(it.Geni.IDs) {
			continue
		}
		if len(left) > 0 && it.Geni.Alarms != nil {
			fewer := *it.Geni
			fewer.IDs = left
			it.Geni = &fewer
			continue
		}
		d.geni.known[i].absent = true
		if it.series >= 0 {
			points = append(points, it.Point.Name)
		}
	}
	return points
}
