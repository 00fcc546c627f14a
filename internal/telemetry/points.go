package telemetry

import (
	"strconv"
	"strings"
)

// Point is a word of the point vocabulary: one name, one unit, one meaning,
// whichever bus, protocol or pump family a value came from. A page, an alarm
// rule or a query that knows the word works on every pump that has the point.
type Point struct {
	Name    string
	Unit    string // UCUM; "1" for a pure number, a code, a flag or a set of bits
	Kind    Kind
	Enum    string // for Code and Flag: the enumeration that names the raw values
	Meaning string
}

// Kind tells how the values of a point behave.
type Kind uint8

const (
	Gauge   Kind = iota // goes up and down
	Counter             // only grows, but for a reset or an exchanged pump
	Code                // one of the values of an enumeration
	Flag                // 0 or 1
	Bits                // each bit has a meaning of its own
)

// Points is the vocabulary. Profiles map registers and data items onto it; they
// cannot invent a name. A new word is added here, with a meaning that somebody
// can check on a pump.
//
// Heads are in metres of water column, because that is what a pump curve and a
// Grundfos display show and what GENIbus gives; a Modbus register in bar is the
// same quantity (1 bar = 2000000/196133 m, exactly). Pressures, differences of
// pressures included, are in bar.
var Points = []Point{
	// What the pump does.
	{"running", "1", Flag, "off_on", "the motor is meant to turn: the pump is switched on"},
	{"access", "1", Code, "access", "who commands the pump: the bus (remote) or its panel and inputs (local)"},
	{"forced_local", "1", Flag, "off_on", "the pump was taken to local by an input or its panel, and the bus cannot take it back"},
	{"alarm", "1", Flag, "off_on", "an alarm is active: the pump has stopped or needs somebody"},
	{"warning", "1", Flag, "off_on", "a warning is active: the pump goes on"},
	{"alarm_code", "1", Code, "alarm_code", "the active alarm, 0 for none"},
	{"warning_code", "1", Code, "alarm_code", "the active warning, 0 for none"},
	{"control_mode", "1", Code, "control_mode", "what the controller keeps constant"},
	{"operation_mode", "1", Code, "operation_mode", "how the pump is run"},
	{"drive_fault", "1", Code, "drive_fault", "the active fault of a frequency converter of another make, 0 for none"},
	{"control_source", "1", Code, "control_source", "who set the mode that is in force"},
	{"drive_state", "1", Code, "drive_state", "what the motor is doing"},
	{"at_max_power", "1", Flag, "off_on", "the power limit holds the pump back"},
	{"at_max_speed", "1", Flag, "off_on", "the pump runs at its highest speed"},
	{"at_min_speed", "1", Flag, "off_on", "the pump runs at its lowest speed"},
	{"low_flow_stop", "1", Flag, "off_on", "stopped because hardly any flow is asked for"},
	{"max_flow_limit_active", "1", Flag, "off_on", "the flow limit holds the pump back"},
	{"flow_estimate", "1", Code, "flow_estimate", "whether the estimated flow is within the range in which it is good"},
	{"digital_input", "1", Bits, "", "state of the digital inputs, bit 0 first"},
	{"digital_output", "1", Bits, "", "state of the digital outputs, bit 0 first"},
	{"pumps_present", "1", Bits, "", "pumps of a booster that are there: bits 0 to 5 pump 1 to 6, bit 6 pilot, bit 7 backup"},

	// Set-points.
	{"setpoint", "%", Gauge, "", "the set-point in force, of its range"},
	{"user_setpoint", "%", Gauge, "", "the set-point that was asked for, of its range"},
	{"feedback", "%", Gauge, "", "the controller's feedback, of the sensor's range"},
	{"max_flow_limit", "m3/h", Gauge, "", "the flow that is not exceeded"},

	// Hydraulics.
	{"head", "m[H2O]", Gauge, "", "head across the pump, in metres of water column"},
	{"flow", "m3/h", Gauge, "", "flow through the pump"},
	{"remote_flow", "m3/h", Gauge, "", "flow measured by an external sensor"},
	{"inlet_pressure", "bar", Gauge, "", "pressure before the pump, above atmosphere"},
	{"outlet_pressure", "bar", Gauge, "", "pressure after the pump, above atmosphere"},
	{"differential_pressure", "bar", Gauge, "", "pressure after less before, measured by a sensor"},
	{"remote_pressure", "bar", Gauge, "", "pressure measured by an external sensor"},
	{"tank_level", "m", Gauge, "", "level of the feed tank"},
	{"volume", "m3", Counter, "", "volume pumped"},
	{"volume_2", "m3", Counter, "", "volume pumped, second counter"},

	// Motor and electricity.
	{"performance", "%", Gauge, "", "performance relative to the pump's maximum"},
	{"speed", "/min", Gauge, "", "speed of the shaft"},
	{"relative_speed", "%", Gauge, "", "speed relative to the nominal one"},
	{"frequency", "Hz", Gauge, "", "frequency of the motor's supply"},
	{"torque", "N.m", Gauge, "", "torque at the shaft"},
	{"relative_torque", "%", Gauge, "", "torque at the shaft relative to the nominal one"},
	{"power", "W", Gauge, "", "electrical power taken from the mains"},
	{"relative_power", "%", Gauge, "", "electrical power relative to the nominal one"},
	{"energy", "kW.h", Counter, "", "electrical energy taken"},
	{"specific_energy", "W.h/m3", Gauge, "", "electrical energy for each volume pumped"},
	{"current", "A", Gauge, "", "current of the motor"},
	{"voltage", "V", Gauge, "", "voltage of the motor or its mains"},
	{"dc_link_voltage", "V", Gauge, "", "voltage of the frequency converter's intermediate circuit"},

	// Temperatures.
	{"liquid_temperature", "Cel", Gauge, "", "temperature of the pumped liquid"},
	{"motor_temperature", "Cel", Gauge, "", "temperature of the motor's winding"},
	{"relative_motor_temperature", "%", Gauge, "", "motor temperature relative to the one at which it trips"},
	{"electronics_temperature", "Cel", Gauge, "", "temperature of the control electronics"},
	{"power_electronics_temperature", "Cel", Gauge, "", "temperature of the frequency converter or its heat sink"},
	{"bearing_temperature_drive_end", "Cel", Gauge, "", "temperature of the bearing at the drive end"},
	{"bearing_temperature_free_end", "Cel", Gauge, "", "temperature of the bearing at the non-drive end"},
	{"remote_temperature", "Cel", Gauge, "", "temperature measured by an external sensor"},
	{"remote_temperature_2", "Cel", Gauge, "", "temperature measured by a second external sensor"},

	// Heat.
	{"heat_energy", "kW.h", Counter, "", "heat carried by the liquid"},
	{"heat_power", "W", Gauge, "", "heat carried by the liquid, at this moment"},
	{"heat_temperature_difference", "K", Gauge, "", "temperature of the flow pipe less that of the return pipe"},

	// Wear.
	{"operating_time", "h", Counter, "", "time that the motor has turned"},
	{"powered_time", "h", Counter, "", "time that the pump has had power"},
	{"starts", "1", Counter, "", "starts of the motor"},
	{"bearing_service_in", "mo", Gauge, "", "months until the bearings need service"},

	// Solar drives.
	{"solar_irradiance", "W/m2", Gauge, "", "power of the sunlight on the panels"},
	{"mpp_voltage", "V", Gauge, "", "voltage at which the panels give most power"},
}

// LookupPoint finds a word of the vocabulary. Two forms carry a number:
//
//   - A booster is one device with several pumps in it; "pump3_speed" is the
//     word "speed" of its third pump. Numbers run from 1 to 8.
//   - "register17" is a number whose meaning nobody has written down yet, of a
//     device that is being found out about. Numbers run from 0 to 65535.
func LookupPoint(name string) (Point, bool) {
	if p, ok := pointIndex[name]; ok {
		return p, true
	}
	if digits, ok := strings.CutPrefix(name, "register"); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != digits {
			return Point{}, false
		}
		return Point{name, "1", Bits, "", "the number in register " + digits + ", of unknown meaning"}, true
	}
	rest, ok := strings.CutPrefix(name, "pump")
	if !ok || len(rest) < 3 || rest[0] < '1' || rest[0] > '8' || rest[1] != '_' {
		return Point{}, false
	}
	p, ok := pointIndex[rest[2:]]
	p.Name = name
	p.Meaning = "of pump " + rest[:1] + ": " + p.Meaning
	return p, ok
}

var pointIndex = func() map[string]Point {
	index := make(map[string]Point, len(Points))
	for _, p := range Points {
		index[p.Name] = p
	}
	return index
}()
