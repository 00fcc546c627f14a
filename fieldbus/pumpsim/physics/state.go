package physics

import "time"

// ControlMode says what the controller keeps constant. The numbers are those of
// the Modbus profile, registers 102 and 203.
type ControlMode uint8

// The control modes that the model knows.
const (
	ConstantSpeed             ControlMode = 0
	ConstantFrequency         ControlMode = 1
	ConstantHead              ControlMode = 3
	ConstantPressure          ControlMode = 4
	ConstantDifference        ControlMode = 5
	ProportionalPressure      ControlMode = 6
	ConstantFlow              ControlMode = 7
	ConstantTemperature       ControlMode = 8
	ConstantTemperatureDiff   ControlMode = 9
	ConstantLevel             ControlMode = 10
	Automatic                 ControlMode = 128
	AutomaticFlowLimited      ControlMode = 129
	ClosedLoopSensor          ControlMode = 130
	AutomaticConstantPressure ControlMode = 131
)

// Known tells whether the model knows the mode.
func (c ControlMode) Known() bool {
	return c <= ConstantFrequency || c >= ConstantHead && c <= ConstantLevel ||
		c >= Automatic && c <= AutomaticConstantPressure
}

// OperationMode says how the pump is run, registers 103 and 204.
type OperationMode uint8

// The operation modes.
const (
	RunAuto      OperationMode = 0
	RunMin       OperationMode = 4
	RunMax       OperationMode = 6
	RunUserCurve OperationMode = 7
	RunStop      OperationMode = 8
	RunHand      OperationMode = 9
)

// Known tells whether the bus may ask for the mode.
func (o OperationMode) Known() bool { return o == RunAuto || o == RunMin || o == RunMax }

// DriveState is what the motor does, register 208.
type DriveState uint8

// The drive states that the model shows.
const (
	Stopped      DriveState = 0
	Accelerating DriveState = 1
	SlowingDown  DriveState = 2
	Steady       DriveState = 3
)

// Settings are what a pump has been told, by the bus or at its panel.
type Settings struct {
	On        bool
	Control   ControlMode
	Operation OperationMode
	Setpoint  float64 // 0 to 1 of its range
}

// State is what a pump does at one moment.
type State struct {
	Settings            // those in force
	Remote         bool // they came from the bus
	Forced         bool // an input or the panel holds the pump in local
	Drive          DriveState
	AtMaxPower     bool
	AtMaxSpeed     bool
	AtMinSpeed     bool
	FlowLimited    bool
	Alarm, Warning Code

	Target   float64 // the set-point in force, 0 to 1, as the controller uses it
	Feedback float64 // of the sensor's range, 0 to 1; NaN while the sensor is broken

	Head      Metres
	Flow      CubicMetresPerHour
	Inlet     Bar
	Volume    CubicMetres
	Speed     RPM
	Frequency Hertz
	Torque    NewtonMetres
	Shaft     Watts // power at the shaft
	Power     Watts // from the mains
	Energy    Joules
	Mains     Volts
	Motor     Volts
	Link      Volts // intermediate circuit of the converter
	Current   Amperes

	MotorTemperature     Celsius
	ConverterTemperature Celsius
	LiquidTemperature    Celsius
	ReturnTemperature    Celsius
	Heat                 Watts // carried by the liquid
	HeatEnergy           Joules

	Running, Powered time.Duration // counters
	Starts           int
}
