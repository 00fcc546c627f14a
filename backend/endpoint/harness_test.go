package endpoint_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/backend/endpoint"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
)

// patience bounds what a test waits for; nothing is expected to take it.
const patience = 30 * time.Second

// memory is a store that can fail and be held up. Nothing is ever to be sent down
// from it.
type memory struct {
	endpoint.Store

	mu      sync.Mutex
	kept    map[string][][]byte // publishes by gateway
	states  []presence
	clones  []string // of each call of SuspectClone
	fails   error
	failsOn string        // the publish that alone fails, if not ""
	entered chan struct{} // receives when Append begins, if not nil
	release chan struct{} // Append waits for it, if not nil
}

// presence is a call of SetPresence or SetOffline.
type presence struct {
	gateway string
	online  bool
	session uint64
}

func (m *memory) Append(_ context.Context, gateway string, publish []byte) error {
	m.mu.Lock()
	entered, release := m.entered, m.release
	m.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
	}
	if release != nil {
		<-release
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	if m.failsOn != "" && m.failsOn == string(publish) {
		return errDisk
	}
	m.kept[gateway] = append(m.kept[gateway], bytes.Clone(publish))
	return nil
}

func (m *memory) SetPresence(_ context.Context, gateway string, online bool, session uint64, _ []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states = append(m.states, presence{gateway, online, session})
	return m.fails
}

func (m *memory) SetOffline(_ context.Context, gateway string, session uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states = append(m.states, presence{gateway, false, session})
	return nil
}

func (m *memory) SuspectClone(_ context.Context, gateway, why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clones = append(m.clones, gateway+": "+why)
	return nil
}

func (m *memory) suspected() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.clones)
}

func (*memory) Stirred() <-chan struct{} { return nil }

func (*memory) DownlinkVersion(context.Context) (int64, error) { return 0, nil }

func (*memory) Downlinks(context.Context) (map[string]*store.Downlink, error) { return nil, nil }

// all is what was kept, of everybody.
func (m *memory) all() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, publishes := range m.kept {
		n += len(publishes)
	}
	return n + len(m.states)
}

func (m *memory) of(gateway string) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[gateway]
}

func (m *memory) presences() []presence {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]presence(nil), m.states...)
}

func (m *memory) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

// logbook is a log that a test reads.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// site is an endpoint that runs, with authorities of its own.
type site struct {
	*pkitest.Authorities
	store    *memory
	endpoint *endpoint.Endpoint
	log      *logbook
	addr     string
	admit    func(serial string) error // at the handshake, if not nil
	stands   pki.GatewayCheck          // at CONNECT, if not nil
	clock    clock.Clock
}

func serve(t *testing.T) *site { return serveBy(t, clock.System) }

func serveBy(t *testing.T, clk clock.Clock) *site {
	s := &site{Authorities: pkitest.New(t), store: &memory{kept: map[string][][]byte{}}, log: &logbook{}, clock: clk}
	s.run(t, s.store)
	return s
}

// run starts the endpoint on a store.
func (s *site) run(t *testing.T, on endpoint.Store) {
	t.Helper()
	server := s.Server(t, "localhost")
	var err error
	s.endpoint, err = endpoint.New(endpoint.Config{
		Store: on,
		TLS: pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, s.CA.Pool(), time.Now, func(serial string, _ *x509.Certificate) error {
			if s.admit != nil {
				return s.admit(serial)
			}
			return nil
		}),
		Check: func(serial string, leaf *x509.Certificate) error {
			if s.stands != nil {
				return s.stands(serial, leaf)
			}
			return nil
		},
		Clock: s.clock,
		Log:   slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = plain.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.endpoint.Serve(ctx, plain) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the endpoint ended with %v", err)
		}
	})
}

// client speaks MQTT packet by packet, as a gateway may and as it may not.
type client struct {
	t *testing.T
	*tls.Conn
	serial string
	shown  tls.Certificate
}

// dial opens a connection with the certificate of a gateway.
func (s *site) dial(t *testing.T, serial string) *client {
	t.Helper()
	cert := s.Enrolled(t, serial)
	config := pki.ForServer("localhost", func() (*tls.Certificate, error) { return &cert, nil }, s.CA.Pool(), time.Now, nil)
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn.(*tls.Conn), serial, cert}
}

// gateway is a connection of a gateway that behaves, after its CONNACK.
func (s *site) gateway(t *testing.T, serial string) *client {
	t.Helper()
	c := s.dial(t, serial)
	c.send(connect(serial))
	if ack := c.receive().(*packets.ConnackPacket); ack.ReturnCode != packets.Accepted {
		t.Fatalf("CONNACK %d", ack.ReturnCode)
	}
	return c
}

func connect(id string) *packets.ConnectPacket {
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.CleanSession, p.Keepalive, p.ClientIdentifier = "MQTT", 4, true, 60, id
	return p
}

func publish(topic string, qos byte, payload []byte) *packets.PublishPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, 7, payload
	return p
}

func subscribe(topics ...string) *packets.SubscribePacket {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 8, topics, bytes.Repeat([]byte{1}, len(topics))
	return p
}

func (c *client) send(p packets.ControlPacket) {
	c.t.Helper()
	if err := p.Write(c.Conn); err != nil {
		c.t.Fatalf("sending %v: %v", p, err)
	}
}

func (c *client) receive() packets.ControlPacket {
	c.t.Helper()
	p, err := packets.ReadPacket(c.Conn)
	if err != nil {
		c.t.Fatalf("waiting for an answer: %v", err)
	}
	return p
}

// mustBeClosed reads to the end of the connection, which must come without
// another packet.
func (c *client) mustBeClosed(after string) {
	c.t.Helper()
	p, err := packets.ReadPacket(c.Conn)
	switch {
	case err == nil:
		c.t.Errorf("%s: answered with %v", after, p)
	case errors.Is(err, io.EOF):
	default:
		var reset *net.OpError
		if !errors.As(err, &reset) || reset.Timeout() {
			c.t.Errorf("%s: not closed: %v", after, err)
		}
	}
}

// mustServe shows that the connection is alive and in order.
func (c *client) mustServe() {
	c.t.Helper()
	c.send(packets.NewControlPacket(packets.Pingreq))
	if _, ok := c.receive().(*packets.PingrespPacket); !ok {
		c.t.Error("a ping was not answered")
	}
}

// mustBeStored publishes a record and waits for its acknowledgement.
func (c *client) mustBeStored(payload string) {
	c.t.Helper()
	c.send(publish("gw/"+c.serial+"/up", 1, []byte(payload)))
	if ack, ok := c.receive().(*packets.PubackPacket); !ok || ack.MessageID != 7 {
		c.t.Errorf("a record was not acknowledged: %v", ack)
	}
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done() {
		if err := clock.System.Sleep(ctx, time.Millisecond); err != nil {
			t.Fatalf("never came: %s", what)
		}
	}
}

var errDisk = errors.New("the disk is full")
