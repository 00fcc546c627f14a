package pumpsim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"penstock/fieldbus/pumpsim/fault"
	"penstock/fieldbus/pumpsim/geni"
	"penstock/fieldbus/pumpsim/physics"
	"penstock/fieldbus/pumpsim/rtu"
	"penstock/fieldbus/pumpsim/wire"
)

// Simulator is one line with its virtual pumps.
type Simulator struct {
	o    Options
	port *wire.Port   // nil for a line in memory
	move MovableClock // nil for a real serial port

	mu    sync.Mutex
	bus   *bus // guarded by mu, with all the units on it
	pumps []*Pump

	began  time.Time
	agenda []*event // guarded by mu

	// Of a line in memory; guarded by mu but for enc and writing, which belong to
	// the port's user.
	near    *memoryPort // the port that is open
	plugIn  time.Time   // until when it is unplugged
	told    []Served
	enc     *json.Encoder
	writing error
}

// New returns a line without pumps. The serial port exists from here on, and
// answers once Run is called; a line in memory (see Options.Clock) answers once
// it is opened.
func New(o Options) (*Simulator, error) {
	o = o.withDefaults()
	if err := o.Mode.Validate(); err != nil {
		return nil, err
	}
	switch {
	case o.Protocol != Modbus && o.Protocol != GENIbus:
		return nil, fmt.Errorf("protocol %q: use %s or %s", o.Protocol, Modbus, GENIbus)
	case o.Protocol == GENIbus && o.Mode != geniMode:
		return nil, fmt.Errorf("GENIbus in the mode %v: it knows %v only", o.Mode, geniMode)
	}
	s := &Simulator{o: o, bus: newBus(o), began: o.Clock.Now()}
	s.bus.exchange, s.bus.other = s.exchangeAt, s.otherAt
	var memory bool
	if s.move, memory = o.Clock.(MovableClock); memory {
		if o.Served != nil {
			s.enc = json.NewEncoder(o.Served)
		}
		return s, nil
	}
	var err error
	if s.port, err = wire.Open(s.o.Link, s.o.Clock, s.o.Log); err != nil {
		return nil, err
	}
	return s, nil
}

// AddPump puts a pump on the line, before or while it runs.
func (s *Simulator) AddPump(o PumpOptions) (*Pump, error) {
	m, err := findModel(o.Model)
	if err != nil {
		return nil, err
	}
	least, most := 1, 247
	if s.o.Protocol == GENIbus {
		least, most = geni.FirstAddress, geni.LastAddress
	}
	if o.Address < least || o.Address > most {
		return nil, fmt.Errorf("pump address %d: use %d to %d", o.Address, least, most)
	}
	if o.Seed == 0 {
		o.Seed = s.o.Seed*1000 + int64(o.Address)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	address := byte(o.Address)
	if s.bus.at(address) != nil {
		// Two new GENIbus units have the factory's address both, which a master has
		// to find out by what it hears.
		if s.o.Protocol != GENIbus || address != geni.LastAddress {
			return nil, fmt.Errorf("pump address %d is taken: two devices of one address answer at once", o.Address)
		}
		o.Seed += 1_000_000 * int64(len(s.pumps))
	}
	p := &Pump{sim: s, o: o}
	unit, err := p.make(m, o.Seed)
	if err != nil {
		return nil, err
	}
	p.unit = unit
	if o.Other != "" {
		if m, err = findModel(o.Other); err != nil {
			return nil, err
		}
		if _, err = p.make(m, o.Seed); err != nil {
			return nil, err // now, and not when it is exchanged
		}
	}
	s.bus.units = append(s.bus.units, unit)
	s.pumps = append(s.pumps, p)
	return p, nil
}

// SetFaults replaces what goes wrong on the line from the next request on.
func (s *Simulator) SetFaults(rules []fault.Rule, seed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bus.dice = fault.NewDice(rules, seed)
}

// Pumps are those on the line, in the order in which they were added.
func (s *Simulator) Pumps() []*Pump {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pumps)
}

// Path is the serial port to open: Options.Link, or the pseudo-terminal itself.
// Of a line in memory it is empty.
func (s *Simulator) Path() string {
	if s.port == nil {
		return ""
	}
	return s.port.Path()
}

// Run answers until ctx ends. Everything that was served is in the log when it
// returns. It closes the serial port and removes the link.
func (s *Simulator) Run(ctx context.Context) error {
	if s.port == nil {
		return errors.New("a line in memory does not run: open it with Open")
	}
	defer s.port.Close()
	log := newLogbook(s.o.Served, s.o.OnServed)
	err := s.port.Serve(ctx, &live{s: s, log: log})
	s.mu.Lock()
	s.bus.abandon()
	s.collect(func(e Served) { log.entries <- e })
	s.mu.Unlock()
	return errors.Join(err, log.close())
}

// Close removes the serial port of a line that never ran.
func (s *Simulator) Close() {
	if s.port != nil {
		s.port.Close()
	}
}

// collect hands finished entries on. The caller holds mu.
func (s *Simulator) collect(to func(Served)) {
	for _, e := range s.bus.finished {
		to(e)
	}
	s.bus.finished = s.bus.finished[:0]
}

// Stats may be called from any goroutine.
func (s *Simulator) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.bus.stats
	st.Lateness = s.bus.late.figures()
	return st
}

// tick is how often the pumps are moved on while nobody asks them, so that
// there is little to catch up with when somebody does.
const tick = 500 * time.Millisecond

// live is the line as the port's far end. It belongs to the port's goroutine.
type live struct {
	s      *Simulator
	log    *logbook
	ticked time.Time
}

// Hear is wire.Far's.
func (l *live) Hear(b []byte, at time.Time, speed int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	sent := l.s.o.Mode // a pseudo-terminal keeps nothing of the format
	if speed != sent.Baud {
		sent.Baud = max(speed, 50)
	}
	l.s.bus.hear(b, at, sent)
}

// Due is wire.Far's.
func (l *live) Due(now time.Time, send func([]byte) time.Time) time.Duration {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	b := l.s.bus
	l.s.play(now)
	b.due(now, send)
	if now.Sub(l.ticked) >= tick && len(b.heard) == 0 && !b.active {
		l.ticked = now
		for _, u := range b.units {
			u.Advance(now)
		}
	}
	l.s.collect(func(e Served) { l.log.entries <- e })
	away := b.unplug
	b.unplug = 0
	return away
}

// Next is wire.Far's.
func (l *live) Next() time.Time {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	next := l.s.bus.next()
	if len(l.s.bus.heard) == 0 && !l.s.bus.active {
		next = sooner(next, l.ticked.Add(tick))
	}
	return sooner(next, l.s.nextEvent())
}

// Idle is wire.Far's.
func (l *live) Idle() bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.bus.idle()
}

// Pump is one virtual pump. Its methods may be called from any goroutine.
type Pump struct {
	sim   *Simulator
	o     PumpOptions
	unit  device // that answers; guarded by the simulator's lock, as are the rest
	away  device // the pump's own unit while another stands in its place
	spare device // the other unit while it does not
}

// Address is the pump's on the line.
func (p *Pump) Address() int { return int(p.unit.Address()) }

// State is what the pump does at this moment.
func (p *Pump) State() physics.State {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	p.unit.Advance(p.sim.o.Clock.Now())
	return p.unit.Plant().State()
}

// SetCause brings about, or ends, the cause of an alarm. Of a booster it is the
// first pump that has it.
func (p *Pump) SetCause(c physics.Cause, on bool) {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	p.unit.Plant().SetCause(0, c, on)
}

// SetStale makes the pump's module lose its pump: it goes on serving the values
// it had, and its receive counter stands still. A pump on GENIbus has none, which
// is an error.
func (p *Pump) SetStale(on bool) error {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	return p.unit.setStale(on)
}

// Force holds the pump in local, as the stop button at its panel does.
func (p *Pump) Force(on bool) {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	p.unit.Plant().Force(on)
}

// Register is a register as the pump would answer it now, for tests and judges.
// The number is as it travels.
func (p *Pump) Register(start int) (uint16, error) {
	unit, ok := p.unit.(modbusDevice)
	if !ok {
		return 0, errors.New("a pump on GENIbus has no registers")
	}
	request := rtu.Seal(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{p.unit.Address(), 3}, uint16(start)), 1))
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	a, _ := unit.Answer(request, p.sim.o.Clock.Now())
	if a.Exception != 0 {
		return 0, fmt.Errorf("register %d: exception %d", start, a.Exception)
	}
	return a.Values[0], nil
}
