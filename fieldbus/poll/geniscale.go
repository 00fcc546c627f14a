package poll

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// heldToSurvey looks, before any value of a reply is taken, at what decides scales.
// Where it is not what it was before INFO was read, INFO is read anew.
func (b *Bus) heldToSurvey(d *device, f *frame, reply []byte) {
	for _, p := range f.geni.picks {
		if decider(d.items, p.item) && b.decision(d, p, reply) != d.geni.known[p.item].decided {
			d.geni.surveyed = false
			d.doubt()
		}
	}
}

// decision is a value that decides scales, and whether it was read.
type decision struct {
	raw  int64
	read bool
}

// decision is a deciding item's value in a reply. All ones are a value like any
// other: whether INFO says so must not make a difference.
func (b *Bus) decision(d *device, p pick, reply []byte) decision {
	raw, q := d.items[p.item].DecodeGeni(b.pickedBytes(p, reply), true)
	if q != telemetry.Good {
		raw = -1
	}
	return decision{raw, true}
}

// decider tells whether an item decides the scale of another.
func decider(items []item, i int) bool {
	return slices.ContainsFunc(items, func(it item) bool { return it.Geni.Follows == items[i].Point.Name })
}

// readDeciders reads what decides scales. It is read before INFO: where it changes
// while INFO is read, the next telegram shows it to be another.
func (b *Bus) readDeciders(ctx context.Context, d *device) error {
	for i := range d.items {
		if !decider(d.items, i) {
			continue
		}
		g := d.items[i].Geni
		pdu := genibus.AppendGet(nil, genibus.Class(g.Class), g.IDs...)
		reply, _, err := b.geni.master.Do(ctx, byte(d.Address), pdu, d.geni.buffer)
		if err != nil {
			return err
		}
		d.geni.known[i].decided = decision{}
		if genibus.Refused(byte(d.Address), pdu, reply) == nil {
			p := pick{item: i}
			for k := range g.Bytes() {
				p.at = append(p.at, 2+k)
			}
			d.geni.known[i].decided = b.decision(d, p, reply)
		}
	}
	return nil
}

// scaleOf is the scale of a point as the device has told it.
func (d *device) scaleOf(point string) (s telemetry.Scale) {
	for i := range d.items {
		if d.items[i].Point.Name == point {
			s = d.items[i].Scale
		}
	}
	return s
}

// geniScale is the scale of an item in the unit of its point.
func geniScale(it profile.Item, m genibus.Meaning, first bool) (telemetry.Scale, error) {
	generation := genibus.Later
	if first {
		generation = genibus.First
	}
	s, err := m.Scale(it.Geni.Bytes(), generation)
	if err != nil {
		return telemetry.Scale{}, err
	}
	if m.Format < genibus.Scaled {
		return telemetry.Scale{}, fmt.Errorf("%s: the device gives it no unit", it.Point.Name)
	}
	from := s.Unit.Symbol
	if it.Point.Unit == "m[H2O]" { // a head is a column of the liquid
		switch from {
		case "m":
			from = "m[H2O]"
		case "[ft_i]":
			from = "[ft_i'H2O]"
		}
	}
	step, zero := big.NewRat(s.Num, s.Den), big.NewRat(s.Add, s.Den)
	if f := it.Geni.Factor; f != nil {
		step.Mul(step, f)
		zero.Mul(zero, f)
	}
	return telemetry.NewScale(step, zero, from, it.Point.Unit)
}

// rescale puts the scales that a device told into the catalogue. It tells
// Deps.Rescaled before any value of the new scale is delivered.
func (b *Bus) rescale(d *device) {
	changed := false
	b.mu.Lock()
	for i := range d.items {
		it := &d.items[i]
		if it.series < 0 {
			continue
		}
		series := &b.groups[it.group.index].Series[it.series]
		if series.Scale == it.Scale {
			continue
		}
		changed = true
		b.groups[it.group.index].Series = slices.Clone(b.groups[it.group.index].Series)
		b.groups[it.group.index].Series[it.series].Scale = it.Scale
		d.values[i].Scale = it.Scale
	}
	b.mu.Unlock()
	if changed && b.rescaled != nil {
		b.rescaled()
	}
}
