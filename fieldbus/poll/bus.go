package poll

import (
	"errors"
	"log/slog"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// Config is a bus and the pumps on it.
type Config struct {
	Name    string        // unique within the gateway, e.g. "bus1"
	Port    string        // the serial port's path
	Mode    fieldbus.Mode // the zero Mode is fieldbus.Default
	Devices []Device

	// DeadShare is the part of the bus's time that devices which do not answer
	// may take together; zero means a tenth.
	DeadShare float64
}

// Device is one pump of a bus.
type Device struct {
	ID      string // unique within the gateway, stable over restarts; "" becomes "<bus>-<address>"
	Name    string // what people call it; "" becomes the ID
	Address int
	Profile *profile.Profile
}

// Deps is what a bus is handed.
type Deps struct {
	Clock clock.Clock
	Log   *slog.Logger
	Open  fieldbus.Opener // nil: fieldbus.OpenSerial
}

// Command asks for a change on a pump. Names and values are those of the
// pump's profile: {"bus1-12", "setpoint", "45.5"} is in percent,
// {"bus1-12", "control_mode", "constant pressure"} a word of the enumeration or
// its number, {"bus1-12", "running", "off"} a stop, {"bus1-12", "access",
// "remote"} takes command of the pump, {"bus1-12", "reset_alarm", ""}.
type Command struct {
	Pump  string // its ID
	Name  string
	Value string
}

// Result is a command that was carried out: the pump was read again, and shows
// what was asked for.
type Result struct {
	Sent time.Time // when the pump was told
	Seen time.Time // when it was seen to have followed
	Raw  int64     // what was read back
	Text string    // the same for people, "45.50 %"
}

// What can become of a command. A refusal changed nothing on the pump; after
// another error, look at the pump.
var (
	// ErrRefused: the command was not sent. The text says why and what to do.
	ErrRefused = errors.New("refused")
	// ErrNotFollowed: it was sent and the pump shows something else.
	ErrNotFollowed = errors.New("the pump did not follow")
	// ErrNoAnswer: the pump does not answer.
	ErrNoAnswer = errors.New("the pump does not answer")
)

// State is how a device is doing.
type State string

// The states of a device.
const (
	Unknown State = "unknown" // not asked yet
	OK      State = "ok"      // answers
	Failing State = "failing" // did not answer lately
	Dead    State = "dead"    // does not answer; asked now and then
	Stale   State = "stale"   // its module answers, but has lost the pump
)

// Status is a bus at one moment.
type Status struct {
	Name    string
	Port    string
	Mode    string // "19200 8E1"
	OK      bool   // the port is open
	Since   time.Time
	Problem string // why the port is not open, and what to do
	// Occupancy is the share of the last minute that the line was taken;
	// Planned is the share that the plan needs when every pump answers; Dead is
	// the share of the last minute that unanswered requests took.
	Occupancy, Planned, Dead float64
	Counters                 map[string]int64
	Devices                  []DeviceStatus
}

// DeviceStatus is a pump at one moment.
type DeviceStatus struct {
	ID, Name  string
	Address   int
	Profile   string
	State     State
	Since     time.Time // of State
	LastGood  time.Time // the last answer, zero for never
	Problem   string    // why State is not OK
	Failures  int       // cycles without an answer since LastGood
	Dropped   int64     // cycles that were skipped because the bus was late
	ReplyTime time.Duration
	Values    []Value
}

// Value is the newest reading of a point.
type Value struct {
	telemetry.Series
	Raw     int64
	Quality telemetry.Quality
	Time    time.Time // zero: not read yet
}
