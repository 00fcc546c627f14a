package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/uplink/link"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

var (
	errStalled = errors.New("the endpoint takes records but acknowledges none")
	errLeave   = errors.New("stopping")
	errMoved   = errors.New("another link is better")
	errAgain   = errors.New("there is a new certificate")
)

// isConnackRefusal tells CONNACK 4 and 5: the endpoint does not want us as who
// we are.
func isConnackRefusal(err error) bool {
	return errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) || errors.Is(err, packets.ErrorRefusedNotAuthorised)
}

// connection is one MQTT connection: one client object, thrown away with it.
type connection struct {
	s      *Session
	path   link.Path
	ctx    context.Context // ends with the connection; its cause says why
	fail   context.CancelCauseFunc
	client mqtt.Client
	number uint64
	since  time.Time
	win    *windowState
	out    chan outgoing
	acks   chan *flight
	held   map[queue.Lane]*queue.Record // peeked, not yet published
	down   sync.Mutex                   // serialises Config.Down

	mu  sync.Mutex
	raw net.Conn // guarded by mu; to cut a connection that paho holds on to
}

type outgoing struct {
	flight  *flight
	topic   string
	payload []byte
}

// connection connects to the endpoint, publishes until something ends it, and
// returns why. It never returns nil.
func (s *Session) connection(parent context.Context, endpoint string) error {
	// The connection outlives parent by the moment that a polite end takes.
	ctx, fail := context.WithCancelCause(context.WithoutCancel(parent))
	c := &connection{
		s: s, path: s.path, ctx: ctx, fail: fail, number: s.numbers.next(), win: newWindow(),
		out: make(chan outgoing, window+2), acks: make(chan *flight, window+2), held: map[queue.Lane]*queue.Record{},
	}
	defer c.cut()
	defer fail(errLeave)
	connecting := context.AfterFunc(parent, func() { fail(errLeave) })
	s.set(func(st *Status) { st.Session = c.number })
	c.client = mqtt.NewClient(c.options(endpoint))
	if err := c.await(c.client.Connect(), connectTimeout); err != nil {
		return fmt.Errorf("connecting to %s: %w", endpoint, err)
	}
	if err := c.subscribe(); err != nil {
		return fmt.Errorf("endpoint %s: %w", endpoint, err)
	}
	if !connecting() {
		return errLeave
	}
	c.since = s.cfg.Clock.Now()
	s.set(func(st *Status) { st.State, st.Connections = Connected, st.Connections+1 })
	s.cfg.Log.Info("connected", "endpoint", endpoint, "session", c.number, "link", c.path.Name())
	c.path.Answered()
	s.outcome(nil)
	err := c.publishAll(parent)
	if parent.Err() != nil || left(err) {
		c.leave()
	}
	return fmt.Errorf("endpoint %s: %w", endpoint, err)
}

func (c *connection) topic(level string) string { return "gw/" + c.s.cfg.Serial + "/" + level }

func (c *connection) options(endpoint string) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.AddBroker("mqtts://" + endpoint)
	o.SetClientID(c.s.cfg.Serial)
	o.SetProtocolVersion(4) // no falling back to 3.1 with a second connection
	// With these, and with the guard below, a token's success means a PUBACK.
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetOrderMatters(false) // a handler may take its time
	o.SetKeepAlive(c.keepAlive())
	o.SetPingTimeout(pingTimeout)
	o.SetConnectTimeout(connectTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetStore(mqtt.NewMemoryStore())
	o.SetBinaryWill(c.topic("state"), c.s.cfg.State(c.number, false), 1, false)
	o.SetDefaultPublishHandler(c.received) // without one, QoS 1 would go unacknowledged
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		c.fail(fmt.Errorf("connection lost: %w", err))
	})
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := withTimeout(c.ctx, c.s.cfg.Clock, connectTimeout)
		defer cancel()
		conn, err := c.s.dialTLS(ctx, c.path, endpoint)
		if err != nil {
			return nil, cause(ctx, err)
		}
		return newGuard(conn, c.topic("down"), c.fail), c.keep(conn)
	})
	return o
}

// keepAlive is how long the connection may be idle before a ping.
func (c *connection) keepAlive() time.Duration {
	if d := c.path.Traits().KeepAlive; d > 0 {
		return d
	}
	return c.s.cfg.KeepAlive
}

// keep remembers the connection, so that cut can end it.
func (c *connection) keep(conn *tls.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		_ = conn.NetConn().Close()
		return context.Cause(c.ctx)
	}
	c.raw = conn.NetConn()
	return nil
}

// cut ends the connection whatever paho thinks of it, and lets it clean up.
func (c *connection) cut() {
	c.mu.Lock()
	if c.raw != nil {
		_ = c.raw.Close()
	}
	c.mu.Unlock()
	c.client.Disconnect(0)
}

// await waits for a token, never longer than d.
func (c *connection) await(t mqtt.Token, d time.Duration) error {
	ctx, cancel := withTimeout(c.ctx, c.s.cfg.Clock, d)
	defer cancel()
	select {
	case <-t.Done():
		if t.Error() != nil && c.ctx.Err() != nil {
			return context.Cause(c.ctx) // it says more than what became of the token
		}
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *connection) subscribe() error {
	topic := c.topic("down")
	t := c.client.Subscribe(topic, 1, c.received)
	if err := c.await(t, connectTimeout); err != nil {
		return fmt.Errorf("subscribing to %s: %w", topic, err)
	}
	if st, ok := t.(*mqtt.SubscribeToken); ok && st.Result()[topic] > 2 {
		return fmt.Errorf("subscribing to %s: the endpoint refused", topic)
	}
	return nil
}

// received hands a message on. paho calls it on a goroutine of its own for each
// message, and sends PUBACK when it returns.
func (c *connection) received(_ mqtt.Client, m mqtt.Message) {
	if c.s.cfg.Down == nil || m.Topic() != c.topic("down") {
		c.s.cfg.Log.Warn("a message that nobody expects", "topic", m.Topic(), "bytes", len(m.Payload()))
		return
	}
	c.down.Lock()
	defer c.down.Unlock()
	c.s.cfg.Down(m.Payload())
}

// publishAll publishes the queue until the connection ends.
func (c *connection) publishAll(parent context.Context) error {
	go c.publisher()
	c.publish(stateLane, 0, c.topic("state"), c.s.cfg.State(c.number, true))
	ticks := every(c.ctx, c.s.cfg.Clock, time.Second)
	for {
		changed := c.s.cfg.Queue.Changed()
		drains := c.s.takeDrains()
		if c.fill() {
			for _, d := range drains {
				close(d)
			}
		} else {
			c.s.putDrains(drains)
		}
		c.s.set(func(st *Status) { st.InFlight = c.win.n })
		select {
		case <-parent.Done():
			return errLeave
		case <-c.path.Left():
			return errMoved
		case <-c.s.again:
			return errAgain
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case f := <-c.acks:
			c.acknowledged(f)
		case <-changed:
		case <-c.s.poke:
		case <-ticks:
			now := c.s.cfg.Clock.Now()
			if c.win.stalled(now) {
				return errStalled
			}
			if c.win.n == 0 && now.Sub(c.since) >= provenAfter {
				c.s.proven()
			}
		}
	}
}

// fill publishes what the window has room for. It tells whether all is done:
// nothing is in flight and the queue has nothing.
func (c *connection) fill() (idle bool) {
	for {
		rec, more := c.nextRecord()
		if rec == nil {
			return c.win.n == 0 && !more
		}
		publish := wire.AppendRecord(make([]byte, 0, len(rec.Payload)+40), rec.Epoch, wire.Lane(rec.Lane), rec.Seq, rec.Payload)
		c.publish(rec.Lane, rec.Seq, c.topic("up"), publish)
	}
}

// nextRecord is the record to publish next, or nil. more: the queue has some, or
// cannot be read, or has to wait for a month in which the link may carry it.
func (c *connection) nextRecord() (rec *queue.Record, more bool) {
	for _, lane := range []queue.Lane{queue.Urgent, queue.History} {
		if lane == queue.History && !c.path.History() {
			return nil, true
		}
		if c.held[lane] == nil {
			r, ok, err := c.s.cfg.Queue.Peek(lane, c.win.lanes[lane].sent, nil)
			if err != nil {
				c.s.unreadable(err)
				return nil, true // the next tick tries again
			}
			if !ok {
				continue
			}
			c.held[lane] = &r
		}
		rec := c.held[lane]
		if !c.win.room(lane, len(rec.Payload)) {
			return nil, true // history must not pass an event that has no room
		}
		delete(c.held, lane)
		return rec, true
	}
	return nil, false
}

// publish takes one message into the window and queues it for the publisher.
func (c *connection) publish(lane queue.Lane, seq uint64, topic string, payload []byte) {
	f := c.win.publish(lane, seq, len(payload), c.s.cfg.Clock.Now())
	c.out <- outgoing{f, topic, payload} // room for the whole window and two state messages
}

// publisher hands the messages to paho one after the other. It has a goroutine of
// its own because paho's Publish blocks, up to writeTimeout, when the connection
// ends under it.
func (c *connection) publisher() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case m := <-c.out:
			t := c.client.Publish(m.topic, 1, false, m.payload)
			go c.watch(t, m.flight)
		}
	}
}

// watch waits for the PUBACK of one message.
func (c *connection) watch(t mqtt.Token, f *flight) {
	select {
	case <-t.Done():
	case <-c.ctx.Done():
		return
	}
	err := t.Error()
	if err == nil {
		c.acks <- f // room as above
		return
	}
	// The reason why the connection is lost says more, and comes at once if that
	// is what happened.
	if c.s.cfg.Clock.Sleep(c.ctx, time.Second) == nil {
		c.fail(fmt.Errorf("publishing: %w", err))
	}
}

// acknowledged moves the queue's cursor over what is acknowledged without a hole.
func (c *connection) acknowledged(f *flight) {
	upTo, moved := c.win.acknowledge(f, c.s.cfg.Clock.Now())
	if f.lane == stateLane {
		return
	}
	c.s.proven()
	c.s.set(func(st *Status) { st.Acknowledged++; st.InFlight = c.win.n })
	if !moved {
		return
	}
	if err := c.s.cfg.Queue.Discard(f.lane, upTo); err != nil {
		// They will be sent again after a restart, and dropped by the endpoint.
		c.s.cfg.Log.Warn("the queue could not discard what was acknowledged", "lane", f.lane, "seq", upTo, "err", err)
	}
}

// leave ends the session politely: PUBACKs under way are taken, the state goes
// out, and DISCONNECT keeps the last will from being published.
func (c *connection) leave() {
	ctx, cancel := withTimeout(c.ctx, c.s.cfg.Clock, leaveTimeout)
	defer cancel()
	c.publish(stateLane, 0, c.topic("state"), c.s.cfg.State(c.number, false))
	for c.win.n > 0 {
		select {
		case f := <-c.acks:
			c.acknowledged(f)
		case <-ctx.Done():
			return // not acknowledged: it will be sent again, and the will tells the rest
		}
	}
	c.client.Disconnect(uint(leaveTimeout.Milliseconds()))
}
