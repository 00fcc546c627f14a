package pumpsim

import (
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// make makes a unit of a model at the pump's address.
func (p *Pump) make(m model, seed int64) (device, error) {
	plant := physics.New(m.physics(), m.pumps, uint64(seed))
	plant.SetRemote(!p.o.Local)
	u, err := newDevice(p.sim.o.Protocol, m, byte(p.o.Address), plant, seed, p.sim.o.Clock.Now())
	if err == nil && p.o.Marked {
		u.mark()
	}
	return u, err
}

// otherModel is the model of the unit that takes a pump's place: the one that the
// options name, or one of another family that speaks the protocol.
func (p *Pump) otherModel() model {
	name := p.o.Other
	if name == "" {
		own, _ := findModel(p.o.Model) // known since the pump was added
		switch {
		case own.name != "magna3":
			name = "magna3"
		case p.sim.o.Protocol == GENIbus:
			name = "upe"
		default:
			name = "epump"
		}
	}
	m, _ := findModel(name) // known, too
	return m
}

// Exchange puts another unit in the pump's place, of the model PumpOptions.Other
// and with a serial number of its own, or the pump's own unit back. Nobody tells
// the master.
func (p *Pump) Exchange(other bool) {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	p.exchange(other)
}

// otherSeed tells the other unit's serial number and noise from the pump's.
const otherSeed = 7_000_003

// exchange is Exchange for whoever holds the lock.
func (p *Pump) exchange(other bool) {
	if other == (p.away != nil) {
		return
	}
	was := p.unit
	if other {
		if p.spare == nil {
			p.spare, _ = p.make(p.otherModel(), p.o.Seed+otherSeed) // AddPump has tried it
		}
		p.unit, p.away = p.spare, p.unit
	} else {
		p.unit, p.away = p.away, nil
	}
	units := p.sim.bus.units
	units[slices.Index(units, was)] = p.unit
}

// exchangeAt is the fault exchange: it strikes the pumps at an address, unless
// others stand in their places already. The caller holds mu.
func (s *Simulator) exchangeAt(address byte, at time.Time, lasts time.Duration) {
	for _, p := range s.pumps {
		if p.unit.Address() != address || p.away != nil {
			continue
		}
		e := &event{Step: Step{Pump: int(address), Cause: causeExchange, For: lasts}, pump: p, at: at}
		e.change()
		s.agenda = append(s.agenda, e)
	}
}

// otherAt names the model of a unit that stands in a pump's place; empty for the
// pump's own. The caller holds mu.
func (s *Simulator) otherAt(u device) string {
	for _, p := range s.pumps {
		if p.unit == u && p.away != nil {
			return p.otherModel().name
		}
	}
	return ""
}
