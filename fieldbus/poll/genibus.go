package poll

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
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

// pick says where an item's bytes are in a reply that refuses nothing.
type pick struct {
	item int
	at   []int
}

// spare is the room that a planned telegram leaves, so that the master can vary
// it (see genibus.Master).
const spare = 2

// geniCost is the cost of telegrams to a device that takes turnaround.
func geniCost(turnaround time.Duration) cost {
	return cost{char: genibus.Wire(1), frame: genibus.Wire(2*genibus.Overhead) + genibus.Gap + turnaround, turnaround: turnaround, geni: true}
}

// packing is a telegram that is being filled.
type packing struct {
	ids   map[genibus.Class][]byte
	order []genibus.Class
	items []int
	// sizes of the PDUs so far
	request, reply int
}

// room is what an item would add to the request and the reply.
func (p *packing) room(g *profile.GeniItem) (request, reply int) {
	class := genibus.Class(g.Class)
	have, begun := p.ids[class]
	if !begun {
		request, reply = 2, 2
	}
	for _, id := range g.IDs {
		if bytes.IndexByte(have, id) < 0 {
			request++
			reply += profile.GeniWidth(g.Class)
		}
	}
	return request, reply
}

func (p *packing) add(i int, g *profile.GeniItem) {
	class := genibus.Class(g.Class)
	request, reply := p.room(g)
	p.request += request
	p.reply += reply
	if _, begun := p.ids[class]; !begun {
		p.order = append(p.order, class)
		p.ids[class] = nil
	}
	for _, id := range g.IDs {
		if bytes.IndexByte(p.ids[class], id) < 0 {
			p.ids[class] = append(p.ids[class], id)
		}
	}
	p.items = append(p.items, i)
}

// planGeni packs the due items into the fewest telegrams: first fit, class by
// class, request and reply both within the device's buffer. Items that share a
// byte share it on the wire as well. All bytes of a value are in one telegram.
func planGeni(items []item, known []geniKnown, buffer int, due set, c cost) []frame {
	var order []int
	for i := range items {
		if due.has(i) && !known[i].absent {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := items[a].Geni, items[b].Geni
		return cmp.Or(cmp.Compare(x.Class, y.Class), cmp.Compare(len(y.IDs), len(x.IDs)), slices.Compare(x.IDs, y.IDs))
	})
	room := genibus.Room(buffer) - spare
	var all []*packing
	for _, i := range order {
		g := items[i].Geni
		into := -1
		for k, p := range all {
			request, reply := p.room(g)
			data := reply + len(p.ids[genibus.Class(g.Class)])*profile.GeniWidth(g.Class)
			if p.request+request > room || p.reply+reply > room || data > genibus.MaxData-spare {
				continue
			}
			if shares := request == 0; shares || into < 0 {
				if into = k; shares {
					break
				}
			}
		}
		if into < 0 {
			into = len(all)
			all = append(all, &packing{ids: map[genibus.Class][]byte{}})
		}
		all[into].add(i, g)
	}
	frames := make([]frame, 0, len(all))
	for _, p := range all {
		frames = append(frames, p.frame(items, c))
	}
	return frames
}

// frame is the telegram as it is sent, and where its reply has what.
func (p *packing) frame(items []item, c cost) frame {
	f := frame{geni: &geniFrame{size: p.request + p.reply}}
	f.cost = c.of(&f)
	first := map[genibus.Class]int{} // where the reply's data of the class begins
	at := 0
	for _, class := range p.order {
		f.geni.pdu = genibus.AppendGet(f.geni.pdu, class, p.ids[class]...)
		first[class] = at + 2
		at += 2 + len(p.ids[class])*profile.GeniWidth(int(class))
	}
	for _, i := range p.items {
		f.items.add(i)
		g := items[i].Geni
		class, width := genibus.Class(g.Class), profile.GeniWidth(g.Class)
		pk := pick{item: i}
		for _, id := range g.IDs {
			from := first[class] + bytes.IndexByte(p.ids[class], id)*width
			for k := range width {
				pk.at = append(pk.at, from+k)
			}
		}
		f.geni.picks = append(f.geni.picks, pk)
	}
	return f
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
	for _, p := range f.geni.picks {
		if !f.items.has(p.item) {
			continue
		}
		value := b.geni.bytes[:len(p.at)]
		for k, from := range p.at {
			value[k] = reply[from]
		}
		raw, q := d.items[p.item].DecodeGeni(value, d.geni.known[p.item].allValid)
		put(p.item, raw, q)
	}
	return at, nil
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
		if !ok || it.Geni.Fixed {
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

// noticed looks at a value for what it means to the bus itself: who commands the
// pump, and whether what other values mean has changed with it.
func (b *Bus) noticed(d *device, i int, raw int64) {
	it := &d.items[i]
	if it.Point.Name == "access" {
		if d.geni.remote && raw != 1 {
			// Not taken back: that is for somebody to decide.
			b.log.Warn("a pump has fallen back to local", "pump", d.ID, "address", d.Address)
		}
		d.geni.remote = raw == 1
	}
	if d.values[i].Quality != telemetry.Good || d.values[i].Raw == raw {
		return
	}
	for k := range d.items {
		if d.items[k].Geni.Follows == it.Point.Name {
			d.geni.surveyed = false
			d.doubt()
		}
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
		if o.tries == 0 {
			o.sent = b.clk.Now()
		}
		reply, _, err := b.geni.master.Do(ctx, byte(d.Address), pdu, d.geni.buffer)
		b.account()
		if err != nil {
			return err
		}
		if r := genibus.Refused(byte(d.Address), pdu, reply); r != nil {
			return r
		}
		o.until = o.sent.Add(c.Settle)
		o.phase = verifying
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
