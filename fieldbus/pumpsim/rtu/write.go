package rtu

import (
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// Bits of the control register, 101.
const (
	ctlRemote  = 1 << 0
	ctlOn      = 1 << 1
	ctlReset   = 1 << 2
	ctlCopy    = 1 << 4
	ctlMaxFlow = 1 << 5
)

// Write is Registers'. Either all registers are set or none.
func (m *module) Write(start int, values []uint16) Exception {
	b := m.find(start, len(values))
	if b == nil || !b.writable {
		return IllegalAddress
	}
	for i, v := range values {
		if !m.allowed(start+1+i, v) {
			return IllegalValue
		}
	}
	for i, v := range values {
		m.set(start+1+i, v)
	}
	if b.first == 101 {
		m.act()
	}
	return 0
}

func (m *module) allowed(reg int, v uint16) bool {
	switch reg {
	case 1:
		return v <= 10000
	case 2:
		return v == 0 // an offset of all registers is not simulated
	case 3:
		return v >= 1 && v <= 247
	case 4:
		return v <= 5
	case 5, 6, 112:
		return v <= 1
	case 9:
		return v <= 2
	case 102:
		return v <= 0xFF && physics.ControlMode(v).Known()
	case 103:
		return v <= 0xFF && physics.OperationMode(v).Known()
	case 104:
		return v <= 10000
	}
	return true
}

func (m *module) set(reg int, v uint16) {
	switch {
	case reg <= 10:
		m.config[reg-1] = v
	case reg == 101:
		m.command(v)
	case reg <= 112:
		m.ctl[reg-101] = v
	case reg >= 751:
		m.userReg[reg-751] = v
	}
}

// command acts on the bits of the control register. With AutoAckControlBits the
// module takes requests back by itself once it has carried them out; a new
// request is a rising edge of what the master writes all the same.
func (m *module) command(v uint16) {
	was, p := m.ctl[0], m.u.plant
	m.ctl[0], m.acked = v, 0
	if m.u.stale {
		return // nobody hears it
	}
	if v&ctlReset != 0 && was&ctlReset == 0 {
		p.Reset()
	}
	if was&ctlRemote != 0 && v&ctlRemote == 0 && (v|was)&ctlCopy != 0 {
		p.SetPanel(p.Bus())
	}
	p.SetRemote(v&ctlRemote != 0)
	if m.config[4] != 0 {
		m.acked = v & (ctlReset | ctlCopy)
	}
}

// act hands the control registers to the plant.
func (m *module) act() {
	p := m.u.plant
	if m.u.stale {
		return
	}
	p.SetBus(physics.Settings{
		On:        m.ctl[0]&ctlOn != 0,
		Control:   physics.ControlMode(m.ctl[1]),
		Operation: physics.OperationMode(m.ctl[2]),
		Setpoint:  float64(m.ctl[3]) / 10000,
	})
	limit := physics.CubicMetresPerHour(0)
	if m.ctl[0]&ctlMaxFlow != 0 && m.ctl[5] != none {
		limit = physics.CubicMetresPerHour(m.ctl[5]) / 100
	}
	p.SetMaxFlow(limit)
	p.SetTuning(physics.Tuning{
		Gain:     float64(m.ctl[9]) / 10,
		Integral: time.Duration(m.ctl[10]) * 100 * time.Millisecond,
		Inverse:  m.ctl[11] == 0,
	})
}
