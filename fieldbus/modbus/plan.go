package modbus

import (
	"context"
	"encoding/binary"
	"time"

	gomodbus "github.com/goburrow/modbus"
)

// widest is by how many registers a read is widened at most, to look different
// from those before it. Two bytes each are cheaper than any wait.
const widest = 8

// plan is the request on the wire that a Request is read by.
type plan struct {
	function     byte
	start, count uint16
}

func (p plan) shape() shape {
	a := answer{function: p.function, known: 1}
	a.fixed[0] = byte(2 * p.count)
	return a.shape()
}

func (p plan) read(client gomodbus.Client) ([]byte, error) {
	if p.function == readInput {
		return client.ReadInputRegisters(p.start, p.count)
	}
	return client.ReadHoldingRegisters(p.start, p.count)
}

// pendingPlan is the pending request as a plan. It serves no Request when it is
// not a read of registers.
func (d *device) pendingPlan() plan {
	if f := d.request[1]; f != readHolding && f != readInput {
		return plan{}
	}
	return plan{d.request[1], binary.BigEndian.Uint16(d.request[2:]), binary.BigEndian.Uint16(d.request[4:])}
}

// serves tells whether the plan's answer holds what r asks for.
func (p plan) serves(r *Request) bool {
	return r.allows(p.function) &&
		p.start <= r.Start && int(p.start)+int(p.count) >= int(r.Start)+r.Count
}

func (r *Request) allows(function byte) bool {
	return r.Functions == Either ||
		r.Functions == Holding && function == readHolding ||
		r.Functions == Input && function == readInput
}

// plans yields the ways to read r, the cheapest first: as it is, then widened
// within its block.
func (r *Request) plans(yield func(plan) bool) {
	first, last := int(r.First), int(r.Last)
	if !r.bounded() {
		first, last = int(r.Start), int(r.Start)+r.Count-1
	}
	for wider := range widest + 1 {
		count := r.Count + wider
		start := int(r.Start)
		if over := start + count - 1 - last; over > 0 {
			start -= over // widen to the front where the block ends
		}
		if start < first || count > MaxRegisters {
			return
		}
		for _, function := range [...]byte{readHolding, readInput} {
			if r.allows(function) && !yield(plan{function, uint16(start), uint16(count)}) {
				return
			}
		}
	}
}

// choose picks how to read r so that no earlier answer fits. It repeats the
// pending request where that serves r, and waits only where nothing else is
// left.
func (m *Master) choose(ctx context.Context, d *device, r *Request) (plan, error) {
	if err := ctx.Err(); err != nil {
		return plan{}, err
	}
	now := m.t.line.Clock().Now()
	d.expire(now)
	if d.repeatable(now) {
		if p := d.pendingPlan(); p.serves(r) {
			return p, nil
		}
	}
	if err := m.settle(ctx, d, 0); err != nil {
		return plan{}, err
	}
	for {
		now = m.t.line.Clock().Now()
		d.expire(now)
		best, soonest := plan{}, time.Time{}
		for p := range r.plans {
			at := d.free(p.shape(), now)
			if !at.After(now) {
				return p, nil
			}
			if soonest.IsZero() || at.Before(soonest) {
				best, soonest = p, at
			}
		}
		// At a block's end or at 125 registers, with one function, there is
		// nothing wider. One register in between makes the two differ.
		between := plan{best.function, r.Start, 1}
		last := d.latest()
		if r.Count > 1 && !last.open && last.shape == best.shape() && !d.free(between.shape(), now).After(now) {
			if _, err := between.read(m.Client(r.Address)); err != nil {
				return plan{}, refusal(r.Address, err)
			}
			continue
		}
		if err := m.t.line.Clock().Sleep(ctx, soonest.Sub(now)); err != nil {
			return plan{}, err
		}
	}
}

// settle holds a new request with this function and data back until a pending one, now given up, can no longer be answered.
// The pending request itself may go at once.
func (m *Master) settle(ctx context.Context, d *device, function byte, data ...byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	clk := m.t.line.Clock()
	now := clk.Now()
	d.expire(now)
	if until := d.quietUntil(); until.After(now) && !d.repeats(now, function, data...) {
		return clk.Sleep(ctx, until.Sub(now))
	}
	return nil
}
