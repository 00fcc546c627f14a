package genibus

// Unit is an entry of the unit table: what a step of an item is.
type Unit struct {
	Quantity string
	Num, Den int64  // a step is Num/Den …
	Symbol   string // … of this unit, written in UCUM
}

// Generation is the edition of the unit table that a device was made by.
type Generation byte

const (
	// Later devices use the table that MP 204 prints.
	Later Generation = iota
	// First devices follow the specification of 2000, in which the indices 10
	// to 15 are apparent and reactive power. Its steps are in no text that this
	// package could be checked against, so these six are left out: an item in
	// one of them is kept as it came, and has no scale.
	First
)

// Units is the unit table. Entries 1 to 9 and 16 to 74 are those of the GENIbus
// Protocol Specification of 2000; 10 to 15 those of MP 204, edition 2.28; 75 to
// 114 are known from a third party only (github.com/christoph2/GENIBus,
// src/genibus/config/units.json; entry 43 follows the specification where the
// two differ). The zero Unit stands for an index that is not assigned.
var Units = [128]Unit{
	1:   {"current", 1, 10, "A"},
	2:   {"current", 5, 1, "A"},
	3:   {"voltage", 1, 10, "V"},
	4:   {"voltage", 1, 1, "V"},
	5:   {"voltage", 5, 1, "V"},
	6:   {"resistance", 1, 1, "Ohm"},
	7:   {"power", 1, 1, "W"},
	8:   {"power", 10, 1, "W"},
	9:   {"power", 100, 1, "W"},
	10:  {"capacitance", 1, 1, "uF"},
	11:  {"frequency", 1, 2, "Hz"},
	12:  {"percentage", 1, 10, "%"},
	13:  {"time", 2, 1, "h"},
	14:  {"time", 30, 1, "s"},
	15:  {"current", 1, 1, "uA"},
	16:  {"frequency", 1, 1, "Hz"},
	17:  {"frequency", 5, 2, "Hz"},
	18:  {"speed of rotation", 12, 1, "/min"},
	19:  {"speed of rotation", 100, 1, "/min"},
	20:  {"temperature", 1, 10, "Cel"},
	21:  {"temperature", 1, 1, "Cel"},
	22:  {"flow", 1, 10, "m3/h"},
	23:  {"flow", 1, 1, "m3/h"},
	24:  {"head or distance", 1, 10, "m"},
	25:  {"head or distance", 1, 1, "m"},
	26:  {"head or distance", 10, 1, "m"},
	27:  {"pressure", 1, 100, "bar"},
	28:  {"pressure", 1, 10, "bar"},
	29:  {"pressure", 1, 1, "bar"},
	30:  {"percentage", 1, 1, "%"},
	31:  {"energy", 1, 1, "kW.h"},
	32:  {"energy", 10, 1, "kW.h"},
	33:  {"energy", 100, 1, "kW.h"},
	34:  {"angular velocity", 2, 1, "rad/s"},
	35:  {"time", 1, 1, "h"},
	36:  {"time", 2, 1, "min"},
	37:  {"time", 1, 1, "s"},
	38:  {"frequency", 2, 1, "Hz"},
	39:  {"time", 1024, 1, "h"},
	40:  {"energy", 512, 1, "kW.h"},
	41:  {"flow", 5, 1, "m3/h"},
	42:  {"current", 1, 5, "A"},
	43:  {"resistance", 10, 1, "kOhm"},
	44:  {"power", 1, 1, "kW"},
	45:  {"power", 10, 1, "kW"},
	46:  {"energy", 1, 1, "MW.h"},
	47:  {"energy", 10, 1, "MW.h"},
	48:  {"energy", 100, 1, "MW.h"},
	49:  {"angle", 1, 1, "deg"},
	50:  {"gain", 1, 1, "1"},
	51:  {"pressure", 1, 1000, "bar"},
	52:  {"flow", 1, 1, "L/s"},
	53:  {"flow", 1, 1, "m3/s"},
	54:  {"flow", 1, 1, "[gal_us]/min"},
	55:  {"pressure", 1, 1, "[psi]"},
	56:  {"head or distance", 1, 1, "[ft_i]"},
	57:  {"temperature", 1, 1, "[degF]"},
	58:  {"flow", 10, 1, "[gal_us]/min"},
	59:  {"head or distance", 10, 1, "[ft_i]"},
	60:  {"pressure", 10, 1, "[psi]"},
	61:  {"pressure", 1, 1, "kPa"},
	62:  {"current", 1, 2, "A"},
	63:  {"flow", 1, 10, "L/s"},
	64:  {"volume", 1, 10, "m3"},
	65:  {"volume", 1000, 1, "m3"},
	66:  {"energy per volume", 10, 1, "kW.h/m3"},
	67:  {"volume", 256, 1, "m3"},
	68:  {"area", 1, 1, "m2"},
	69:  {"flow", 1, 10, "mL/h"},
	70:  {"volume", 1, 10, "mL"},
	71:  {"volume", 1, 1, "nL"},
	72:  {"time", 1024, 1, "min"},
	73:  {"flow", 1, 2, "L/h"},
	74:  {"energy per volume", 1, 1, "W.h/m3"},
	75:  {"torque", 1, 1, "N.m"},
	76:  {"percentage", 10, 1, "%"},
	77:  {"gain", 1, 100, "1"},
	78:  {"time", 10, 1, "s"},
	79:  {"time", 1, 10, "s"},
	80:  {"time", 1, 1, "min"},
	81:  {"time", 100, 1, "h"},
	82:  {"flow", 1, 10, "L/min"},
	83:  {"head or distance", 1, 100, "m"},
	84:  {"temperature", 1, 100, "K"},
	85:  {"energy", 2, 1, "kW.h"},
	86:  {"volume", 1, 1, "m3"},
	87:  {"energy", 1, 1, "J"},
	88:  {"volume", 1, 1, "mL"},
	89:  {"resistance", 100, 1, "Ohm"},
	90:  {"velocity", 1, 1, "mm/s"},
	91:  {"head or distance", 1, 10000, "m"},
	92:  {"flow", 10, 1, "m3/h"},
	93:  {"flow", 100, 1, "m3/h"},
	94:  {"energy", 1, 1, "W.h"},
	95:  {"flow", 1, 100, "m3/h"},
	96:  {"gain", 1, 10, "1"},
	97:  {"torque", 1, 10, "N.m"},
	98:  {"speed of rotation", 1, 1, "/min"},
	99:  {"volume", 1, 1, "L"},
	100: {"time", 1, 1, "d"},
	101: {"acceleration", 1, 100, "m/s2"},
	102: {"density", 1, 10, "kg/m3"},
	103: {"energy", 1, 10, "kW.h"},
	104: {"voltage", 2, 1, "V"},
	105: {"frequency", 1, 100, "Hz"},
	106: {"volume", 1, 1, "uL"},
	107: {"percentage", 1, 100, "%"},
	108: {"Unix time", 1, 1, "s"},
	109: {"volume", 1, 10, "L"},
	110: {"temperature difference", 1, 100, "K"},
	111: {"temperature difference", 1, 1, "K"},
	112: {"current", 1, 1, "mA"},
	113: {"percentage", 1, 1, "[ppm]"},
	114: {"flow", 1, 10, "L/h"},
}

// Lookup finds the unit of an index, as a device of this generation means it.
func (g Generation) Lookup(index byte) (Unit, bool) {
	if g == First && index >= 10 && index <= 15 || int(index) >= len(Units) {
		return Unit{}, false
	}
	u := Units[index]
	return u, u.Den != 0
}

// ThirdParty tells whether the meaning of an index is known from a third party
// only.
func ThirdParty(index byte) bool { return index >= 75 && index <= 114 }
