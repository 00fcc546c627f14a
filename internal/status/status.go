// Package status is one snapshot of a gateway's state.
//
// The command line, the local socket, the state topic, the web page and the
// support bundle all show this same snapshot, so that a technician in the pump
// room and an operator far away read the same words.
package status

import (
	"time"

	"penstock/internal/telemetry"
)

// Snapshot is the state of a gateway at one moment. Its JSON form is the
// answer of the local socket; fields are added, never renamed.
type Snapshot struct {
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Gateway  Gateway   `json:"gateway"`
	Identity Identity  `json:"identity"`
	Keys     Keys      `json:"keys"`
	Trust    Trust     `json:"trust"`
	Clock    Clock     `json:"clock"`
	Uplink   Uplink    `json:"uplink"`
	Links    []Link    `json:"links"` // the most preferred first
	Queue    Queue     `json:"queue"`
	Buses    []Bus     `json:"buses"`
	Search   string    `json:"search,omitempty"` // for pumps that nobody has described
}

// Gateway is who this is.
type Gateway struct {
	Serial string `json:"serial"`
	Model  string `json:"model"`
	Board  string `json:"board"`
}

// Identity is what the gateway shows of itself to the services: its operational
// certificate. Without one there is only the factory identity.
type Identity struct {
	Issuer   string    `json:"issuer,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Days     int       `json:"days_left"`
	// Unproven: it has come, and no service has let it in yet.
	Unproven bool   `json:"unproven,omitempty"`
	Problem  string `json:"problem,omitempty"`

	LastAttempt time.Time `json:"last_attempt,omitzero"` // to get another one, since the start
	LastError   string    `json:"last_error,omitempty"`  // of it, "" when it was good
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Why         string    `json:"why,omitempty"` // the next attempt is then

	Factory Factory `json:"factory"`
}

// Factory is the identity that was made with the gateway.
type Factory struct {
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
	Problem  string    `json:"problem,omitempty"`
}

// Trust is which authorities servers must come from.
type Trust struct {
	Roots   []string  `json:"roots"`
	Until   time.Time `json:"until,omitzero"` // the last of them expires
	Version int64     `json:"version"`        // that was signed; 0: as the bench left them
	Fixed   bool      `json:"fixed,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

// Keys is where the gateway's private keys are.
type Keys struct {
	Store   string `json:"store"`             // "file" or "tpm"; "": there is none yet
	Because string `json:"because,omitempty"` // that was chosen
	Problem string `json:"problem,omitempty"` // why a key could not be used the last time
}

// Clock is how the gateway knows the time.
type Clock struct {
	Source  string        `json:"source"`          // signed, ntp, modem, machine; system: nobody has told it yet
	Age     time.Duration `json:"age_ns,omitzero"` // how long ago
	Floor   time.Time     `json:"floor"`           // it is later than that, for certain
	Problem string        `json:"problem,omitempty"`
}

// Uplink is the way to the cloud.
type Uplink struct {
	State        string    `json:"state"` // a word: "connected", "connecting", ...
	Since        time.Time `json:"since"`
	AuthURL      string    `json:"auth_url"`
	Endpoint     string    `json:"endpoint,omitempty"`
	Session      uint64    `json:"session,omitempty"`
	LastError    string    `json:"last_error,omitempty"`
	Acknowledged uint64    `json:"acknowledged"` // records since start
}

// Link is one way to the cloud.
type Link struct {
	Name    string    `json:"name"`
	Current bool      `json:"current"` // the session goes over it, or tries to
	OK      bool      `json:"ok"`
	Since   time.Time `json:"since"` // of OK
	Problem string    `json:"problem,omitempty"`
	Advice  []string  `json:"advice,omitempty"` // what an installer has to see to
	Month   string    `json:"month,omitempty"`  // "2026-11", that Bytes are of
	Bytes   uint64    `json:"bytes"`
	Budget  int64     `json:"budget_bytes,omitempty"` // a month; 0: no limit
	Metered bool      `json:"metered,omitempty"`
}

// Queue is what waits on disk.
type Queue struct {
	Lanes   []Lane `json:"lanes"`
	Limit   int64  `json:"limit_bytes"`
	Problem string `json:"problem,omitempty"`
}

// Lane is one lane of the queue.
type Lane struct {
	Name    string    `json:"name"`
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest,omitzero"` // the oldest reading time that waits
	Dropped uint64    `json:"dropped"`         // records lost, named in gap records
}

// Bus is one serial line.
type Bus struct {
	Name      string           `json:"name"`
	Port      string           `json:"port"`
	Mode      string           `json:"mode"` // e.g. "19200 8E1"
	OK        bool             `json:"ok"`
	Since     time.Time        `json:"since"` // of OK
	Problem   string           `json:"problem,omitempty"`
	Occupancy float64          `json:"occupancy"` // share of the last minute that the line was busy, 0 to 1
	Planned   float64          `json:"planned"`   // share that the plan needs when every pump answers
	Dead      float64          `json:"dead"`      // share of the last minute that unanswered requests took
	Stretched float64          `json:"stretched"` // what periods were multiplied by for want of room; 1: nothing
	Counters  map[string]int64 `json:"counters"`
	Pumps     []Pump           `json:"pumps"`
}

// Pump is one device on a bus.
type Pump struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Address  int       `json:"address"`
	Family   string    `json:"family"`
	OK       bool      `json:"ok"`
	LastGood time.Time `json:"last_good,omitzero"`
	Problem  string    `json:"problem,omitempty"`
	// How long the pump takes to begin an answer, and how many of its cycles were
	// skipped because the bus was late.
	ReplyTime time.Duration `json:"reply_time_ns"`
	Dropped   int64         `json:"dropped_cycles"`
	// How many points the pump refuses to have read, and since when.
	Refused      int       `json:"refused_points,omitempty"`
	RefusedSince time.Time `json:"refused_since,omitzero"`
	Values       []Value   `json:"values"`
}

// Value is the newest reading of one point.
type Value struct {
	Point   string            `json:"point"`
	Unit    string            `json:"unit"` // UCUM
	Scale   telemetry.Scale   `json:"scale"`
	Enum    string            `json:"enum,omitempty"`
	Raw     int64             `json:"raw"`
	Quality telemetry.Quality `json:"quality"`
	Time    time.Time         `json:"time"`
}

// State is the JSON on gw/<serial>/state: published at the start of a session,
// and left as its last will with Online false. A will of an older session than
// the newest seen is ignored by the endpoint.
type State struct {
	Online   bool      `json:"online"`
	Session  uint64    `json:"session"`
	Version  string    `json:"version,omitempty"`
	Model    string    `json:"model,omitempty"`
	Snapshot *Snapshot `json:"snapshot,omitempty"`
}
