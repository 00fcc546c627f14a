// Package physics is a centrifugal pump in a pipe system, stepped by time.
//
// A pump's impeller gives head to the water that flows through it. At nominal
// speed the head falls from its shut-off value with the square of the flow; at
// another speed the affinity laws scale the whole curve: flow with the speed,
// head with its square, shaft power with its cube. The pipes, in turn, ask for a
// head that rises with the square of the flow, on top of what the water has to
// be lifted (the system curve). Where the two curves cross is the duty point.
//
// The motor turns electrical into shaft power with losses that warm it up. A
// frequency converter sets its speed; an asynchronous motor slips behind by a
// few percent under load, a permanent magnet motor does not. The controller moves
// the speed until its feedback (head, flow, a temperature) is at the set-point,
// at most as fast as the ramp allows, and never above the power limit.
//
// When something is wrong in the world (a Cause: no water, a blocked shaft, a
// missing phase), the pump behaves accordingly, its protection notices by what
// it can measure, and after a delay there is an alarm and the pump stops.
//
// Everything here is deterministic: a seed and a list of commands give the same
// pump each time. There is no clock, no goroutine and no protocol in it; Modbus
// registers and GENIbus items are put on top elsewhere.
//
// Sources: affinity laws and system curves as in ISO 17769 and any pump
// handbook; alarm codes of the Grundfos "Modbus for Grundfos pumps" functional
// profile. Plates of the models are those of typical pumps, not of a product.
package physics

// Quantities in the units in which pumps are talked about.
type (
	Metres             float64 // head
	CubicMetresPerHour float64
	RPM                float64
	Hertz              float64
	Watts              float64
	Joules             float64
	Volts              float64
	Amperes            float64
	Celsius            float64
	NewtonMetres       float64
	Bar                float64 // above atmosphere
	CubicMetres        float64
)

const (
	gravity   = 9.80665   // m/s²
	density   = 998.0     // kg/m³
	heatWater = 4186.0    // J/(kg K)
	metreBar  = 0.0980665 // bar of a metre of water column
	hour      = 3600.0    // s
)
