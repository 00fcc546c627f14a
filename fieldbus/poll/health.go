package poll

import (
	"slices"
	"time"
)

// answered takes in that a device is there. good says that it answered what it
// was asked, not that it refused.
func (b *Bus) answered(d *device, now time.Time, good bool) {
	if d.failures >= deadAfter {
		// Whatever cut it off may have cut off others, which need not sit out
		// their penalty.
		for _, other := range b.devices {
			other.notBefore = time.Time{}
		}
	}
	d.failures, d.notBefore = 0, time.Time{}
	d.health.note(true)
	if d.lastGood.IsZero() {
		d.health = max(d.health, 2*healthLeast) // one answer is all that is known
	}
	b.mu.Lock()
	if good {
		d.lastGood = now
	}
	b.mu.Unlock()
	b.setState(d, now, "")
}

// spent takes in how long a request took that nobody answered. A device that is
// alive does not pay for it.
func (b *Bus) spent(d *device, took time.Duration) {
	b.meter.dead += took
	if !d.health.alive() {
		b.budget.pay(took)
	}
}

// unanswered takes in that a device gave no sound answer to a frame.
func (b *Bus) unanswered(d *device, f *frame, err error, now time.Time) {
	d.health.note(false)
	d.id.silent = true
	d.doubt()
	d.pending, d.tries = f, d.tries+1
	if d.health.alive() && d.tries < attempts {
		return // asked again at once
	}
	d.pending, d.tries = nil, 0
	d.failures++
	d.notBefore = now.Add(d.penalty())
	if d.health.alive() {
		b.giveUp(d, f.items) // the other frames may fare better
	} else {
		for _, g := range d.groups {
			if !g.early { // what is read ahead of the first slot is read when the device answers
				b.miss(d, g)
			}
		}
	}
	b.setState(d, now, failureText(err, d.failures, b.line.Mode()))
}

// heard takes in the count of what a device's module hears from its pump.
func (b *Bus) heard(d *device, count uint32) {
	stood := d.counter.same > 0
	if d.counter.see(count); stood && d.counter.same == 0 {
		d.doubt() // the module had lost its pump, and has one again
	}
	b.setState(d, b.clk.Now(), "")
}

// lost tells whether a device's module has lost its pump.
func (d *device) lost() bool {
	return d.Profile.Alive != nil && d.counter.same >= d.Profile.Alive.Unchanged
}

// setState says how a device is doing, once for each change.
func (b *Bus) setState(d *device, now time.Time, problem string) {
	state := OK
	switch {
	case d.id.problem != "" && d.failures < deadAfter:
		state, problem = Unidentified, d.id.problem
	case d.failures >= deadAfter:
		state = Dead
	case d.failures > 0:
		state = Failing
	case d.lost():
		state = Stale
		problem = "the module answers, but has lost its pump: the values are old"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d.problem, d.failed, d.replyTime = problem, d.failures, b.pace().ReplyTime(byte(d.Address))
	d.learned = b.pace().Learned(byte(d.Address))
	if d.state == state {
		return
	}
	was := d.state
	d.state, d.since = state, now
	switch {
	case state == Dead, state == Stale:
		b.log.Warn("a pump cannot be read", "pump", d.ID, "address", d.Address, "problem", d.problem)
	case state == OK && (was == Dead || was == Stale || was == Unidentified):
		b.log.Info("a pump can be read again", "pump", d.ID, "address", d.Address)
	}
}

// meter measures how the bus's time was spent in the last minute.
type meter struct {
	dead    time.Duration // spent on requests that nobody answered, since the start
	samples []sample      // one a second, the oldest first
}

type sample struct {
	at         time.Time
	busy, dead time.Duration
}

// over is the time that the meter looks back.
const over = time.Minute

// measure takes a sample each second.
func (b *Bus) measure(now time.Time) {
	m := &b.meter
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) < time.Second {
		return
	}
	first := 0
	for first < len(m.samples) && now.Sub(m.samples[first].at) > over {
		first++
	}
	m.samples = append(slices.Delete(m.samples, 0, first), sample{now, b.line.Counters().Busy(), m.dead})
	oldest, newest := m.samples[0], m.samples[len(m.samples)-1]
	past := newest.at.Sub(oldest.at)
	if past <= 0 {
		return
	}
	planned := b.status.planned
	if b.paced {
		planned, b.paced = b.demand(), false
	}
	b.mu.Lock()
	b.status.planned = planned
	b.status.occupancy = float64(newest.busy-oldest.busy) / float64(past)
	b.status.dead = float64(newest.dead-oldest.dead) / float64(past)
	b.mu.Unlock()
}
