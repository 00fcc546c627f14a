package geni

import (
	"maps"
	"math"
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// Kind is a product: what it says it is, and the items that it has.
type Kind struct {
	family, kind, version byte
	name                  string
	buffer                int           // bytes of the longest telegram
	fallback              time.Duration // from remote to local; 0 if it has neither
	panel                 bool          // it knows local and remote
	nameless              bool          // it refuses without saying what
	commands              []byte
	items                 []item
}

// The kinds. Family and type are those of GENIbus (2,148) and (2,149).
var (
	// UPE is a circulator of the first generation: 8-bit values, alarm bits, no
	// alarm code.
	UPE = circulator(Kind{family: 1, kind: 3, version: 1, name: "UPE", buffer: 70, fallback: 6 * time.Second, nameless: true}, upe...)
	// UPE3 is one of the third: it has an alarm code, and more patience.
	UPE3 = circulator(Kind{family: 1, kind: 5, version: 1, name: "UPE MK3", buffer: 70, fallback: 35 * time.Second}, slices.Concat(upe, codes)...)
	// Magna is the one after it, with 16-bit values.
	Magna = circulator(Kind{family: 1, kind: 7, version: 1, name: "MAGNA", buffer: 70, fallback: 6 * time.Second}, slices.Concat(magna, codes)...)
	// Magna3 is today's.
	Magna3 = circulator(Kind{family: 1, kind: 10, version: 3, name: "MAGNA3", buffer: 70, fallback: 6 * time.Second}, slices.Concat(magna3, codes)...)
	// MGE is the motor of an E-pump.
	MGE = circulator(Kind{family: 2, kind: 7, version: 2, name: "MGE", buffer: 102, fallback: 6 * time.Second}, slices.Concat(mge, codes)...)
	// MultiE is a booster set behind one address.
	MultiE = circulator(Kind{family: 17, kind: 1, version: 1, name: "MULTI-E", buffer: 70, fallback: 6 * time.Second}, slices.Concat(booster, codes)...)
	// MP204 is a motor's protection. It measures, and commands nothing.
	MP204 = Kind{family: 7, kind: 1, version: 0, name: "MP 204", buffer: 70, commands: pumpCommands[:2], items: mp204}
)

// circulator adds what all pumps have.
func circulator(k Kind, items ...item) Kind {
	k.panel, k.commands = true, pumpCommands
	k.items = slices.Concat(items, []item{
		number(24, 2, func(u *Unit) float64 { return u.state.Running.Hours() / 2 }),
		m8(28, celsius, 0, 150, of(func(s *physics.State) physics.Celsius { return s.ConverterTemperature })),
		flags(47, lights),
		m8(48, percent, 0, 100, func(u *Unit) float64 { return 100 * u.state.Target }),
		flags(81, mode1), flags(82, constant(0)), flags(83, mode3),
		flags(89, func(u *Unit) float64 {
			if u.state.Forced {
				return 1 << 4
			}
			return 0
		}),
		flags(90, source),
		m16(152, kWh100, 254, func(u *Unit) float64 { return float64(u.state.Energy) / 3.6e6 }),
		{class: reference, id: 1, width: 1, format: scaled, unit: percent, span: 100,
			get: func(u *Unit) float64 { return 100 * u.plant.Bus().Setpoint },
			set: func(u *Unit, v byte) bool {
				if v == 0xFF {
					return false
				}
				if u.plant.Remote() {
					b := u.plant.Bus()
					b.Setpoint = float64(v) / 254
					u.plant.SetBus(b)
				}
				return true
			}},
	})
	return k
}

var (
	head    = of(func(s *physics.State) physics.Metres { return s.Head })
	flow    = of(func(s *physics.State) physics.CubicMetresPerHour { return s.Flow })
	power   = of(func(s *physics.State) physics.Watts { return s.Power })
	current = of(func(s *physics.State) physics.Amperes { return s.Current })
	link    = of(func(s *physics.State) physics.Volts { return s.Link })
	line    = of(func(s *physics.State) physics.Volts { return s.Mains })
	motorT  = of(func(s *physics.State) physics.Celsius { return s.MotorTemperature })
	liquidT = of(func(s *physics.State) physics.Celsius { return s.LiquidTemperature })
	turns   = of(func(s *physics.State) physics.Hertz { return s.Frequency })
	speed   = of(func(s *physics.State) physics.RPM { return s.Speed })
)

// codes are the items of alarm codes, which newer units have.
var codes = []item{
	number(154, 1, func(u *Unit) float64 { return float64(u.state.Alarm) }),
	number(155, 1, func(u *Unit) float64 { return float64(u.state.Alarm) }),
	number(156, 1, func(u *Unit) float64 { return float64(u.state.Warning) }),
	number(158, 1, func(u *Unit) float64 { return float64(u.state.Alarm) }),
}

var upe = slices.Concat([]item{
	m8(27, voltage5, 0, 150, link), m8(29, celsius, 0, 150, motorT), m8(30, current01, 0, 100, current),
	m8(32, hertz, 0, 150, turns), m8(34, power10, 0, 50, power), m8(35, rpm100, 0, 50, speed),
	m8(37, head1, 0, 15, head), m8(39, flow1, 0, 32, flow),
	m8(41, power10, 0, 50, constant(445)), m8(43, flow1, 0, 32, constant(18)), m8(44, head1, 0, 15, constant(12.4)),
	m8(58, celsius, 0, 120, liquidT),
}, alarmBytes())

// alarmBytes are the items of alarm bits and their copies.
func alarmBytes() (items []item) {
	for _, id := range slices.Sorted(maps.Keys(alarmItems)) {
		items = append(items,
			flags(id, func(u *Unit) float64 { return float64(u.alarms(id)) }),
			flags(alarmItems[id], func(u *Unit) float64 { return float64(u.latched[id]) }))
	}
	return items
}

var magna = []item{
	m8(27, voltage5, 0, 150, link), m8(29, celsius, 0, 150, motorT), m8(30, current01, 0, 100, current),
	m8(32, hertz, 0, 150, turns), m8(34, power10, 0, 50, power), m16(35, rpm100, 50, speed),
	m8(37, head1, 0, 15, head), m8(39, flow1, 0, 32, flow), m8(58, celsius, 0, 120, liquidT),
	m8(76, percent, 0, 100, constant(10)), m8(77, percent, 0, 100, constant(100)),
	{class: measured16, id: 50, width: 2, whole: true, format: extended, unit: power1, get: power},
	{class: measured16, id: 51, width: 2, whole: true, format: extended, unit: unit{20, 0.1}, get: liquidT},
	{class: measured16, id: 52, width: 2, whole: true, format: extended, unit: bar001, get: func(u *Unit) float64 { return float64(u.state.Head) * 0.0980665 }},
	{class: measured16, id: 53, width: 2, whole: true, format: extended, unit: flow01, get: flow},
}

var magna3 = []item{
	m8(27, voltage5, 0, 150, link), m8(29, celsius, 0, 150, motorT), m8(30, current01, 0, 100, current),
	// It reads twice too high by the plain unit (OpenEMS).
	m8(32, hertz2, 0, 150, func(u *Unit) float64 { return 2 * turns(u) }),
	m8(34, power10, 0, 50, power), m16(35, rpm100, 50, speed), m8(37, head1, 0, 15, head), m8(39, flow1, 0, 32, flow),
	m8(58, celsius, 0, 120, liquidT), m8(76, percent, 0, 100, constant(10)), m8(77, percent, 0, 100, constant(100)),
	flags(2, constant(0)), m8(23, head1, 0, 15, head),
	// Its scale follows the control mode.
	{class: measured, id: 49, width: 1, follow: referenceNow},
	number(112, 1, func(u *Unit) float64 {
		if mode, ok := controlModes[u.state.Control]; ok {
			return mode
		}
		return 7
	}),
	flags(159, func(u *Unit) float64 { // bit 6: bearings, bit 4: communication of a twin head
		if u.state.Warning == physics.CodeBearings {
			return 1 << 6
		}
		return 0
	}),
	flags(160, func(u *Unit) float64 { // bit 7: sensor
		if u.state.Warning == physics.CodeSensor {
			return 1 << 7
		}
		return 0
	}),
	flags(161, constant(0)), flags(162, constant(0)),
}

// referenceNow is ref_norm in the control mode in force: a temperature, a flow, or
// a share of the range.
func referenceNow(u *Unit) item {
	target := u.state.Target
	switch u.state.Control {
	case physics.ConstantTemperature:
		return m8(49, celsius, 0, 100, constant(100*target))
	case physics.ConstantFlow:
		most := float64(u.plant.Model().FlowRange)
		return m8(49, flow1, 0, int(most), constant(most*target))
	}
	return m8(49, percent, 0, 100, constant(100*target))
}

var mge = []item{
	m8(27, voltage5, 0, 150, link), m8(29, celsius, 0, 150, motorT), m8(30, current01, 0, 100, current),
	m8(32, hertz, 0, 100, turns), m8(34, power10, 0, 200, power), m16(35, rpm12, 254, speed),
	m8(37, head1, 0, 60, head), m8(39, flow1, 0, 20, flow), m8(58, celsius, 0, 120, liquidT),
}

var booster = []item{
	number(1, 1, func(u *Unit) float64 { return math.Exp2(float64(u.plant.Pumps())) - 1 }),
	m8(34, power100, 0, 60, power), m8(37, head1, 0, 60, head), m8(39, flow1, 0, 60, flow),
}

// mp204 are the items of MP 204, edition 2.28, section 14.
var mp204 = []item{
	xn(21, 2, voltage01, func(u *Unit) float64 { return line(u) / math.Sqrt(3) }),
	xn(27, 2, voltage01, func(u *Unit) float64 { return line(u) / math.Sqrt(3) }),
	xn(29, 2, voltage01, line), xn(31, 2, voltage01, line), xn(33, 2, voltage01, line), xn(35, 2, voltage01, line),
	xn(37, 2, current01, current), xn(39, 2, current01, current), xn(41, 2, current01, current), xn(43, 2, current01, current),
	xn(47, 1, celsius, motorT), xn(48, 1, celsius, motorT),
	xn(58, 1, hertzHalf, constant(50)),
	xn(64, 1, unit{77, 0.01}, func(u *Unit) float64 { return u.plant.Model().PowerFactor }),
	xn(65, 4, power1, power),
	xn(69, 4, kWh1, func(u *Unit) float64 { return math.Floor(float64(u.state.Energy) / 3.6e6) }),
	xn(77, 3, minutes, func(u *Unit) float64 { return math.Floor(u.state.Running.Minutes()) }),
	xn(80, 3, minutes, func(u *Unit) float64 { return math.Floor(u.state.Powered.Minutes()) }),
	xn(86, 3, noUnit, func(u *Unit) float64 { return float64(u.state.Starts) }),
	flags(141, lights),
	number(144, 1, func(u *Unit) float64 { return float64(u.state.Alarm) }),
	flags(145, func(u *Unit) float64 { // 0 overvoltage, 1 undervoltage, 2 too much current
		switch u.state.Warning {
		case physics.CodeOvervoltage:
			return 1
		case physics.CodeUndervoltage:
			return 2
		case physics.CodeOverload:
			return 4
		}
		return 0
	}),
	flags(146, constant(0)), flags(147, constant(0)),
	xn(173, 2, voltage01, line),
}
