package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// Config is a bus and the pumps on it.
type Config struct {
	Name string        // unique within the gateway, e.g. "bus1"
	Port string        // the serial port's path
	Mode fieldbus.Mode // the zero Mode is the protocol's usual one
	// Protocol is what the bus speaks; "" is Modbus. Every device's family has to
	// speak it.
	Protocol profile.Protocol
	Devices  []Device

	// DeadShare is the part of the bus's time that devices which do not answer
	// may take together; zero means a tenth.
	DeadShare float64
}

// Device is one pump of a bus.
type Device struct {
	ID      string // unique within the gateway, stable over restarts; "" becomes "<bus>-<address>"
	Name    string // what people call it; "" becomes the ID
	Address int
	Profile *profile.Profile
	// ReplyDelay is what this device has been set to wait before each answer; 0: what
	// its profile says.
	ReplyDelay time.Duration
	// Pause is how long this device has to be left alone after each answer; 0: what
	// its profile says.
	Pause    time.Duration
	Standing Standing // which devices have stood at the address, as Deps.Identified told it
	// Learned is what Bus.Learned said of this device before a restart; nil: nothing
	// is known, and the device is held to be late for a while.
	Learned *lateness.Learned
}

// Deps is what a bus is handed.
type Deps struct {
	// Clock is what slots lie on and readings are stamped with. One that never steps
	// (clock.SinceBoot) reads the pumps evenly whatever becomes of the time of day.
	Clock clock.Clock
	Log   *slog.Logger
	Open  fieldbus.Opener // nil: fieldbus.OpenSerial
	// Rescaled, if not nil, is called by Run when Groups has changed: a device
	// has told its scales. Indices stay; no reading of a new scale was delivered
	// yet, and those of an old one all were.
	Rescaled func()
	// Identified, if not nil, is called by Run when a device has said for the first
	// time what it is, or another one stands at its address. The ID is the pump's
	// from now on. Where it changes, Rescaled is called first.
	Identified func(address int, pump string, s Standing)
	// Family, if not nil, names the family that fits a device; "" where none does.
	Family func(Identity) string
}

// Bus is one serial line with its pumps. Run owns the line; the other methods
// may be called from any goroutine.
type Bus struct {
	name      string
	clk       clock.Clock
	log       *slog.Logger
	line      *fieldbus.Line
	pumps     []telemetry.Pump
	groups    []telemetry.Group
	stretched float64 // by what the profiles' periods were multiplied to make room

	// Owned by Run.
	master     master   // Modbus; unused where geni is not nil
	geni       *geniBus // GENIbus
	devices    []*device
	sink       func(telemetry.Reading)
	rescaled   func()
	identified func(address int, pump string, s Standing)
	family     func(Identity) string
	budget     budget
	meter      meter
	regs       [maxRegisters]uint16
	port       port
	owed       bool      // devices may owe an answer to whoever polled before
	run        int       // the number of this start among those that may be owed answers
	begun      time.Time // when the bus began to run
	last       time.Time // when the loop last looked at the clock
	paced      bool      // a device's pace has changed since planned was reckoned

	mu       sync.Mutex
	status   busStatus
	commands []*order           // waiting to be carried out
	wake     context.CancelFunc // ends the loop's sleep
}

// Turnaround of a device that has not been heard yet, as the plan assumes it.
const assumedTurnaround = 10 * time.Millisecond

// fullest is the share of the bus that a plan may take. The rest is for retries,
// commands and devices that do not answer.
const fullest = 0.85

// stretches are the factors by which periods are multiplied where the bus has
// not room for what the profiles ask for. A pump that is read less often, and
// then on time, beats one whose every other reading is missing.
var stretches = []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60, 120}

// NewBus makes a bus. It opens nothing. What it refuses is a mistake in the
// configuration, and says so.
func NewBus(cfg Config, deps Deps) (*Bus, error) {
	if cfg.Protocol == "" {
		cfg.Protocol = profile.Modbus
	}
	if cfg.Mode == (fieldbus.Mode{}) {
		if cfg.Mode = fieldbus.Default; cfg.Protocol == profile.Genibus {
			cfg.Mode = geniMode
		}
	}
	if cfg.Protocol == profile.Genibus && cfg.Mode != geniMode {
		return nil, fmt.Errorf("%s: GENIbus at %v: it is always %v", cfg.Name, cfg.Mode, geniMode)
	}
	if err := cfg.Mode.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Name, err)
	}
	if cfg.DeadShare == 0 {
		cfg.DeadShare = defaultDeadShare
	}
	if cfg.DeadShare < 0.01 || cfg.DeadShare > 1 {
		return nil, fmt.Errorf("%s: a share of %v of the bus for devices that do not answer: use 0.01 to 1", cfg.Name, cfg.DeadShare)
	}
	if deps.Open == nil {
		deps.Open = fieldbus.OpenSerial
	}
	line := fieldbus.NewLine(cfg.Port, cfg.Mode, deps.Open, deps.Clock)
	b := &Bus{
		name: cfg.Name, clk: deps.Clock, log: deps.Log.With("bus", cfg.Name), line: line,
		master: modbus.NewMaster(line), budget: budget{share: cfg.DeadShare}, rescaled: deps.Rescaled,
		identified: deps.Identified, family: deps.Family,
	}
	if cfg.Protocol == profile.Genibus {
		b.geni = &geniBus{master: genibus.NewMaster(line, deps.Clock, masterAddress)}
	}
	for i, dev := range cfg.Devices {
		if err := b.add(dev); err != nil {
			return nil, fmt.Errorf("%s: device %d: %w", cfg.Name, i+1, err)
		}
	}
	b.fit()
	b.catalogue()
	for _, d := range b.devices {
		if d.standing.Present > 0 {
			b.rename(d)
		}
		b.reserve(d)
	}
	return b, nil
}

func (b *Bus) add(dev Device) error {
	if dev.Profile == nil {
		return errors.New("no profile: name the pump's family")
	}
	if err := b.suits(dev); err != nil {
		return err
	}
	if dev.ID == "" {
		dev.ID = fmt.Sprintf("%s-%d", b.name, dev.Address)
	}
	if dev.Name == "" {
		dev.Name = dev.ID
	}
	for _, other := range b.devices {
		if other.Address == dev.Address {
			return fmt.Errorf("address %d is taken by %s", dev.Address, other.Name)
		}
		if other.ID == dev.ID {
			return fmt.Errorf("the ID %q is taken by the device at address %d", dev.ID, other.Address)
		}
	}
	d := &device{Device: dev, state: Unknown, shapes: newShapes(), mode: b.line.Mode(), blocks: slices.Clone(dev.Profile.Blocks)}
	d.baseID, d.baseName, d.standing = dev.ID, dev.Name, dev.Standing
	d.refusals = newRefusals()
	d.pump = telemetry.Pump{ID: dev.ID, Name: dev.Name, Family: dev.Profile.Name, Bus: b.name, Address: dev.Address}
	for _, it := range dev.Profile.Items { // sorted by period
		if n := len(d.groups); n == 0 || d.groups[n-1].period != it.Period {
			d.groups = append(d.groups, &group{period: it.Period})
		}
		g := d.groups[len(d.groups)-1]
		d.join(g, item{Item: it, series: len(g.order)})
	}
	if a := dev.Profile.Alive; a != nil {
		g := &group{index: -1, period: a.Period}
		d.groups = append(d.groups, g)
		d.join(g, item{Item: profile.Item{Register: a.Register, Width: a.Width, OnesValid: true}, series: -1})
	}
	if d.read = make([]time.Time, len(d.items)); b.geni != nil {
		d.geni = newGeniDevice(len(d.items))
	} else {
		d.locate()
	}
	if dev.Learned != nil {
		d.learned = *dev.Learned
		b.pace().Restore(byte(dev.Address), d.learned)
	}
	d.id.frame = d.identityFrame()
	b.devices = append(b.devices, d)
	b.pumps = append(b.pumps, d.pump)
	if b.geni == nil {
		b.master.SetTiming(byte(dev.Address), timing(dev))
	}
	return nil
}

// suits tells what keeps a device from being on this bus.
func (b *Bus) suits(dev Device) error {
	low, high, speaks := 1, 247, profile.Modbus
	if b.geni != nil {
		low, high, speaks = genibus.FirstSlave, genibus.LastSlave, profile.Genibus
	}
	if dev.Address < low || dev.Address > high {
		return fmt.Errorf("address %d: use %d to %d", dev.Address, low, high)
	}
	if is := dev.Profile.Speaks(); is != speaks {
		return fmt.Errorf("the family %s speaks %s, and the bus %s", dev.Profile.Name, is, speaks)
	}
	return nil
}

func (d *device) join(g *group, it item) {
	it.group = g
	g.items.add(len(d.items))
	g.order = append(g.order, len(d.items))
	d.items = append(d.items, it)
}

// fit chooses periods for which the bus has room, and spreads the devices'
// slots over them, so that they do not all fall due at once.
func (b *Bus) fit() {
	asked := b.demand()
	for _, f := range stretches {
		if b.stretched = f; asked/f <= fullest {
			break
		}
	}
	b.status.planned = asked / b.stretched
	for i, d := range b.devices {
		for k, g := range d.groups {
			g.period = time.Duration(float64(g.period) * b.stretched).Round(time.Millisecond)
			fast := d.groups[0].period
			g.offset = fast * time.Duration(i) / time.Duration(len(b.devices))
			if n := int(g.period / fast); n > 1 {
				// A slow group is read together with the fast one, in some cycles.
				g.offset += fast * time.Duration((i*n/len(b.devices)+k)%n)
			}
			g.offset = g.offset.Truncate(time.Millisecond)
		}
	}
}

// demand is the share of the bus that the groups' periods ask for when every
// device answers. It is above 1 where the bus has not room.
func (b *Bus) demand() (share float64) {
	for _, d := range b.devices {
		c := b.cost(d)
		fast := d.groups[0]
		share += total(d.frames(fast.items, c)).Seconds() / fast.period.Seconds()
		for _, g := range d.groups[1:] {
			with := g.items
			if g.period%fast.period != 0 {
				share += total(d.frames(with, c)).Seconds() / g.period.Seconds()
				continue
			}
			with.union(fast.items)
			extra := total(d.frames(with, c)) - total(d.frames(fast.items, c))
			share += extra.Seconds() / g.period.Seconds()
		}
	}
	return share
}

// cost is what reading a device takes at its present pace. Plans are made anew
// when the pace has changed by a quarter.
func (b *Bus) cost(d *device) cost {
	turnaround := b.pace().ReplyTime(byte(d.Address))
	if turnaround == 0 {
		turnaround = assumedTurnaround
	}
	if diff := max(turnaround-d.pace, d.pace-turnaround); diff > d.pace/4+time.Millisecond {
		d.pace, d.narrowed = turnaround, nil
		b.paced = true
	}
	return d.costOf(d.pace)
}

// catalogue lists the groups, once the periods are known.
func (b *Bus) catalogue() {
	for _, d := range b.devices {
		for _, g := range d.groups {
			if g.index < 0 {
				continue
			}
			g.index = len(b.groups)
			out := telemetry.Group{Period: g.period}
			for _, i := range g.order {
				out.Series = append(out.Series, d.items[i].Series(d.ID))
			}
			b.groups = append(b.groups, out)
		}
		for _, it := range d.items {
			if it.series >= 0 {
				d.values = append(d.values, Value{Series: it.Series(d.ID), Quality: telemetry.Missing})
			}
		}
	}
}

// Learned is what is known of the devices' pace, by address: what is to be handed
// in as Device.Learned after a restart.
func (b *Bus) Learned() map[int]lateness.Learned {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[int]lateness.Learned, len(b.devices))
	for _, d := range b.devices {
		all[d.Address] = d.learned
	}
	return all
}

// Pumps are the bus's pumps, in the order of the configuration.
func (b *Bus) Pumps() []telemetry.Pump { return slices.Clone(b.pumps) }

// Groups are what the bus reads, and how often. Reading.Group is an index into
// it. Its periods are the profiles', or longer where the bus has not room for
// them. Only the scales in it may change, where a device tells its own; see
// Deps.Rescaled.
func (b *Bus) Groups() []telemetry.Group {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.groups)
}
