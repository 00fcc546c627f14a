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
	},
	"operation_mode": {
		0: "automatic", 4: "minimum", 6: "maximum", 7: "user curve", 8: "stop button", 9: "hand",
	},
	"off_on": {0: "off", 1: "on"},
}
