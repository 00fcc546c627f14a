package uplink

import (
	"crypto/tls"
	"log/slog"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/uplink/link"
	"penstock/uplink/queue"
)

// Queue is what a session needs of the gateway's queue; *queue.Queue is one.
// Its methods are called from the session's goroutine only.
type Queue interface {
	// Peek reads the first record of the lane after sequence number after. The
	// payload may use buf. ok is false when there is none yet.
	Peek(lane queue.Lane, after uint64, buf []byte) (rec queue.Record, ok bool, err error)
	// Discard says that everything in the lane up to and including seq is stored
	// by the endpoint.
	Discard(lane queue.Lane, seq uint64) error
	// Changed returns a channel that is closed when the next record becomes
	// durable.
	Changed() <-chan struct{}
}

// Config is what a Session needs. Fields without a default are required.
type Config struct {
	Serial  string // the gateway's serial number: client id and topic level
	AuthURL string // of the auth service, e.g. "https://auth.example.com:8443"
	Queue   Queue

	// TLS makes the client configuration for a server of that name: our
	// certificate, our roots, the policy. It is asked anew for each connection,
	// so that a renewed certificate is used from the next one on.
	TLS func(serverName string) *tls.Config
	// Outcome, if any, is told what became of the certificate of the configuration
	// that was made last: nil when the endpoint has let us in, else why it, or the
	// auth service, refused us as who we are. Called from the session's goroutine.
	Outcome func(err error)

	// FS and Dir keep what must survive a reboot: assignment.json, session.json.
	FS  disk.FS
	Dir string

	// State is the JSON published on gw/<serial>/state when a session begins
	// (online), and left as its last will (not online). Called from the
	// session's goroutine.
	State func(session uint64, online bool) []byte
	// Down takes what arrives on gw/<serial>/down, one message at a time, from a
	// goroutine of its own; returning acknowledges it. It must not block for
	// long. nil: nothing is expected, and what comes is logged.
	Down func(message []byte)

	// Links chooses the way out, for each attempt anew; *link.Group does. nil: the
	// machine's usual way.
	Links Links

	Clock clock.Clock
	Rand  func() float64 // in [0,1), for jitter; need not be secret
	Log   *slog.Logger

	// KeepAlive is how long the connection may be idle before a ping; default
	// 10 s (ethernet). A link may say otherwise: a metered one takes 240 s.
	KeepAlive time.Duration
	// Spread delays the first connection by a random time up to this, so that a
	// fleet that lost power together does not come back together. Default none.
	Spread time.Duration
	// Backoff bounds the wait between attempts, which is random between 0 and an
	// interval that doubles from Min to Max. Default: DefaultBackoff.
	Backoff Backoff
	// Failed, if any, is told why each attempt ended, or the connection that came of
	// it. Called from the session's goroutine: it must not block.
	Failed func(err error)
}

// Links chooses a link. Next is called from the session's goroutine.
type Links interface{ Next() link.Path }

// Backoff is the range of the interval that attempts are spread over. Herd is the
// interval after a good session that the endpoint ended: it ended everybody's,
// and they must not come back together.
type Backoff struct{ Min, Max, Herd time.Duration }

// DefaultBackoff is what a session does that is told nothing else.
var DefaultBackoff = Backoff{Min: 2 * time.Second, Max: 5 * time.Minute, Herd: 16 * time.Second}

const (
	// window is how many messages may be in flight; history leaves reserved
	// places free, so that an event can be sent without waiting for a PUBACK.
	window   = 16
	reserved = 4
	// windowBytes bounds them in bytes, for slow links. A record larger than
	// this travels alone.
	windowBytes = 64 << 10

	connectTimeout = 15 * time.Second // TCP, TLS and CONNACK
	writeTimeout   = 15 * time.Second // for one publish to reach the kernel
	pingTimeout    = 10 * time.Second
	leaveTimeout   = 2 * time.Second // for the last PUBACKs when stopping
	// A session in which nothing was acknowledged for patience, and a second
	// more for each slowest bytes in flight, is thrown away; after longest at the
	// latest, so that a black hole is noticed within 30 s however much is in flight.
	patience = 20 * time.Second
	slowest  = 4 << 10
	longest  = 28 * time.Second

	// endpointPatience is how long an endpoint that cannot be reached is tried
	// before the auth service is asked for another.
	endpointPatience = 5 * time.Minute
	// refusedMax is the longest interval between attempts when both endpoint and
	// auth service refuse the gateway.
	refusedMax = time.Hour
	// trustedAfter is how long a session must have been good for what the endpoint
	// broke of the protocol before to be forgotten.
	trustedAfter = time.Hour
	// provenAfter is how long a session must last, if nothing was to be
	// acknowledged, for the backoff to start afresh.
	provenAfter = time.Minute
)

// State is a word for what a session is doing.
type State string

const (
	Stopped    State = "stopped"
	Waiting    State = "waiting"    // for the next attempt
	Assigning  State = "assigning"  // asking the auth service
	Connecting State = "connecting" // to the endpoint
	Connected  State = "connected"
)

// Status is a session at one moment.
type Status struct {
	State        State
	Since        time.Time // of State
	Next         time.Time // the next attempt, while Waiting
	Endpoint     string    // host:port, "" before the first assignment
	Link         string    // that the session or attempt goes over
	Session      uint64    // number of the current or last session, 0 before the first
	LastError    string    // why the last session or attempt ended, "" if none did
	LastErrorAt  time.Time
	InFlight     int    // records published and not acknowledged
	Acknowledged uint64 // records since the start
	Connections  uint64 // sessions since the start
}
