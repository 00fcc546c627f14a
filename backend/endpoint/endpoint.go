// Package endpoint is where gateways deliver: MQTT 3.1.1 over mutual TLS.
//
// A publish on gw/<serial>/up is one record. It is acknowledged (PUBACK) only
// after the store has it on stable storage, so a gateway may forget what was
// acknowledged. Where the store fails, the connection is closed without an
// acknowledgement, the only refusal that MQTT 3.1.1 has, and the gateway sends
// again.
//
// Who a gateway is stands in its certificate. Its client id must be its serial
// number, and its rights are narrow: publish up and state, subscribe down, a will
// on its own state, nothing retained. Whatever else it does closes the
// connection, with a line in the log that says who and what, and stores nothing.
//
// What goes down (commands, the lease of a watcher, the order to give up an
// epoch) is not the engine's to keep. It stands in the store and is sent to
// whoever is connected, again on each connection, until the gateway has answered
// or it has expired.
//
// # The engine
//
// mochi-mqtt speaks the protocol, and only that: its listeners, its access
// ledger, its storage hooks and its $SYS topics are not used. It acknowledges a
// publish although a hook failed, lets a will past the access check, takes "+"
// for a client id, and drops a forbidden QoS 0 publish in silence. So every
// packet is judged in OnPacketRead, before the engine acts on it, where
// ErrRejectPacket (and no other error) ends the connection.
package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// Store keeps what arrives.
type Store interface {
	// Append returns nil once the publish is on stable storage.
	Append(ctx context.Context, gateway string, publish []byte) error
	// SetPresence notes what a gateway said on its state topic.
	SetPresence(ctx context.Context, gateway string, online bool, session uint64, state []byte) error
	// SetOffline notes the end of that session, unless a newer one has begun.
	SetOffline(ctx context.Context, gateway string, session uint64) error
	// Downlinks lists what is to be sent down now, by gateway; nothing of it has
	// expired.
	Downlinks(ctx context.Context) (map[string]*store.Downlink, error)
	// DownlinkVersion is another number once Downlinks may have more.
	DownlinkVersion(ctx context.Context) (int64, error)
	// Stirred returns a channel that is closed when there may be more.
	Stirred() <-chan struct{}
	// Sent notes that a command has gone out.
	Sent(ctx context.Context, id telemetry.CommandID) error
	// SuspectClone raises an alarm: the gateway's identity may be in use twice.
	SuspectClone(ctx context.Context, gateway, why string) error
}

// Config is what an endpoint is made of.
type Config struct {
	Store Store
	TLS   *tls.Config // of pki.ForGateways
	// Check is asked again at CONNECT, when the connection is one that Drop finds: the
	// handshake asked before, and a revocation may have come between. nil: it is not.
	Check pki.GatewayCheck
	Clock clock.Clock
	Log   *slog.Logger

	// MaxClients bounds the connections, those in their handshake included;
	// 10 000 by default. More wait in the kernel.
	MaxClients int
}

const (
	handshakeTime = 10 * time.Second // for TLS, and again for CONNECT
	// The longest keepalive: how long a dead connection may be held.
	maxKeepAlive = 30 * time.Minute
	// A publish is a record, its topic and a few bytes of MQTT.
	maxPacket = wire.MaxRecord + 1024
	// windowMost is how many publishes of one gateway may be unacknowledged.
	windowMost = 64
)

// Endpoint serves gateways. Its methods may be called from any goroutine.
type Endpoint struct {
	cfg    Config
	engine *mqtt.Server
	stats  counters
	conns  sync.WaitGroup

	subscribed chan struct{} // holds one: a connection has become ready

	mu    sync.Mutex
	open  map[*conn]bool         // guarded by mu
	taken map[string][]time.Time // guarded by mu; when living sessions were taken over, by gateway
}

// Stats count what has happened since the start.
type Stats struct {
	Connected  int   // now
	Refused    int64 // in the handshake
	Stored     int64 // publishes acknowledged
	Failed     int64 // publishes that the store did not take
	Violations int64 // connections closed for what they did
}

type counters struct {
	refused, stored, failed, violations atomic.Int64
}

// New makes an endpoint; Serve runs it.
func New(cfg Config) (*Endpoint, error) {
	if cfg.MaxClients == 0 {
		cfg.MaxClients = 10_000
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = int64(cfg.MaxClients)
	caps.MaximumPacketSize = maxPacket
	caps.MaximumQos = 1
	caps.ReceiveMaximum = windowMost
	caps.MaximumInflight = windowMost
	caps.MaximumClientWritesPending = 2 * windowMost // acknowledgements and commands
	caps.RetainAvailable, caps.WildcardSubAvailable, caps.SharedSubAvailable, caps.SubIDAvailable = 0, 0, 0, 0
	caps.TopicAliasMaximum = 0
	caps.MinimumProtocolVersion = protocol311
	e := &Endpoint{cfg: cfg, subscribed: make(chan struct{}, 1), open: map[*conn]bool{}, taken: map[string][]time.Time{}}
	e.engine = mqtt.New(&mqtt.Options{Capabilities: caps, InlineClient: true, Logger: slog.New(slog.DiscardHandler),
		ClientNetReadBufferSize: 4 << 10, ClientNetWriteBufferSize: 1 << 10})
	if err := e.engine.AddHook(&hook{e: e}, nil); err != nil {
		return nil, err
	}
	return e, nil
}

// Serve accepts gateways on a plain listener until ctx ends, then closes every
// connection; commits in flight are finished first.
func (e *Endpoint) Serve(ctx context.Context, plain net.Listener) error {
	limits := pki.DefaultLimits
	limits.Handshake, limits.Conns, limits.PerAddress = handshakeTime, e.cfg.MaxClients, max(1, e.cfg.MaxClients/4)
	l := pki.Secure(plain, e.cfg.TLS, limits, func(from net.Addr, err error) {
		e.stats.refused.Add(1)
		e.cfg.Log.Info("a connection was refused", "remote", from.String(), "why", pki.Explain(err), "err", err)
	})
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		e.dropAll()
	})
	defer stop()
	delivering, stopDelivering := context.WithCancel(ctx)
	defer e.conns.Wait()
	defer stopDelivering()
	e.conns.Go(func() { e.deliver(delivering) })
	for {
		secure, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				secure.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		e.conns.Go(func() { e.connection(ctx, secure.(*tls.Conn)) })
	}
}

// connection is the life of one connection whose handshake is done.
func (e *Endpoint) connection(ctx context.Context, secure *tls.Conn) {
	defer secure.Close()
	state := secure.ConnectionState()
	serial, err := pki.PeerSerial(state)
	if err != nil {
		e.cfg.Log.Error("a connection without a name got through the handshake", "remote", secure.RemoteAddr().String(), "err", err)
		return
	}
	c := &conn{Conn: secure, serial: serial, leaf: state.PeerCertificates[0], gone: make(chan struct{}), proof: proof{came: make(chan struct{})}, log: e.cfg.Log.With("gateway", serial, "remote", secure.RemoteAddr().String())}
	if !e.add(ctx, c) {
		return
	}
	defer e.remove(c)
	// Until CONNECT has come; from then on the keepalive decides.
	if err := secure.SetDeadline(e.cfg.Clock.Now().Add(handshakeTime)); err != nil {
		return
	}
	if err = e.engine.EstablishConnection("mqtt", c); c.broken == nil && !lost(err) {
		c.violates(e, err) // what the engine saw before any hook: no MQTT, or too large
	}
	c.log.Debug("connection ended", "err", err)
}

// lost tells whether a connection ended as connections do: by either side, or by
// the network.
func lost(err error) bool {
	var network net.Error
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, packets.ErrServerUnavailable) || errors.Is(err, packets.ErrServerBusy) || errors.As(err, &network)
}

// conn is a gateway's connection, as the engine holds it.
type conn struct {
	net.Conn
	serial string
	leaf   *x509.Certificate // that the gateway showed
	log    *slog.Logger

	gone chan struct{} // closed when the connection has ended

	down  downlink
	proof proof // guarded by Endpoint.mu

	// The engine's reading goroutine owns these.
	session   uint64 // as the gateway counts them, 0: not said yet
	connected bool   // CONNECT has come
	broken    error  // the rule that was broken
}

// violates notes what a gateway did that it may not.
func (c *conn) violates(e *Endpoint, what error) {
	c.broken = what
	c.log.Warn("connection closed for what the gateway did", "what", what)
	e.stats.violations.Add(1)
}

func (e *Endpoint) add(ctx context.Context, c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	e.open[c] = true
	return true
}

func (e *Endpoint) remove(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, c)
	close(c.gone)
}

func (e *Endpoint) dropAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.open {
		c.Close()
	}
}

// Drop closes the connections of a gateway that were made with the certificate of
// that number, or all of them where it is empty.
func (e *Endpoint) Drop(serial, number string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.open {
		if c.serial == serial && (number == "" || pki.Number(c.leaf) == number) {
			c.Close()
		}
	}
}

// Stats tells what has happened so far.
func (e *Endpoint) Stats() Stats {
	e.mu.Lock()
	connected := len(e.open)
	e.mu.Unlock()
	return Stats{Connected: connected, Refused: e.stats.refused.Load(),
		Stored: e.stats.stored.Load(), Failed: e.stats.failed.Load(), Violations: e.stats.violations.Load()}
}
