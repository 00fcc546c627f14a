package physics

import "time"

// Model is a pump's plate and curves, with the pipes it works in.
type Model struct {
	// The hydraulic part, at nominal speed.
	ShutoffHead    Metres             // head without flow
	BestFlow       CubicMetresPerHour // flow at best efficiency …
	BestHead       Metres             // … and the head there
	BestEfficiency float64            // of the impeller, 0 to 1

	// The motor and its frequency converter.
	NominalFrequency Hertz
	PolePairs        float64
	Slip             float64 // at rated torque; 0 for a permanent magnet motor
	MinFrequency     float64 // share of the nominal one
	MaxFrequency     float64
	Ramp             time.Duration // from standstill to nominal frequency
	RatedPower       Watts         // at the shaft
	MaxPower         Watts         // from the mains; the converter limits itself to it
	Efficiency       float64       // of motor and converter at rated power
	Standby          Watts
	Mains            Volts
	Phases           int
	PowerFactor      float64

	// Temperatures.
	MotorRise, ConverterRise Celsius       // above their surroundings at rated power
	MotorTau, ConverterTau   time.Duration // thermal time constants
	MotorTrip                Celsius

	// The controller.
	HeadRange Metres             // the feedback sensor's maximum
	FlowRange CubicMetresPerHour // the set-point range in constant flow

	// The pipes.
	StaticHead Metres  // how far the water is lifted
	Resistance float64 // of the wide open system, in m/(m³/h)²
	Inlet      Bar
	Liquid     Celsius
	Ambient    Celsius
	HeatLoad   Watts // taken out of the liquid on its way round; 0 in an open system
}

// nominalSpeed is the shaft's at nominal frequency and rated torque.
func (m *Model) nominalSpeed() RPM {
	return RPM(60 * float64(m.NominalFrequency) / m.PolePairs * (1 - m.Slip))
}

func (m *Model) ratedTorque() float64 {
	return float64(m.RatedPower) / radians(float64(m.nominalSpeed()))
}

func (m *Model) ratedLosses() float64 {
	return float64(m.RatedPower) * (1/m.Efficiency - 1)
}

// Circulator is a wet-rotor circulator of 12 m in a heating system: permanent
// magnet motor, no lift, a valve in every room.
func Circulator() Model {
	return Model{
		ShutoffHead: 12.4, BestFlow: 11, BestHead: 8.2, BestEfficiency: 0.70,
		NominalFrequency: 140, PolePairs: 2, MinFrequency: 0.18, MaxFrequency: 1, Ramp: 4 * time.Second,
		RatedPower: 360, MaxPower: 445, Efficiency: 0.86, Standby: 4,
		Mains: 230, Phases: 1, PowerFactor: 0.98,
		MotorRise: 38, ConverterRise: 32, MotorTau: 7 * time.Minute, ConverterTau: 4 * time.Minute, MotorTrip: 115,
		HeadRange: 12, FlowRange: 18,
		Resistance: 0.052, Inlet: 1.5, Liquid: 62, Ambient: 24, HeatLoad: 95e3,
	}
}

// Multistage is a vertical multistage pump of 1.5 kW that lifts water into a
// building: asynchronous motor, supplied by three phases.
func Multistage() Model {
	return Model{
		ShutoffHead: 46, BestFlow: 10, BestHead: 36, BestEfficiency: 0.71,
		NominalFrequency: 50, PolePairs: 1, Slip: 0.03, MinFrequency: 0.25, MaxFrequency: 1, Ramp: 3 * time.Second,
		RatedPower: 1500, MaxPower: 1850, Efficiency: 0.86, Standby: 9,
		Mains: 400, Phases: 3, PowerFactor: 0.86,
		MotorRise: 62, ConverterRise: 40, MotorTau: 14 * time.Minute, ConverterTau: 6 * time.Minute, MotorTrip: 125,
		HeadRange: 50, FlowRange: 16,
		StaticHead: 12, Resistance: 0.19, Inlet: 2.0, Liquid: 14, Ambient: 21,
	}
}

// Borehole is a submersible pump that a solar drive turns as fast as the sun
// lets it.
func Borehole() Model {
	return Model{
		ShutoffHead: 78, BestFlow: 5.2, BestHead: 58, BestEfficiency: 0.62,
		NominalFrequency: 50, PolePairs: 1, Slip: 0.045, MinFrequency: 0.5, MaxFrequency: 1.1, Ramp: 6 * time.Second,
		RatedPower: 1500, MaxPower: 2200, Efficiency: 0.77, Standby: 12,
		Mains: 400, Phases: 3, PowerFactor: 0.82,
		MotorRise: 24, ConverterRise: 34, MotorTau: 9 * time.Minute, ConverterTau: 6 * time.Minute, MotorTrip: 80,
		HeadRange: 80, FlowRange: 8,
		StaticHead: 31, Resistance: 0.55, Inlet: 0.6, Liquid: 16, Ambient: 30,
	}
}
