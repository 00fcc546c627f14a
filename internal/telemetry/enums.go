package telemetry

// enumerations names the raw values of points that are codes, in our words.
// The numbers are those of the Modbus functional profile (registers 102, 103,
// 203 to 206); GENIbus tables map onto them.
var enumerations = map[string]map[int64]string{
	"control_mode": {
		0: "constant speed", 1: "constant frequency", 3: "constant head", 4: "constant pressure",
		5: "constant differential pressure", 6: "proportional pressure", 7: "constant flow",
		8: "constant temperature", 9: "constant temperature difference", 10: "constant level",
		128: "automatic", 129: "automatic, flow limited", 130: "closed loop, sensor", 131: "automatic, constant pressure",
		255: "another mode", // GENIbus: act_mode1 says "other"
	},
	"operation_mode": {
		0: "automatic", 4: "minimum", 6: "maximum", 7: "user curve", 8: "stop button", 9: "hand",
	},
	"off_on": {0: "off", 1: "on"},
	"access": {0: "local", 1: "remote"},
	"control_source": {
		1: "panel", 2: "bus", 3: "handheld or app", 4: "digital input", 5: "stop button",
	},
	"drive_state": {
		0: "stopped", 1: "accelerating", 2: "slowing down", 3: "steady",
		5: "acceleration halted", 6: "slowing down halted", 7: "catching a turning motor",
	},
	"flow_estimate": {0: "within range", 1: "below range", 2: "above range"},
	"alarm_code":    alarmCodes,
	// The faults of other makes have numbers of their own; their manuals explain
	// them.
	"drive_fault": {0: "none"},
}
