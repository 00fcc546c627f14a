package modbus

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus/lateness"
)

// widest is by how many registers a read is widened at most, to look different
// from those before it. Two bytes each are cheaper than any wait.
const widest = 8

// Variant is one way to put a read on the wire: a function, and registers that
// hold those which are wanted.
type Variant struct {
	Function     byte // 3 or 4
	Start, Count uint16
}

// Shape is what the variant's answer looks like: function and byte count.
func (v Variant) Shape() lateness.Shape {
	a := answer{function: v.Function, known: 1}
	if a.fixed[0] = byte(2 * v.Count); v.Function == readCoils || v.Function == readDiscretes {
		a.fixed[0] = byte((v.Count + 7) / 8)
	}
	return a.shape()
}

func (v Variant) String() string {
	return fmt.Sprintf("function %d, %d registers from %d", v.Function, v.Count, v.Start)
}

func (v Variant) read(client gomodbus.Client) ([]byte, error) {
	switch v.Function {
	case readCoils:
		return client.ReadCoils(v.Start, v.Count)
	case readDiscretes:
		return client.ReadDiscreteInputs(v.Start, v.Count)
	case readInput:
		return client.ReadInputRegisters(v.Start, v.Count)
	}
	return client.ReadHoldingRegisters(v.Start, v.Count)
}

// serves tells whether the variant's answer holds what r asks for.
func (v Variant) serves(r *Request) bool {
	return r.Allows(v.Function) &&
		v.Start <= r.Start && int(v.Start)+int(v.Count) >= int(r.Start)+r.Count
}

// Allows tells whether r may be read with a function.
func (r *Request) Allows(function byte) bool {
	switch function {
	case readHolding:
		return r.Functions == Either || r.Functions == Holding
	case readInput:
		return r.Functions == Either || r.Functions == Input
	case readCoils:
		return r.Functions == Coils
	case readDiscretes:
		return r.Functions == Discretes
	}
	return false
}

// function is the first of the functions by which r may be read.
func (r *Request) function() byte {
	for _, f := range [...]byte{readHolding, readInput, readCoils} {
		if r.Allows(f) {
			return f
		}
	}
	return readDiscretes
}

// ways yields the ways to read r, the cheapest first: as it is, then widened
// within its block by up to most registers.
func (r *Request) ways(most int, yield func(Variant) bool) {
	first, last := int(r.First), int(r.Last)
	if !r.bounded() {
		first, last = int(r.Start), int(r.Start)+r.Count-1
	}
	for wider := range most + 1 {
		count := r.Count + wider
		start := int(r.Start)
		if over := start + count - 1 - last; over > 0 {
			start -= over // widen to the front where the block ends
		}
		if start < first || count > MaxRegisters {
			return
		}
		for _, function := range [...]byte{readHolding, readInput, readCoils, readDiscretes} {
			if r.Allows(function) && !yield(Variant{function, uint16(start), uint16(count)}) {
				return
			}
		}
	}
}

// continues returns the pending request as a variant, where it serves r.
func (d *device) continues(r *Request, now time.Time) (Variant, bool) {
	p := d.Pending()
	if p == nil || p[1] < readCoils || p[1] > readInput {
		return Variant{}, false
	}
	v := Variant{p[1], binary.BigEndian.Uint16(p[2:]), binary.BigEndian.Uint16(p[4:])}
	if !v.serves(r) {
		return Variant{}, false
	}
	if !d.planned(r, now) {
		return v, true
	}
	for _, w := range r.Variants {
		if v == w {
			return v, true
		}
	}
	return Variant{}, false
}

// pick returns the way to make r next, and the time from which on it may be.
func (d *device) pick(r *Request, now time.Time) (Variant, time.Time) {
	var variants [2 * (widest + 1)]Variant
	var shapes [2 * (widest + 1)]lateness.Shape
	n := 0
	add := func(v Variant) bool {
		if n < len(variants) {
			variants[n], shapes[n] = v, v.Shape()
			n++
		}
		return n < len(variants)
	}
	for _, v := range r.Variants {
		if d.usable(r, v, now) {
			add(v)
		}
	}
	own := n > 0
	if n == 0 {
		r.ways(widest, func(v Variant) bool { return d.reserved[v.Shape()] || !d.usable(r, v, now) || add(v) })
	}
	if n == 0 { // every way is reserved: as it is, after the quiet window
		v := Variant{r.function(), r.Start, uint16(r.Count)}
		variants[0], shapes[0], n = v, v.Shape(), 1
	}
	if own {
		i, at := d.ChooseOwn(shapes[:n], r.block(), now)
		return variants[i], at
	}
	i, at := d.Choose(shapes[:n], r.block(), now)
	return variants[i], at
}

// choose picks how to read r so that no earlier answer fits. It repeats the
// pending request where that serves r, and waits only where nothing else is
// left.
func (m *Master) choose(ctx context.Context, d *device, r *Request) (Variant, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Variant{}, err
		}
		now := m.t.line.Clock().Now()
		d.Expire(now)
		if v, ok := d.continues(r, now); ok {
			return v, nil
		}
		v, at := d.pick(r, now)
		if !at.After(now) {
			d.Abandon()
			return v, nil
		}
		if m.separate(d, r, v, now) {
			continue
		}
		if err := m.t.Overhear(ctx, at); err != nil {
			return Variant{}, err
		}
	}
}

// separate reads one register between two requests that would look alike, where
// there is no other way to tell them apart: at a block's end or at 125 registers,
// with one function. It tells whether it did.
func (m *Master) separate(d *device, r *Request, v Variant, now time.Time) bool {
	between := Variant{v.Function, r.Start, 1}
	if r.Count == 1 || d.Pending() != nil || !d.LastIs(v.Shape()) || d.reserved[between.Shape()] ||
		d.Clear(between.Shape(), blockOfOne(r.Start), now).After(now) {
		return false
	}
	d.block = blockOfOne(r.Start)
	_, err := between.read(m.Client(r.Address))
	return err == nil
}

func blockOfOne(start uint16) lateness.Block {
	return (&Request{Start: start, Count: 1}).block()
}

// Assign gives each of the planned reads of one device the ways to make it in
// which its answer cannot be taken for that of another of them: no two reads share
// a function and byte count. taken holds the shapes that are given already, and is
// added to. Those with the fewest ways choose first, two each, so that consecutive
// reads differ; then one after the other, most ways at the most. A read that is
// given none has to be told apart by waiting.
func Assign(taken map[lateness.Shape]bool, reads []Request, most int) [][]Variant {
	out := make([][]Variant, len(reads))
	order, room := make([]int, len(reads)), make([]int, len(reads))
	for i := range reads {
		order[i] = i
		reads[i].ways(widest, func(Variant) bool { room[i]++; return true })
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(room[a], room[b]) })
	give := func(i int) {
		reads[i].ways(MaxRegisters, func(v Variant) bool {
			if taken[v.Shape()] || int(v.Count) > reads[i].Count+widest && len(out[i]) >= 2 {
				return true
			}
			taken[v.Shape()] = true
			out[i] = append(out[i], v)
			return false
		})
	}
	for _, i := range order {
		for range min(2, most) {
			give(i)
		}
	}
	for range most - 2 {
		for _, i := range order {
			give(i)
		}
	}
	return out
}
