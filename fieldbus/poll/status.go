package poll

import (
	"slices"
	"time"

	"penstock/internal/telemetry"
)

// State is how a device is doing.
type State string

// The states of a device.
const (
	Unknown State = "unknown" // not asked yet
	OK      State = "ok"      // answers
	Failing State = "failing" // did not answer lately
	Dead    State = "dead"    // does not answer; asked now and then
	// Unidentified: who answers cannot be confirmed, or is another device that the
	// family does not fit; nothing is read.
	Unidentified State = "unidentified"
	Stale        State = "stale" // its module answers, but has lost the pump
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
	// Stretched is by what the profiles' periods were multiplied, because the
	// bus has not room for them; 1 where it has.
	Stretched float64
	Counters  map[string]int64
	Devices   []DeviceStatus
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
	// Refused is how many points the device refuses to have read, since RefusedSince.
	Refused      int
	RefusedSince time.Time
	Values       []Value
}

// Value is the newest reading of a point.
type Value struct {
	telemetry.Series
	Raw     int64
	Quality telemetry.Quality
	Time    time.Time // zero: not read yet
}

// busStatus is the part of Status that the loop keeps up. Guarded by Bus.mu.
type busStatus struct {
	ok      bool
	since   time.Time
	problem string

	planned, occupancy, dead float64
}

// Status is the bus as it is now. Any goroutine may call it.
func (b *Bus) Status() Status {
	count := b.line.Counters()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{
		Name: b.name, Port: b.line.Path(), Mode: b.line.Mode().String(),
		OK: b.status.ok, Since: b.status.since, Problem: b.status.problem,
		Occupancy: b.status.occupancy, Planned: b.status.planned, Dead: b.status.dead, Stretched: b.stretched,
		Counters: map[string]int64{
			"requests": int64(count.Requests.Load()), "answers": int64(count.Answers.Load()),
			"exceptions": int64(count.Exceptions.Load()), "timeouts": int64(count.Timeouts.Load()),
			"corrupt": int64(count.Corrupt.Load()), "cut": int64(count.Cut.Load()),
			"foreign": int64(count.Foreign.Load()), "stale": int64(count.Stale.Load()),
			"echoes": int64(count.Echoes.Load()), "noise_bytes": int64(count.Noise.Load()),
			"babble": int64(count.Babble.Load()), "opened": int64(count.Opened.Load()),
			"vanished": int64(count.Vanished.Load()), "sent_bytes": int64(count.Sent.Load()),
			"received_bytes": int64(count.Received.Load()),
		},
	}
	for _, d := range b.devices {
		s.Devices = append(s.Devices, DeviceStatus{
			ID: d.ID, Name: d.Name, Address: d.Address, Profile: d.Profile.Name,
			State: d.state, Since: d.since, LastGood: d.lastGood, Problem: d.problem,
			Failures: d.failed, Dropped: d.dropped, ReplyTime: d.replyTime,
			Refused: d.refusedPoints, RefusedSince: d.refusedSince,
			Values: slices.Clone(d.values),
		})
	}
	return s
}
