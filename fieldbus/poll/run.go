package poll

import (
	"context"
	"errors"
	"time"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

// The line's retry: how soon after the first failure, and at most.
const (
	reopenFirst = 250 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// A step of the wall clock by more than this puts the slots on a new grid.
const clockStep = 2 * time.Second

// Slots that went by while the loop was held up are reported as missing up to
// this far back. Further back nobody knows what the clock did.
const backlog = time.Minute

// port is the state of the line's port.
type port struct {
	open    bool
	retryAt time.Time
	wait    time.Duration
}

// Run reads the bus until ctx ends, and hands each reading to sink, from the
// calling goroutine. Readings of one frame come together, before the next
// transaction begins. When ctx ends, the transaction in flight is finished and
// its readings are delivered, or reported as missing. An answer that a device still owes is
// waited out, up to its quiet window; then Run returns nil.
//
// A port that is missing, busy or vanishes is tried again for ever; the slots
// of that time are reported as missing. The log says it once for each change.
func (b *Bus) Run(ctx context.Context, sink func(telemetry.Reading)) error {
	b.sink = sink
	if b.owed {
		// Not cut short by ctx: who is started after us would not know of the debt.
		_ = b.clk.Sleep(context.WithoutCancel(ctx), b.debt())
	}
	now := b.clk.Now()
	b.begin(now)
	for ctx.Err() == nil {
		now = b.clk.Now()
		b.watchClock(now)
		b.budget.earn(now)
		b.keepOpen(now)
		b.identifyOverdue(now)
		b.askRefusedAgain(now)
		b.release(now)
		b.measure(now)
		if b.work(ctx, now) {
			continue
		}
		b.sleep(ctx, now)
	}
	for _, d := range b.devices {
		if d.pending != nil { // asked for, and never to be asked for again
			b.giveUp(d, d.pending.items)
		}
	}
	b.cancelCommands()
	b.settle(ctx)
	if err := b.line.Close(); err != nil {
		b.log.Warn("closing the serial port", "error", err)
	}
	return nil
}

// Owed says that another program has just polled the line and was killed, such as
// ourselves a moment ago: a device may owe it an answer, which could be taken for the
// answer to our first request. Run then asks nothing for as long as one is to be
// feared, and for a while puts its requests as the run before did not. run counts
// such starts: it differs from that of the one before. Owed is called before Run.
func (b *Bus) Owed(run int) { b.owed, b.run = true, run }

// debt is how long an answer that is owed may take.
func (b *Bus) debt() time.Duration {
	const longest = 2 * 256 // bytes of a request and its answer
	window := time.Duration(0)
	for _, d := range b.devices {
		window = max(window, b.pace().Quiet(byte(d.Address)))
	}
	return b.line.Mode().Wire(longest) + window
}

// settle waits until no device owes an answer to us any more. A stop in order leaves no
// mark as a kill does, so that whoever is started next asks at once, and would take it.
func (b *Bus) settle(ctx context.Context) {
	var until time.Time
	for _, d := range b.devices {
		if t := b.pace().OwedUntil(byte(d.Address)); t.After(until) {
			until = t
		}
	}
	if left := until.Sub(b.clk.Now()); left > 0 {
		_ = b.clk.Sleep(context.WithoutCancel(ctx), left)
	}
}

func (b *Bus) begin(now time.Time) {
	b.last, b.begun = now, now
	for _, d := range b.devices {
		for _, g := range d.groups {
			g.start(now)
		}
		d.since = now
	}
	b.mu.Lock()
	b.status.since = now
	b.mu.Unlock()
}

// watchClock notices that the wall clock was set: the monotonic reading of a
// time tells a step from time that passed.
func (b *Bus) watchClock(now time.Time) {
	step := now.Round(0).Sub(b.last.Round(0)) - now.Sub(b.last)
	if step > clockStep || step < -clockStep {
		b.clockSet(step, now)
	}
	b.last = now
}

// clockSet puts the slots on the grid of a clock that was set.
func (b *Bus) clockSet(step time.Duration, now time.Time) {
	b.log.Info("the clock was set", "by", step)
	for _, d := range b.devices {
		d.due, d.pending, d.tries = set{}, nil, 0
		for _, g := range d.groups {
			g.skip(now)
		}
	}
}

// keepOpen opens the port when it is not, and it is time to try again.
func (b *Bus) keepOpen(now time.Time) {
	if b.port.open || now.Before(b.port.retryAt) {
		return
	}
	if err := b.line.Open(); err != nil {
		b.lineFailed(err, now)
		return
	}
	b.port.open = true
	for _, d := range b.devices {
		d.notBefore = time.Time{}
		d.id.away = true
		d.doubt()
	}
	if b.status.problem == "" || len(b.devices) == 0 {
		b.proven(now)
	}
}

// proven takes in that the line can be used: not merely opened, which an adapter
// without power can be, too.
func (b *Bus) proven(now time.Time) {
	b.port.wait = 0
	if b.status.ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status.problem != "" {
		b.log.Info("the line can be used again", "port", b.line.Path(), "after", now.Sub(b.status.since).Round(time.Second))
	}
	b.status.ok, b.status.since, b.status.problem = true, now, ""
}

// lineFailed takes in that the line cannot be used for now.
func (b *Bus) lineFailed(err error, now time.Time) {
	b.port.open = b.line.IsOpen() && !errors.Is(err, fieldbus.ErrBabble) && !otherMaster(err)
	b.port.wait = min(max(2*b.port.wait, reopenFirst), reopenMost)
	b.port.retryAt = now.Add(b.port.wait)
	b.mu.Lock()
	defer b.mu.Unlock()
	if text := err.Error(); b.status.ok || b.status.problem != text {
		if b.status.ok {
			b.status.since = now
		}
		b.status.ok, b.status.problem = false, text
		b.log.Warn("the line cannot be used; trying on", "error", err)
	}
}

// release begins the slots that have come, and gives up those that were not
// read before the next one came.
func (b *Bus) release(now time.Time) {
	for _, d := range b.devices {
		for _, g := range d.groups {
			if g.next.Before(now.Add(-backlog - g.period)) {
				b.miss(d, g)
				g.skip(now.Add(-backlog))
			}
			for !g.next.After(now) {
				b.expire(d, g)
				g.begin()
				d.due.union(g.items)
				b.excuse(d, g)
			}
		}
		if !b.port.open && !d.due.empty() {
			for _, g := range d.groups {
				if !g.early {
					b.miss(d, g)
				}
			}
			d.pending = nil
		}
	}
}

// expire gives up what is left of a slot: the cycle came too late.
func (b *Bus) expire(d *device, g *group) {
	if !g.open {
		return
	}
	late := d.hasDue(g) && !g.early && d.failures == 0 && b.port.open
	if late {
		b.mu.Lock()
		d.dropped++
		b.mu.Unlock()
	}
	switch {
	case g != d.groups[0]:
	case late:
		d.missed++
	default:
		d.missed = 0
	}
	b.miss(d, g)
}

// excuse takes what the device refuses to have read out of the slot.
func (b *Bus) excuse(d *device, g *group) {
	for _, i := range g.order {
		if d.lacks(i) {
			d.due.remove(i)
			b.put(d, i, g.slot, 0, 0, telemetry.Missing)
		}
	}
}

// miss reports what is due of a group as missing.
func (b *Bus) miss(d *device, g *group) {
	if !g.open {
		return
	}
	for _, i := range g.order {
		if !d.due.has(i) {
			continue
		}
		d.due.remove(i)
		if !g.early { // nobody has promised that slot
			b.put(d, i, g.slot, 0, 0, telemetry.Missing)
		}
	}
}

// put delivers one reading.
func (b *Bus) put(d *device, i int, slot time.Time, off time.Duration, raw int64, q telemetry.Quality) {
	it := &d.items[i]
	if it.series < 0 {
		return
	}
	r := telemetry.Reading{Group: it.group.index, Series: it.series, Slot: slot, Off: off, Raw: raw, Quality: q}
	b.mu.Lock()
	d.values[i].Raw, d.values[i].Quality, d.values[i].Time = raw, q, r.Time()
	b.mu.Unlock()
	b.sink(r)
}

// work does one transaction, if there is one to do.
func (b *Bus) work(ctx context.Context, now time.Time) bool {
	if !b.port.open {
		b.refuseCommands()
		return false
	}
	if o := b.nextCommand(now); o != nil {
		b.step(ctx, o)
		return true
	}
	if b.keepAwake(ctx, now) {
		return true
	}
	if d := b.pick(now); d != nil {
		b.poll(ctx, d)
		return true
	}
	return b.identifyIdle(ctx, now)
}

// pick chooses the device to ask now: of those that may be asked and can still
// be read in time, the one whose due items have the earliest deadline. Where
// there is more to read than time, one that came too late before goes first, so
// that all of them are read in turn.
func (b *Bus) pick(now time.Time) (best *device) {
	var earliest time.Time
	for _, d := range b.devices {
		g := d.urgent()
		if g == nil || b.ready(d, now).After(now) || d.pending == nil && d.hopeless(g, b.cost(d), now) {
			continue
		}
		t := g.deadline()
		if best == nil || d.missed > best.missed || d.missed == best.missed && t.Before(earliest) {
			best, earliest = d, t
		}
	}
	return best
}

// ready is when a device with due items may be asked.
func (b *Bus) ready(d *device, now time.Time) time.Time {
	at := d.notBefore
	f := b.frame(d)
	if f == nil {
		return at
	}
	if t := b.readyAt(d, f); t.After(at) && b.later(t) {
		at = t
	}
	if !d.health.alive() && (d.failures > 0 || d.tries > 0) {
		if t := b.budget.when(b.frameTimeout(d, f), now); t.After(at) {
			at = t
		}
	}
	return at
}

// frame is the frame of a device to read now, or nil.
func (b *Bus) frame(d *device) *frame {
	return d.frame(b.cost(d), func(f *frame) bool { return b.later(b.readyAt(d, f)) })
}

// later tells whether a time that the master said is to come. The master looks at the
// clock after us, and says "at once" by its own time.
func (b *Bus) later(t time.Time) bool { return t.After(b.clk.Now()) }

// poll asks a device for one frame.
func (b *Bus) poll(ctx context.Context, d *device) {
	if d.doubtful() {
		b.identify(ctx, d)
		return
	}
	f := b.frame(d)
	before := b.clk.Now()
	var at time.Time
	n := 0
	var values [maxItems]value
	at, err := b.read(ctx, d, f, func(i int, raw int64, q telemetry.Quality) {
		values[n] = value{i, raw, q}
		n++
	})
	now := b.clk.Now()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // before anything was sent
	}
	kind := faultOf(err)
	if kind != lineFault {
		b.proven(now)
	}
	switch kind {
	case noFault:
		b.answered(d, now, true)
		d.pending, d.tries = nil, 0
		b.deliver(d, at, values[:n])
		b.accepted(d, f)
	case replanned:
		b.answered(d, now, true)
		d.pending, d.tries = nil, 0
		b.deliver(d, at, values[:n])
	case refusing:
		b.answered(d, now, false)
		b.refused(d, f, err, now)
	case busy:
		b.answered(d, now, false)
		d.pending = nil
		if d.tries++; d.tries < attempts {
			d.notBefore = now.Add(busyPause)
			break // it is asked again in the same slot
		}
		d.tries = 0
		b.giveUp(d, f.items)
	case silent:
		b.spent(d, now.Sub(before))
		b.unanswered(d, f, err, now)
	default:
		d.pending, d.tries = nil, 0
		b.lineFailed(err, now)
	}
}

// busyPause is how long a device that says it is busy is left alone.
const busyPause = 50 * time.Millisecond

// value is one item of an answer.
type value struct {
	item int
	raw  int64
	q    telemetry.Quality
}

// deliver hands on the values of one frame.
func (b *Bus) deliver(d *device, at time.Time, values []value) {
	for _, v := range values {
		it := &d.items[v.item]
		if it.series < 0 {
			b.heard(d, uint32(v.raw))
		}
	}
	for _, v := range values {
		it := &d.items[v.item]
		d.due.remove(v.item)
		if v.q != telemetry.Missing {
			d.read[v.item] = at
		}
		if d.lost() && v.q == telemetry.Good {
			v.q = telemetry.Stale
		}
		if v.q == telemetry.Good {
			v.q = d.count(v.item, v.raw, at)
		}
		b.put(d, v.item, it.group.slot, at.Round(0).Sub(it.group.slot), v.raw, v.q)
	}
}

// giveUp reports items as missing.
func (b *Bus) giveUp(d *device, items set) {
	for _, g := range d.groups {
		for _, i := range g.order {
			if items.has(i) && d.due.has(i) {
				d.due.remove(i)
				if !g.early {
					b.put(d, i, g.slot, 0, 0, telemetry.Missing)
				}
			}
		}
	}
}

// sleep waits for the next thing to do.
func (b *Bus) sleep(ctx context.Context, now time.Time) {
	until := now.Add(time.Second) // for the meter
	sooner := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	for _, d := range b.devices {
		for _, g := range d.groups {
			sooner(g.next)
		}
		if b.port.open && d.urgent() != nil {
			if t := b.ready(d, now); t.After(now) {
				sooner(t)
			} // else it is hopeless, and waits for its next slot
		}
	}
	if d, at := b.nextIdentified(); b.port.open && d != nil && at.After(now) {
		sooner(at)
	}
	if !b.port.open {
		sooner(b.port.retryAt)
	} else if d, at := b.lonely(now); d != nil {
		sooner(at)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	for _, o := range b.commands {
		if o.fresh {
			b.mu.Unlock()
			return // it came after the loop had looked
		}
		sooner(o.at)
	}
	b.wake = cancel
	b.mu.Unlock()
	b.wait(ctx, now, until)
	b.mu.Lock()
	b.wake = nil
	b.mu.Unlock()
}

// wait waits until a time, and listens meanwhile where a device owes an answer.
func (b *Bus) wait(ctx context.Context, now, until time.Time) {
	owed := false
	for _, d := range b.devices {
		owed = owed || b.pace().OwedUntil(byte(d.Address)).After(now)
	}
	if !owed || !b.port.open {
		// At least a moment, so that a clock that stands still cannot spin.
		_ = b.clk.Sleep(ctx, max(until.Sub(now), 100*time.Microsecond))
		return
	}
	if err := b.pace().Overhear(ctx, until); err != nil && ctx.Err() == nil {
		b.lineFailed(err, b.clk.Now())
	}
}
