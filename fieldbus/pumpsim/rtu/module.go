package rtu

import (
	"math"
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

const (
	none      = 0xFFFF // not available
	maxRaw    = 0xFFFE
	maxRaw32  = 0xFFFEFFFF
	kelvin    = 273.15
	metreBar  = 0.0980665
	joulesKWh = 3.6e6
)

// block is a run of registers without a gap.
type block struct {
	first, last int // as printed, counted from 1
	writable    bool
	registers   func(m *module, set func(reg int, v uint16))
}

// blocks of every module. Those of a booster's pumps are in booster.go. A
// register that no block sets reads as not available.
var blocks = []block{
	{first: 1, last: 10, writable: true, registers: (*module).configuration},
	{first: 21, last: 37, registers: (*module).status},
	{first: 101, last: 112, writable: true, registers: (*module).control},
	{first: 201, last: 225, registers: (*module).pumpStatus},
	{first: 301, last: 358, registers: (*module).pumpData},
	{first: 361, last: 362, registers: func(*module, func(int, uint16)) {}},
	{first: 751, last: 800, writable: true, registers: (*module).user},
}

// module is the register map of a communication module.
type module struct {
	u      *Unit
	kind   Map
	id     Identity
	blocks []block

	config  [10]uint16
	ctl     [12]uint16 // registers 101 to 112, as written
	acked   uint16     // bits of 101 that were acted on
	userReg [50]uint16
}

func newModule(u *Unit, kind Map, id Identity) *module {
	m := &module{u: u, kind: kind, id: id, blocks: blocks}
	if kind == Booster {
		m.blocks = slices.Concat(blocks, boosterBlocks(u.plant.Pumps()))
	}
	m.config = [10]uint16{0, 0, 231, 4, 1, 0, none, none, 1, 1}
	p := u.plant
	s := p.Bus()
	m.ctl = [12]uint16{0, uint16(s.Control), uint16(s.Operation), ratio(s.Setpoint), 0, none, none, none, none}
	if p.Remote() {
		m.ctl[0] |= ctlRemote
	}
	if s.On {
		m.ctl[0] |= ctlOn
	}
	t := p.Tuning()
	m.ctl[9], m.ctl[10] = raw(t.Gain*10), raw(t.Integral.Seconds()*10)
	m.ctl[11] = 1
	if t.Inverse {
		m.ctl[11] = 0
	}
	return m
}

// delay is SlaveMinimumReplyDelay.
func (m *module) delay() time.Duration { return time.Duration(m.config[0]) * time.Millisecond }

func (m *module) find(start, count int) *block {
	first := start + 1
	for i := range m.blocks {
		if b := &m.blocks[i]; first >= b.first && first+count-1 <= b.last {
			return b
		}
	}
	return nil
}

// Read is Registers'.
func (m *module) Read(start, count int) ([]uint16, Exception) {
	b := m.find(start, count)
	if b == nil {
		return nil, IllegalAddress
	}
	values := slices.Repeat([]uint16{none}, count)
	b.registers(m, func(reg int, v uint16) {
		if i := reg - 1 - start; i >= 0 && i < count {
			values[i] = v
		}
	})
	return values, 0
}

// raw rounds a value into a register.
func raw(v float64) uint16 {
	if math.IsNaN(v) {
		return none
	}
	return uint16(min(max(math.Round(v), 0), maxRaw))
}

// ratio is a share of one, in 0.01 %.
func ratio(v float64) uint16 { return raw(v * 10000) }

// temperature is in 0.01 K.
func temperature(t physics.Celsius) uint16 { return raw((float64(t) + kelvin) * 100) }

// set32 sets a pair of registers, high half first.
func set32(set func(int, uint16), reg int, v float64) {
	n := uint32(min(max(math.Floor(v), 0), maxRaw32))
	set(reg, uint16(n>>16))
	set(reg+1, uint16(n))
}

func (m *module) configuration(set func(int, uint16)) {
	for i, v := range m.config {
		set(1+i, v)
	}
}

func (m *module) user(set func(int, uint16)) {
	for i, v := range m.userReg {
		set(751+i, v)
	}
}

func (m *module) status(set func(int, uint16)) {
	set(21, 0)      // checksum errors on the module's own bus
	set(22, 0)      // data errors there
	set(23, 0x0105) // version, BCD
	set(24, uint16(m.u.address))
	set32(set, 25, float64(m.u.transmit))
	set32(set, 27, float64(m.u.receive))
	set(29, 0)
	set(30, m.id.Family)
	set(31, m.id.Type)
	set(32, m.id.Version)
	set(33, 255) // no battery
	set(34, 0x0004)
	set(35, 0x0102)
	set(36, 0x1503)
	set(37, 0x2024)
}

func (m *module) control(set func(int, uint16)) {
	for i, v := range m.ctl {
		set(101+i, v)
	}
	set(101, m.ctl[0]&^m.acked)
}

// Bits of the status register.
const (
	bitCopyAck = 1 << iota << 1
	bitFlowLimit
	bitResetAck
	bitInfluence
	bitMaxPower
	bitRotation
	_ // direction
	bitRemote
	bitOn
	bitAlarm
	bitWarning
	bitForced
	bitMaxSpeed
	_
	bitMinSpeed
)

func (m *module) statusBits() (v uint16) {
	s := &m.u.state
	for _, b := range []struct {
		on  bool
		bit uint16
	}{
		{m.ctl[0]&ctlCopy != 0 && m.acked&ctlCopy == 0, bitCopyAck},
		{s.FlowLimited, bitFlowLimit},
		{m.ctl[0]&ctlReset != 0 && m.acked&ctlReset == 0, bitResetAck},
		{s.Control == physics.ProportionalPressure, bitInfluence},
		{s.AtMaxPower, bitMaxPower},
		{s.Speed > 0, bitRotation},
		{s.Remote, bitRemote},
		{s.On, bitOn},
		{s.Alarm != 0, bitAlarm},
		{s.Warning != 0, bitWarning},
		{s.Forced, bitForced},
		{s.AtMaxSpeed, bitMaxSpeed},
		{s.AtMinSpeed, bitMinSpeed},
	} {
		if b.on {
			v |= b.bit
		}
	}
	return v
}

const (
	unitMetres   = 2 // FeedbackSensorUnit
	sourcePanel  = 1
	sourceBus    = 2
	sourceButton = 5
)

func (m *module) pumpStatus(set func(int, uint16)) {
	s, model := &m.u.state, m.u.plant.Model()
	set(201, m.statusBits())
	set(202, ratio(s.Feedback))
	set(203, uint16(s.Control))
	set(204, uint16(s.Operation))
	set(205, uint16(s.Alarm))
	set(206, uint16(s.Warning))
	set(207, 0x00FF)
	set(208, uint16(s.Drive))
	if m.kind == Booster {
		set(208, 1<<len(m.u.pumps)-1) // PumpsPresent
	}
	set(209, unitMetres)
	set(210, 0)
	set(211, raw(float64(model.HeadRange)))
	set(212, raw(float64(model.NominalFrequency)*10))
	set(213, ratio(model.MinFrequency))
	set(214, ratio(model.MaxFrequency))
	set(215, 0)
	set(216, 10000)
	below := uint16(0)
	if s.Flow < model.BestFlow/10 {
		below = 1
	}
	set(221, below)
	set(222, m.ctl[9])
	set(223, m.ctl[10])
	set(224, m.ctl[11])
	source := uint16(sourcePanel)
	switch {
	case s.Forced:
		source = sourceButton
	case s.Remote:
		source = sourceBus
	}
	set(225, source)
	if m.kind == Pump {
		months := 24 - int(s.Running.Hours()/730)%24
		v := uint16(months)
		if s.Warning == physics.CodeBearings {
			v = 1 << 8
		}
		set(207, v)
	}
}

// pumpData serves what this kind of pump measures. The rest stays not available.
func (m *module) pumpData(set func(int, uint16)) {
	s, model := &m.u.state, m.u.plant.Model()
	head := float64(s.Head) * metreBar
	set(301, raw(head*1000))
	set(302, raw(float64(s.Flow)*10))
	set(303, ratio(float64(s.Frequency/model.NominalFrequency)))
	set(304, raw(float64(s.Speed)))
	set(305, raw(float64(s.Frequency)*10))
	set(306, 0)
	output := uint16(0)
	if s.Speed > 0 {
		output |= 1
	}
	if s.Alarm != 0 {
		output |= 2
	}
	set(307, output)
	set(308, ratio(s.Target))
	set32(set, 312, math.Round(float64(s.Power)))
	if q := float64(s.Flow); q > 0.05 {
		set(326, raw(float64(s.Power)/q))
	}
	set32(set, 327, s.Running.Hours())
	set32(set, 329, s.Powered.Hours())
	set32(set, 332, float64(s.Energy)/joulesKWh)
	set32(set, 334, float64(s.Starts))
	set(338, ratio(s.Setpoint))
	set32(set, 343, float64(m.u.look.now.Unix()))
	set32(set, 357, float64(s.Volume)*100)
	if m.kind != Booster {
		set(309, raw(float64(s.Current)*10))
		set(310, raw(float64(s.Link)*10))
		set(318, temperature(s.ConverterTemperature))
		set(321, temperature(s.ConverterTemperature-6))
	}
	switch m.kind {
	case Magna:
		set(320, temperature(s.ReturnTemperature))
		set(322, temperature(s.LiquidTemperature))
		set(345, m.ctl[5])
		set32(set, 352, float64(s.HeatEnergy)/joulesKWh)
		set32(set, 354, float64(s.Heat))
		set(356, raw(max(0, float64(s.LiquidTemperature-s.ReturnTemperature))*100))
	case Pump:
		set(311, raw(float64(s.Motor)*10))
		set(315, raw((float64(s.Inlet)+1)*1000))
		set(319, temperature(s.MotorTemperature))
		set(323, temperature(s.MotorTemperature-9))
		set(324, temperature(s.MotorTemperature-14))
		set(331, raw(float64(s.Torque)))
		set(339, raw(head*1000))
		set(340, raw((float64(s.Inlet)+head)*1000))
	case Booster:
		set(315, raw((float64(s.Inlet)+1)*1000))
		set(316, raw((float64(s.Inlet)+head)*1000))
	}
}
