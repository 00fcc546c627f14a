package poll

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// pacer is what a bus asks any protocol's master about a device's pace.
type pacer interface {
	OwedUntil(address byte) time.Time
	Quiet(address byte) time.Duration
	Timeout(address byte) time.Duration
	ReplyTime(address byte) time.Duration
	Overhear(ctx context.Context, until time.Time) error
	Learned(address byte) lateness.Learned
	Restore(address byte, l lateness.Learned)
}

// pace is the pacer of the bus's protocol.
func (b *Bus) pace() pacer {
	if b.geni != nil {
		return b.geni.master
	}
	return b.master
}

// geniMaster is what a GENIbus needs of its master; *genibus.Master is one.
type geniMaster interface {
	pacer
	Do(ctx context.Context, to byte, pdu []byte, buffer int) ([]byte, time.Time, error)
	DoAs(ctx context.Context, to byte, pdu []byte, buffer int, variants []genibus.Variant) ([]byte, time.Time, error)
	ReadyAt(address byte, pdu []byte, buffer int, variants []genibus.Variant) time.Time
	Collect(ctx context.Context, to byte, class genibus.Class, op genibus.Operation, ids []byte, buffer int, each func(id byte, data []byte)) ([]byte, error)
	Spoken(address byte) time.Time
	Stats() genibus.Stats
}

// geniMode is the only mode of a GENIbus.
var geniMode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// masterAddress is the gateway's own on a GENIbus.
const masterAddress = 1

// geniBus is a bus whose protocol is GENIbus. It belongs to the goroutine that
// runs the bus.
type geniBus struct {
	master geniMaster
	told   genibus.Stats // what of the master's counters the line's hold already
	bytes  [256]byte     // of the value being put together
}

// geniDevice is what a bus knows of a GENIbus device beside its values.
type geniDevice struct {
	surveyed bool // the device has said what its values mean
	buffer   int
	known    []geniKnown // by item
	remote   bool        // the bus commands the pump: it must not be left alone
}

// geniKnown is what a device has said of one item.
type geniKnown struct {
	absent   bool // it does not have the item
	allValid bool // 0xFF is a value
	// Of an item that decides the scale of another: what it was before INFO told
	// that scale.
	decided decision
}

func newGeniDevice(items int) *geniDevice {
	return &geniDevice{buffer: genibus.SmallestBuffer, known: make([]geniKnown, items)}
}

// errReplan says that a device has told something about itself, so that what is
// to be read next has to be planned anew.
var errReplan = errors.New("the plan has changed")

// geniFrame is a frame of GENIbus: one telegram.
type geniFrame struct {
	pdu      []byte
	variants []genibus.Variant // the ways to put it on the wire
	picks    []pick
	size     int // of request and reply, their framing excepted
}

// pick says where an item's bytes are in a reply that refuses nothing. Beside an
// item whose scale follows another, that other is read as well, due or not.
type pick struct {
	item int
	at   []int
}

// readGeni carries out one telegram and hands each of its values to put.
func (b *Bus) readGeni(ctx context.Context, d *device, f *frame, put func(i int, raw int64, q telemetry.Quality)) (at time.Time, err error) {
	defer b.account()
	if !d.geni.surveyed {
		if err := b.survey(ctx, d); err != nil {
			return at, err
		}
		d.putAbsent(put)
		return b.clk.Now(), errReplan
	}
	reply, at, err := b.geni.master.DoAs(ctx, byte(d.Address), f.geni.pdu, d.geni.buffer, rotated(f.geni.variants, b.starting(), b.run))
	if err != nil {
		return at, err
	}
	if genibus.Refused(byte(d.Address), f.geni.pdu, reply) != nil {
		return at, b.leaveOut(ctx, d, f, bytes.Clone(reply), put)
	}
	b.heldToSurvey(d, f, reply)
	for _, p := range f.geni.picks {
		if !f.items.has(p.item) || !d.geni.surveyed && decides(d.items, p.item) >= 0 {
			continue // an item whose scale is not known any more stays due
		}
		v := b.pickedFrom(d, p, reply)
		if v.q == telemetry.Good {
			b.noticed(d, p.item, v.raw)
		}
		put(p.item, v.raw, v.q)
	}
	return at, nil
}

// pickedFrom is an item's value in a reply.
func (b *Bus) pickedFrom(d *device, p pick, reply []byte) value {
	raw, q := d.items[p.item].DecodeGeni(b.pickedBytes(p, reply), d.geni.known[p.item].allValid)
	return value{p.item, raw, q}
}

// pickedBytes are an item's bytes in a reply, valid until the next call.
func (b *Bus) pickedBytes(p pick, reply []byte) []byte {
	picked := b.geni.bytes[:len(p.at)]
	for k, from := range p.at {
		picked[k] = reply[from]
	}
	return picked
}

// survey asks a device for its buffer, and what its items mean. Everything that
// it refuses is left out.
func (b *Bus) survey(ctx context.Context, d *device) error {
	m, to := b.geni.master, byte(d.Address)
	// One attempt: it is the first request to a device that may not be there.
	hello := genibus.AppendGet(nil, genibus.ProtocolData, 2)
	reply, _, err := m.Do(ctx, to, hello, genibus.SmallestBuffer)
	if err != nil {
		return err
	}
	if a, _, ok, _ := genibus.Next(reply); ok && a.Ack() == genibus.OK {
		d.geni.buffer = max(int(a.Data[0]), genibus.SmallestBuffer)
	}
	for i := range d.items {
		d.items[i].Item, _ = d.Profile.Item(d.items[i].Point.Name)
		d.geni.known[i] = geniKnown{}
	}
	if err := b.readDeciders(ctx, d); err != nil {
		return err
	}
	meanings := map[byte]genibus.Meaning{}
	var points []string
	for _, class := range []genibus.Class{genibus.Measured, genibus.Configuration, genibus.Reference} {
		var ids []byte
		for i := range d.items {
			if g := d.items[i].Geni; genibus.Class(g.Class) == class {
				ids = append(ids, g.IDs...)
			}
		}
		slices.Sort(ids)
		clear(meanings)
		refused := slices.Compact(ids)
		for try := 0; try < refusalsCount && len(refused) > 0; try++ {
			var err error
			refused, err = m.Collect(ctx, to, class, genibus.Info, refused, d.geni.buffer, func(id byte, data []byte) {
				if meaning, _, err := genibus.ParseInfo(data); err == nil {
					meanings[id] = meaning
				}
			})
			if err != nil {
				return err
			}
			slices.Sort(refused)
			refused = slices.Compact(refused)
		}
		points = append(points, b.explain(d, class, meanings, refused)...)
	}
	for i := range d.items {
		if g := d.items[i].Geni; !g.Fixed && genibus.Class(g.Class) != genibus.Measured &&
			genibus.Class(g.Class) != genibus.Configuration && genibus.Class(g.Class) != genibus.Reference {
			d.geni.known[i].absent = true // no INFO in these classes, and no scale in the file
			points = append(points, d.items[i].Point.Name)
		}
	}
	d.geni.surveyed, d.plans = true, nil
	b.missing(d, points)
	b.leftOut(d, points, b.clk.Now())
	b.rescale(d)
	return nil
}

// explain takes in what the device says of the items of one class.
func (b *Bus) explain(d *device, class genibus.Class, meanings map[byte]genibus.Meaning, refused []byte) (points []string) {
	for i := range d.items {
		it := &d.items[i]
		if genibus.Class(it.Geni.Class) != class {
			continue
		}
		meaning, ok := meanings[it.Geni.IDs[0]]
		d.geni.known[i].allValid = ok && meaning.AllValid
		if it.Geni.Fixed {
			continue
		}
		if !ok { // without a scale there is no value
			if refused = append(refused, it.Geni.IDs[0]); it.series >= 0 {
				b.log.Info("a pump does not say what a value means", "pump", d.ID, "point", it.Point.Name)
			}
			continue
		}
		if n := len(it.Geni.IDs); n == 2 && meaning.Format == genibus.Scaled && bytes.IndexByte(refused, it.Geni.IDs[1]) >= 0 {
			short := *it.Geni // an older model, without the low byte
			short.IDs = short.IDs[:1]
			it.Geni = &short
		}
		scale, err := geniScale(it.Item, meaning, d.Profile.FirstUnits)
		if err != nil {
			b.log.Info("a pump's value is left out", "pump", d.ID, "point", it.Point.Name, "error", err)
			d.geni.known[i].absent = true
			continue
		}
		it.Scale = scale
	}
	return append(points, d.drop(class, refused, true)...)
}

// noticed looks at a value for what it means to the bus itself: who commands the
// pump.
func (b *Bus) noticed(d *device, i int, raw int64) {
	it := &d.items[i]
	if it.Point.Name == "access" {
		if d.geni.remote && raw != 1 {
			// Not taken back: that is for somebody to decide.
			b.log.Warn("a pump has fallen back to local", "pump", d.ID, "address", d.Address)
		}
		d.geni.remote = raw == 1
	}
}

// awake is how often a pump in remote is addressed at least; a little less than
// what the specification asks for, because a frame may be on the wire.
const awake = genibus.KeepAlive - 500*time.Millisecond

// lonely is the device in remote that has to be addressed next, and when. One
// that has not answered for a minute is in local by now.
func (b *Bus) lonely(now time.Time) (next *device, at time.Time) {
	if b.geni == nil {
		return nil, at
	}
	for _, d := range b.devices {
		if !d.geni.remote || now.Sub(d.lastGood) > time.Minute {
			continue
		}
		due := b.geni.master.Spoken(byte(d.Address)).Add(awake)
		if next == nil || due.Before(at) {
			next, at = d, due
		}
	}
	return next, at
}

// keepAwake addresses a pump in remote that would otherwise be left alone for too
// long: its values are read seldom, or it did not answer lately.
func (b *Bus) keepAwake(ctx context.Context, now time.Time) bool {
	d, at := b.lonely(now)
	if d == nil || at.After(now) {
		return false
	}
	pdu, variants := []byte(nil), []genibus.Variant(nil)
	if d.pending != nil && d.geni.surveyed { // it continues what was left unanswered
		pdu, variants = d.pending.geni.pdu, rotated(d.pending.geni.variants, b.starting(), b.run)
	}
	_, _, err := b.geni.master.DoAs(ctx, byte(d.Address), pdu, d.geni.buffer, variants)
	b.account()
	after := b.clk.Now()
	switch faultOf(err) {
	case silent:
		b.spent(d, after.Sub(now))
	case lineFault:
		if ctx.Err() == nil {
			b.lineFailed(err, after)
		}
	}
	return true
}

// account puts what the master counted into the line's counters.
func (b *Bus) account() {
	is, was, count := b.geni.master.Stats(), b.geni.told, b.line.Counters()
	b.geni.told = is
	count.Requests.Add(is.Requests - was.Requests)
	count.Answers.Add(is.Answers - was.Answers)
	count.Exceptions.Add(is.Refusals - was.Refusals)
	count.Timeouts.Add(is.Timeouts - was.Timeouts)
	count.Stale.Add(is.Stale - was.Stale)
	count.Foreign.Add(is.Foreign - was.Foreign)
	count.Echoes.Add(is.Echoes - was.Echoes)
	a, z := is.Malformed, was.Malformed
	count.Corrupt.Add(a.Checksum + a.Length + a.PDU - z.Checksum - z.Length - z.PDU)
	count.Cut.Add(a.Cut - z.Cut)
	count.Noise.Add(a.Noise - z.Noise)
	count.AddBusy(is.Busy - was.Busy)
}

// transactGeni does the transaction of an order's phase, and moves it on.
func (b *Bus) transactGeni(ctx context.Context, o *order) error {
	d, c := o.d, o.c
	switch o.phase {
	case checking:
		if _, err := b.check(ctx, o); err != nil {
			return err
		}
		o.phase = writing
	case writing:
		pdu := genibus.AppendSet(nil, genibus.Commands, c.Geni.Send[o.raw]...)
		if c.Geni.Reference != 0 {
			pdu = genibus.AppendSet(nil, genibus.Reference, byte(c.Geni.Reference), byte(o.raw))
		}
		if o.told++; o.told == 1 {
			o.sent = b.clk.Now()
		}
		o.until = o.sent.Add(c.Settle)
		reply, _, err := b.geni.master.Do(ctx, byte(d.Address), pdu, d.geni.buffer)
		b.account()
		if faultOf(err) == silent { // it may have been told: that is looked at before it is told again
			o.phase, o.unheard = verifying, true
		}
		if err != nil {
			return err
		}
		if r := genibus.Refused(byte(d.Address), pdu, reply); r != nil {
			return r
		}
		o.phase, o.unheard = verifying, false
	default:
		return b.verify(ctx, o)
	}
	return nil
}

// readPoint reads one point of a GENIbus device by itself.
func (b *Bus) readPoint(ctx context.Context, d *device, point string) (raw int64, q telemetry.Quality, err error) {
	q = telemetry.Missing
	for i := range d.items {
		if d.items[i].Point.Name != point {
			continue
		}
		var one set
		one.add(i)
		for _, f := range d.frames(one, b.cost(d)) {
			if _, err = b.read(ctx, d, &f, func(_ int, r int64, quality telemetry.Quality) { raw, q = r, quality }); err != nil {
				return 0, q, err
			}
		}
	}
	return raw, q, nil
}

// Telegrams are the PDUs of the requests by which a bus reads those points of a
// GENIbus family that have one of these periods, or all points, when they are
// due together.
func Telegrams(p *profile.Profile, buffer int, periods ...time.Duration) (pdus [][]byte) {
	var due set
	items := make([]item, len(p.Items))
	for i, it := range p.Items {
		items[i] = item{Item: it}
		if len(periods) == 0 || slices.Contains(periods, it.Period) {
			due.add(i)
		}
	}
	for _, f := range planGeni(items, make([]geniKnown, len(items)), buffer, due, geniCost(assumedTurnaround)) {
		pdus = append(pdus, f.geni.pdu)
	}
	return pdus
}
