package endpoint

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// bench is an endpoint on loopback with its store.
type bench struct {
	t       *testing.T
	ca      *pki.CA
	db      *store.Store
	e       *Endpoint
	address string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.OpenCA(disk.OS, filepath.Join(dir, "ca"), clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("endpoint", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Store: db, Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		TLS: pki.ForGateways(server.Certificate, ca.Pool(), time.Now, func(string, *x509.Certificate) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, db.Close()); err != nil {
			t.Error(err)
		}
	})
	return &bench{t, ca, db, e, l.Addr().String()}
}

// gateway issues an identity and makes the gateway known.
func (b *bench) gateway(serial string) tls.Certificate {
	b.t.Helper()
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		b.t.Fatal(err)
	}
	leaf, err := b.ca.IssueGateway(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), "lab")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.db.AddGateway(b.t.Context(), store.Gateway{Serial: serial, Model: "cim550", Board: "lab"},
		store.Certificate{Number: pki.Number(leaf), Role: "factory", Key: leaf.RawSubjectPublicKeyInfo[:32], NotAfter: leaf.NotAfter}); err != nil {
		b.t.Fatal(err)
	}
	c := tls.Certificate{PrivateKey: key}
	chain, err := b.ca.Chain(leaf)
	if err != nil {
		b.t.Fatal(err)
	}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	return c
}

const soon = 10 * time.Second

// client is a gateway as its endpoint sees it.
type client struct {
	mqtt paho.Client
	lost chan error
	down chan wire.Down
}

func (b *bench) connect(cert tls.Certificate, id string, change func(*paho.ClientOptions)) (*client, error) {
	b.t.Helper()
	c := &client{lost: make(chan error, 1), down: make(chan wire.Down, 64)}
	o := paho.NewClientOptions().AddBroker("mqtts://" + b.address).SetClientID(id).SetProtocolVersion(4).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectTimeout(soon).SetKeepAlive(30 * time.Second).
		SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: b.ca.Pool(), MinVersion: tls.VersionTLS12}).
		SetConnectionLostHandler(func(_ paho.Client, err error) { c.lost <- err })
	if change != nil {
		change(o)
	}
	c.mqtt = paho.NewClient(o)
	t := c.mqtt.Connect()
	if !t.WaitTimeout(soon) {
		return nil, errors.New("no CONNACK")
	}
	b.t.Cleanup(func() { c.mqtt.Disconnect(0) })
	return c, t.Error()
}

func (b *bench) mustConnect(cert tls.Certificate, id string) *client {
	b.t.Helper()
	c, err := b.connect(cert, id, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	t := c.mqtt.Subscribe("gw/"+id+"/down", 1, func(_ paho.Client, m paho.Message) {
		d, err := wire.ParseDown(m.Payload())
		if err != nil {
			b.t.Error(err)
		}
		c.down <- d
	})
	if !t.WaitTimeout(soon) || t.Error() != nil {
		b.t.Fatal("no subscription", t.Error())
	}
	return c
}

func (c *client) publish(topic string, payload []byte) error {
	t := c.mqtt.Publish(topic, 1, false, payload)
	if !t.WaitTimeout(soon) {
		return errors.New("no PUBACK")
	}
	return t.Error()
}

func (c *client) next(t *testing.T) wire.Down {
	t.Helper()
	select {
	case d := <-c.down:
		return d
	case <-time.After(soon):
		t.Fatal("nothing came down")
		return wire.Down{}
	}
}

func record(epoch wire.Epoch, seq uint64, kind wire.Kind, body []byte) []byte {
	return wire.AppendRecord(nil, epoch, wire.Urgent, seq, new(wire.Packer).AppendPayload(nil, kind, body))
}

func event(n int64) []byte {
	return wire.AppendEvent(nil, telemetry.Event{Time: time.UnixMilli(1780000000000), Pump: "bus1-1", Point: "alarm_code", Raw: n})
}

func TestPUBACKMeansStored(t *testing.T) {
	b := newBench(t)
	c := b.mustConnect(b.gateway("G-0001"), "G-0001")
	for seq := uint64(1); seq <= 20; seq++ {
		if err := c.publish("gw/G-0001/up", record(wire.Epoch{1}, seq, wire.KindEvent, event(1))); err != nil {
			t.Fatal(err)
		}
		if n, err := b.db.Counters(t.Context(), "G-0001"); err != nil || n.Records != int64(seq) {
			t.Fatalf("%+v, %v after PUBACK of %d", n, err, seq)
		}
	}
	if err := b.db.Close(); err != nil { // the disk is gone
		t.Fatal(err)
	}
	if err := c.publish("gw/G-0001/up", record(wire.Epoch{1}, 21, wire.KindEvent, event(1))); err == nil {
		t.Error("acknowledged although nothing was stored")
	}
}

func TestAGatewayMayDoNothingButItsOwn(t *testing.T) {
	b := newBench(t)
	cert := b.gateway("G-0001")
	for what, change := range map[string]func(*paho.ClientOptions){
		"another's client id": func(o *paho.ClientOptions) { o.SetClientID("G-0002") },
		"a wildcard":          func(o *paho.ClientOptions) { o.SetClientID("+") },
		"another's will":      func(o *paho.ClientOptions) { o.SetBinaryWill("gw/G-0002/state", []byte("{}"), 1, false) },
		"a retained will":     func(o *paho.ClientOptions) { o.SetBinaryWill("gw/G-0001/state", []byte("{}"), 1, true) },
		"a lasting session":   func(o *paho.ClientOptions) { o.SetCleanSession(false) },
	} {
		if _, err := b.connect(cert, "G-0001", change); err == nil {
			t.Errorf("%s was let in", what)
		}
	}
	for _, topic := range []string{"gw/G-0002/up", "gw/G-0001/down", "gw/G-0001/up/x", "$SYS/x"} {
		c := b.mustConnect(cert, "G-0001")
		if err := c.publish(topic, []byte("x")); err == nil {
			t.Errorf("a publish on %s was acknowledged", topic)
		}
		<-c.lost
	}
	if s := b.e.Stats(); s.Violations != 9 || s.Stored != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCommandsGoDownUntilTheyAreAnswered(t *testing.T) {
	b := newBench(t)
	cert := b.gateway("G-0001")
	add := func(value string, life time.Duration) store.Command {
		c, err := b.db.AddCommand(t.Context(), "G-0001", "bus1-1", "setpoint", value, "anna", life)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// One is waiting when the gateway connects, another comes while it is there.
	first := add("50%", time.Hour)
	c := b.mustConnect(cert, "G-0001")
	if d := c.next(t); d.Command == nil || *d.Command != first.Command {
		t.Fatalf("%+v", d)
	}
	second := add("55%", time.Hour)
	if d := c.next(t); d.Command == nil || *d.Command != second.Command {
		t.Fatalf("%+v", d)
	}
	// The connection dies before the second is answered, so it is sent again.
	r := telemetry.CommandResult{ID: first.ID, Outcome: telemetry.Done, Time: time.UnixMilli(1780000000000), Raw: 5000, Text: "50 %"}
	if err := c.publish("gw/G-0001/up", record(wire.Epoch{1}, 1, wire.KindResult, wire.AppendResult(nil, r))); err != nil {
		t.Fatal(err)
	}
	c.mqtt.Disconnect(0)
	c = b.mustConnect(cert, "G-0001")
	if d := c.next(t); d.Command == nil || d.Command.ID != second.ID {
		t.Fatalf("%+v", d)
	}
	select {
	case d := <-c.down:
		t.Errorf("%+v was sent although it is answered", d)
	default:
	}
	got, err := b.db.Command(t.Context(), first.ID)
	if err != nil || got.Sent.IsZero() || got.Result == nil || got.Result.Outcome != telemetry.Done || got.Result.Text != "50 %" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAWatcherAndAnEpochInDoubtGoDown(t *testing.T) {
	b := newBench(t)
	c := b.mustConnect(b.gateway("G-0001"), "G-0001")
	if err := b.db.Watch(t.Context(), "G-0001", time.Minute); err != nil {
		t.Fatal(err)
	}
	if d := c.next(t); d.Watch < 50*time.Second || d.Watch > time.Minute {
		t.Errorf("%+v", d)
	}
	if err := b.db.Watch(t.Context(), "G-0001", time.Minute); err != nil { // not worth a message
		t.Fatal(err)
	}
	for n := range int64(2) { // two contents under one name
		if err := c.publish("gw/G-0001/up", record(wire.Epoch{7}, 1, wire.KindEvent, event(n))); err != nil {
			t.Fatal(err)
		}
	}
	if d := c.next(t); d.NewEpoch != (wire.Epoch{7}) {
		t.Errorf("%+v", d)
	}
	if alarms, err := b.db.Alarms(t.Context(), "G-0001"); err != nil || len(alarms) != 1 {
		t.Errorf("%v, %v", alarms, err)
	}
}

func TestWhatOneGatewayIsSentNoOtherHears(t *testing.T) {
	b := newBench(t)
	one, other := b.mustConnect(b.gateway("G-0001"), "G-0001"), b.mustConnect(b.gateway("G-0002"), "G-0002")
	for i := range 5 {
		if _, err := b.db.AddCommand(t.Context(), "G-0001", "bus1-1", "setpoint", fmt.Sprint(i), "anna", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if d := one.next(t); d.Command == nil || d.Command.Value != fmt.Sprint(i) {
			t.Errorf("%+v", d)
		}
	}
	if len(other.down) != 0 {
		t.Error("another gateway's command came")
	}
}
