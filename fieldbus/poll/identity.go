package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/modbus"
	"penstock/internal/telemetry"
)

// Identity is what a device says of itself. The zero Identity says nothing.
type Identity struct {
	Family  int `json:"family"`
	Type    int `json:"type,omitempty"`
	Version int `json:"version,omitempty"`
}

func (id Identity) String() string {
	return fmt.Sprintf("family %d, type %d, version %d", id.Family, id.Type, id.Version)
}

// Standing is which devices have stood at an address, the first first, and which of
// them stands there now. Each of them is a pump of its own.
type Standing struct {
	Devices []Identity `json:"devices,omitempty"`
	Present int        `json:"present,omitempty"` // index into Devices
}

// present is the device that was seen last; the zero Identity where none has told.
func (s Standing) present() Identity {
	if s.Present < 0 || s.Present >= len(s.Devices) {
		return Identity{}
	}
	return s.Devices[s.Present]
}

const (
	// awayAfter is the silence after which a device tells everything about itself
	// anew. After a single lost frame it says who it is, no more.
	awayAfter = 3 * time.Second
	// identifyEvery is how often a device that was never away is asked who it is;
	// with several devices on the bus as many times longer, up to identifyMost.
	identifyEvery = 3 * time.Second
	identifyMost  = time.Minute
	// refusalsCount is how often in a row a device has to refuse something before
	// that counts.
	refusalsCount = 3
	// holdFirst and holdMost bound how long a device is left alone whose identity
	// cannot be confirmed.
	holdFirst = time.Second
	holdMost  = 30 * time.Second
	// standingMost bounds the devices that are told apart at one address.
	standingMost = 16
)

// The IDs of unit_family, unit_type and unit_version in class 2 of GENIbus, and
// what they hold where the unit has no value.
var identityIDs = []byte{148, 149, 150}

const (
	noByte     = 0xFF
	noRegister = 0xFFFF
)

// identification is how sure the bus is of who answers at an address. It belongs to
// the goroutine that runs the bus.
type identification struct {
	frame     *frame // asks for the identity; nil: the family has no way to
	confirmed bool
	at        time.Time // when it was confirmed last
	away      bool      // the port was closed meanwhile: anything may be different
	silent    bool      // a frame was not answered since
	other     Identity  // another device has answered, and has not been asked twice
	refusals  int       // in a row, to tell it
	held      int       // times in a row that the device was left alone
	problem   string    // why nothing is read
}

// identityFrame is the frame that asks a device who it is, or nil.
func (d *device) identityFrame() *frame {
	if d.geni != nil {
		return &frame{geni: &geniFrame{pdu: genibus.AppendGet(nil, genibus.Measured, identityIDs...), size: 4 + 2*len(identityIDs)}}
	}
	id := d.Profile.Identity
	if id == nil || id.Family == 0 {
		return nil
	}
	low, high := id.Family, id.Family
	for _, r := range []int{id.Type, id.Version} {
		if r > 0 {
			low, high = min(low, r), max(high, r)
		}
	}
	if high-low >= maxRegisters {
		return nil
	}
	return &frame{block: -1, start: low, count: high - low + 1}
}

// doubt takes in that another device may stand at the address. Nothing is published
// until it has said that it is the same.
func (d *device) doubt() { d.id.confirmed = false }

// doubtful tells whether the device has to say who it is before anything else.
func (d *device) doubtful() bool { return d.id.frame != nil && !d.id.confirmed }

// nextIdentified returns the device that is to say next who it is although nothing
// is doubtful, and when; nil where there is none.
func (b *Bus) nextIdentified() (next *device, at time.Time) {
	every := min(identifyEvery*time.Duration(len(b.devices)), identifyMost)
	for _, d := range b.devices {
		if due := d.id.at.Add(every); d.id.frame != nil && d.id.confirmed && d.pending == nil && (next == nil || due.Before(at)) {
			next, at = d, due
		}
	}
	return next, at
}

// identifyIdle asks the device that is to say next who it is, where the bus has
// nothing else to do. On a bus that is never idle the device is asked before its next
// frame, once it is twice overdue.
func (b *Bus) identifyIdle(ctx context.Context, now time.Time) bool {
	d, at := b.nextIdentified()
	if d == nil || at.After(now) {
		return false
	}
	b.identify(ctx, d)
	return true
}

// identifyOverdue doubts a device that was never idle enough to be asked.
func (b *Bus) identifyOverdue(now time.Time) {
	if d, at := b.nextIdentified(); d != nil && now.Sub(at) > identifyMost {
		d.doubt()
	}
}

// whoIs asks a device who it is. The zero Identity is a device that says that it
// does not know.
func (b *Bus) whoIs(ctx context.Context, d *device) (is Identity, err error) {
	f := d.id.frame
	if b.geni != nil {
		defer b.account()
		reply, _, err := b.geni.master.DoAs(ctx, byte(d.Address), f.geni.pdu, d.geni.buffer, rotated(f.geni.variants, b.starting(), b.run))
		if err != nil {
			return is, err
		}
		if r := genibus.Refused(byte(d.Address), f.geni.pdu, reply); r != nil {
			return is, r
		}
		a, _, ok, err := genibus.Next(reply)
		if err != nil || !ok || len(a.Data) < len(identityIDs) || a.Data[0] == noByte {
			return is, nil
		}
		return Identity{int(a.Data[0]), int(a.Data[1]), int(a.Data[2])}, nil
	}
	regs := b.regs[:f.count]
	if _, err := b.master.Read(ctx, b.request(d, f), regs); err != nil {
		return is, err
	}
	value := func(register int) int {
		if register == 0 {
			return 0
		}
		return int(regs[register-f.start])
	}
	at := d.Profile.Identity
	if family := value(at.Family); family == 0 || family == noRegister {
		return is, nil
	}
	return Identity{value(at.Family), value(at.Type), value(at.Version)}, nil
}

// identify asks a device who it is, and takes in the answer.
func (b *Bus) identify(ctx context.Context, d *device) fault {
	before := b.clk.Now()
	is, err := b.whoIs(ctx, d)
	now := b.clk.Now()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return lineFault // before anything was sent
	}
	kind := faultOf(err)
	if kind != lineFault {
		b.proven(now)
	}
	switch kind {
	case noFault, refusing:
		if kind == refusing && b.otherFunction(d, d.id.frame, err) {
			return kind
		}
		d.health.note(true)
		if d.pending != nil && d.pending.items.empty() {
			d.pending, d.tries = nil, 0
		}
		b.told(d, is, now)
	case busy:
		b.hold(d, now, "it is busy, and does not say what it is")
	case silent:
		b.spent(d, now.Sub(before))
		b.unanswered(d, d.id.frame, err, now)
	default:
		d.pending, d.tries = nil, 0
		b.lineFailed(err, now)
	}
	return kind
}

// told takes in what a device says of itself, or that it says nothing.
func (b *Bus) told(d *device, is Identity, now time.Time) {
	was := d.standing.present()
	switch {
	case is == Identity{}:
		if d.id.refusals++; d.id.refusals < refusalsCount {
			return // asked again at once
		}
		if was != is {
			b.hold(d, now, fmt.Sprintf("it does not say any more what it is (it was %v): nothing is read until it does", was))
			return
		}
		b.confirm(d, now)
	case len(d.standing.Devices) == 0:
		d.standing = Standing{Devices: []Identity{is}}
		b.tellStanding(d)
		b.confirm(d, now)
	case is == was:
		b.confirm(d, now)
	case d.id.other != is:
		d.id.other = is // one answer is not enough for that
	default:
		b.exchanged(d, is, now)
	}
}

// confirm takes in that a device is the one that its pump's values are from.
func (b *Bus) confirm(d *device, now time.Time) {
	if d.id.away || d.id.silent && now.Sub(d.lastGood) > awayAfter {
		known := d.function // it has just answered by it
		d.forget()
		d.function, d.counter = known, counter{}
	}
	if problem := b.unsuited(d); problem != "" {
		b.hold(d, now, problem)
		return
	}
	d.id = identification{frame: d.id.frame, confirmed: true, at: now}
	d.notBefore = time.Time{}
}

// hold reports what is due as missing, and leaves the device alone for a while: who
// it is cannot be confirmed.
func (b *Bus) hold(d *device, now time.Time, problem string) {
	if d.id.problem != problem {
		b.log.Warn("a pump is not read", "pump", d.ID, "address", d.Address, "problem", problem)
	}
	d.id.problem, d.id.refusals, d.failures = problem, 0, 0
	d.notBefore = now.Add(min(holdFirst<<min(d.id.held, 10), holdMost))
	d.id.held++
	d.pending, d.tries = nil, 0
	b.giveUp(d, d.due)
	b.setState(d, now, problem)
}

// unsuited tells why a device cannot be read as the family that is set for its
// address; "" where it can. Where the family was set by hand against what the first
// device said of itself, that is left to whoever did.
func (b *Bus) unsuited(d *device) string {
	is := d.standing.present()
	if b.family == nil || d.standing.Present == 0 {
		return ""
	}
	if fits := b.family(is); fits != d.Profile.Name && b.family(d.standing.Devices[0]) == d.Profile.Name {
		hint := "no family in the library fits it"
		if fits != "" {
			hint = "its family is " + fits
		}
		return fmt.Sprintf("another device stands at this address: %v, not %s; %s: name that in the configuration, or search again", is, d.Profile.Name, hint)
	}
	return ""
}

// exchanged takes in that another device stands at an address. It is another pump
// from now on: its values are never those of the one before.
func (b *Bus) exchanged(d *device, is Identity, now time.Time) {
	was, before := d.standing.present(), d.ID
	at := slices.Index(d.standing.Devices, is)
	if at < 0 {
		if len(d.standing.Devices) >= standingMost {
			b.hold(d, now, fmt.Sprintf("too many devices have stood at this address; the last says: %v", is))
			return
		}
		at = len(d.standing.Devices)
	}
	devices := slices.Clone(d.standing.Devices)
	if at == len(devices) {
		devices = append(devices, is)
	}
	b.giveUp(d, d.due) // of the device before
	d.standing = Standing{Devices: devices, Present: at}
	d.counted = nil
	d.counter, d.health, d.read = counter{}, health(0), make([]time.Time, len(d.items))
	d.pending, d.tries = nil, 0
	d.forget()
	b.rename(d)
	b.log.Error("another device stands where a pump stood; it is another pump from now on",
		"before", before, "pump", d.ID, "address", d.Address, "was", was.String(), "is", is.String())
	b.tellStanding(d)
	b.confirm(d, now)
}

// rename gives a device the ID and the name of the pump that stands at its address.
func (b *Bus) rename(d *device) {
	b.mu.Lock()
	old := d.ID
	d.ID, d.Name = d.baseID, d.baseName
	if n := d.standing.Present; n > 0 {
		d.ID, d.Name = fmt.Sprintf("%s.%d", d.baseID, n+1), fmt.Sprintf("%s (%d)", d.baseName, n+1)
	}
	d.pump.ID, d.pump.Name = d.ID, d.Name
	for i := range b.pumps {
		if b.pumps[i].ID == old {
			b.pumps[i] = d.pump
		}
	}
	for _, g := range d.groups {
		if g.index < 0 || g.index >= len(b.groups) {
			continue
		}
		series := slices.Clone(b.groups[g.index].Series)
		for i := range series {
			series[i].Pump = d.ID
		}
		b.groups[g.index].Series = series
	}
	for i := range d.values {
		d.values[i] = Value{Series: d.values[i].Series, Quality: telemetry.Missing}
		d.values[i].Pump = d.ID
	}
	d.lastGood = time.Time{}
	b.mu.Unlock()
	if old != d.ID && b.rescaled != nil {
		b.rescaled()
	}
}

// tellStanding hands on which devices stand at an address.
func (b *Bus) tellStanding(d *device) {
	if b.identified != nil {
		b.identified(d.Address, d.ID, d.standing)
	}
}

// otherFunction takes in that a device does not know a function. Where the other one
// reads the same registers, it is used from now on; both are refused only where the
// device has refused this one before in favour of the other.
func (b *Bus) otherFunction(d *device, f *frame, err error) bool {
	var refusal *modbus.Exception
	if b.geni != nil || !errors.As(err, &refusal) || refusal.Code != modbus.IllegalFunction {
		return false
	}
	if r := d.request(f); r.Functions != modbus.Either && d.function == modbus.Either {
		return false // the family knows that they are not the same
	}
	if f.block >= 0 && functions(d.blocks[f.block].Functions) >= modbus.Coils {
		return false // there is one function for coils, and one for discrete inputs
	}
	other := modbus.Holding
	if refusal.Function&0x7F == readHolding {
		other = modbus.Input
	}
	if d.function == other {
		return false
	}
	if d.function != modbus.Either { // back again, once for each frame
		if d.refusals.rows[f.key()]++; d.refusals.rows[f.key()] > refusalsCount {
			return false
		}
	}
	d.function, d.pending, d.tries = other, nil, 0
	b.log.Info("a pump refuses a function; the other is used", "pump", d.ID, "refused", refusal.Function&0x7F)
	return true
}

// readHolding is the function that reads holding registers.
const readHolding = 3
