package geni

import "penstock/fieldbus/pumpsim/physics"

// Commands of class 3 (UPE manual; christoph2/GENIBus for AUTOMATIC).
const (
	cmdReset        = 1
	cmdResetAlarm   = 2
	cmdStop         = 5
	cmdStart        = 6
	cmdRemote       = 7
	cmdLocal        = 8
	cmdConstFreq    = 22
	cmdPropPress    = 23
	cmdConstPress   = 24
	cmdMin          = 25
	cmdMax          = 26
	cmdAutomatic    = 52
	cmdNight        = 66
	cmdNoNight      = 67
	cmdResetLog     = 51
	cmdResetHistory = 36
)

// pumpCommands are those of a pump; MP 204 has the first two only.
var pumpCommands = []byte{cmdReset, cmdResetAlarm, cmdStop, cmdStart, cmdRemote, cmdLocal, cmdConstFreq, cmdPropPress,
	cmdConstPress, cmdMin, cmdMax, cmdResetHistory, cmdResetLog, cmdAutomatic, cmdNight, cmdNoNight}

// command carries a command out. In local it is acknowledged, and nothing
// happens, unless it is REMOTE.
func (u *Unit) command(id byte) {
	p := u.plant
	b := p.Bus()
	switch {
	case id == cmdRemote:
		p.SetRemote(true)
		return
	case u.kind.panel && !p.Remote():
		return
	}
	switch id {
	case cmdReset, cmdResetAlarm:
		p.Reset()
		clear(u.latched[:])
	case cmdStop:
		b.On = false
	case cmdStart:
		b.On, b.Operation = true, physics.RunAuto
	case cmdLocal:
		p.SetRemote(false)
	case cmdMin:
		b.On, b.Operation = true, physics.RunMin
	case cmdMax:
		b.On, b.Operation = true, physics.RunMax
	case cmdConstFreq:
		b.Control = physics.ConstantFrequency
	case cmdPropPress:
		b.Control = physics.ProportionalPressure
	case cmdConstPress:
		b.Control = physics.ConstantPressure
	case cmdAutomatic:
		b.Control = physics.Automatic
	case cmdNight:
		u.night = true
	case cmdNoNight:
		u.night = false
	}
	p.SetBus(b)
}

// mode1 is act_mode1 (UPE manual): operation, control, night reduction.
func mode1(u *Unit) float64 {
	s := &u.state
	v := 0
	switch {
	case !s.On || s.Operation == physics.RunStop:
		v = 1
	case s.Operation == physics.RunMin:
		v = 2
	case s.Operation == physics.RunMax:
		v = 3
	case s.Operation == physics.RunHand:
		v = 7
	}
	switch s.Control {
	case physics.ConstantHead, physics.ConstantPressure:
	case physics.ProportionalPressure:
		v |= 1 << 3
	case physics.ConstantSpeed, physics.ConstantFrequency:
		v |= 2 << 3
	case physics.Automatic:
		v |= 5 << 3
	default:
		v |= 6 << 3
	}
	if u.night {
		v |= 1 << 6
	}
	return float64(v)
}

// mode3 is act_mode3: alarm and who commands.
func mode3(u *Unit) float64 {
	v := 0
	if u.state.Alarm != 0 {
		v |= 4 | 1<<3
	}
	if !u.state.Remote {
		v |= 1 << 4
	}
	return float64(v)
}

// source is contr_source: who commands, and how urgently.
func source(u *Unit) float64 {
	switch {
	case u.state.Forced:
		return 5<<4 | 1
	case u.state.Remote:
		return 2<<4 | 6
	}
	return 1<<4 | 6
}

// lights is led_contr: green is on when the pump runs and blinks when it stands,
// red is on with an alarm.
func lights(u *Unit) float64 {
	v := 2
	if u.state.Speed > 0 {
		v = 1
	}
	if u.state.Alarm != 0 {
		v |= 1 << 2
	}
	return float64(v)
}

// controlModes are those of MAGNA3's control_mode (OpenEMS).
var controlModes = map[physics.ControlMode]float64{
	physics.ConstantHead: 0, physics.ConstantPressure: 0, physics.ProportionalPressure: 1,
	physics.ConstantSpeed: 2, physics.ConstantFrequency: 2, physics.Automatic: 5, physics.ConstantTemperature: 6,
	physics.ClosedLoopSensor: 7, physics.ConstantFlow: 8, physics.ConstantLevel: 9, physics.AutomaticFlowLimited: 10,
	physics.ConstantDifference: 11, physics.ConstantTemperatureDiff: 12,
}

// alarmBit is where a circulator without alarm codes shows an alarm (UPE manual).
type alarmBit struct{ id, bit byte }

var alarmBits = map[physics.Code]alarmBit{
	physics.CodeOvervoltage:  {64, 0},
	physics.CodeUndervoltage: {64, 1},
	physics.CodeMissingPhase: {68, 0},
	physics.CodeBlocked:      {68, 1},
	physics.CodeOverload:     {68, 3},
	physics.CodeTemperature:  {68, 4},
	physics.CodeDryRunning:   {93, 2},
	physics.CodeSensor:       {71, 3},
}

// alarmItems are the bytes of alarm bits, and the copies that keep a bit until
// the alarm is reset.
var alarmItems = map[byte]byte{64: 73, 65: 74, 66: 75, 67: 76, 68: 77, 69: 78, 70: 79, 71: 80, 72: 46, 93: 96}

// alarms are the bits of an item that are set now.
func (u *Unit) alarms(id byte) (v byte) {
	for _, code := range []physics.Code{u.state.Alarm, u.state.Warning} {
		if at, ok := alarmBits[code]; ok && at.id == id {
			v |= 1 << at.bit
		}
	}
	return v
}
