package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"penstock/backend/endpoint"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/lab/netns"
	"penstock/uplink"
	"penstock/uplink/link"
)

const (
	wireHost     = "10.83.0.2" // of the endpoint; each cable is a world of its own
	wireGateway  = "10.83.0.1"
	wireAddress  = wireHost + ":8883"
	wireSpacing  = 250 * time.Millisecond // between records, at least
	wirePatience = 30 * time.Second       // for an acknowledgement
)

// wireBackend is the real backend's store and certificates, shared by all cables.
type wireBackend struct {
	dir   string
	store *store.Store
	ca    *pki.CA
	cert  *pki.Server
	log   *slog.Logger
}

func openWireBackend(ctx context.Context, dir string) (*wireBackend, error) {
	b := &wireBackend{dir: dir, log: slog.New(slog.DiscardHandler)}
	var err error
	if b.ca, err = pki.OpenCA(disk.OS, filepath.Join(dir, "ca"), clock.System, rand.Reader); err != nil {
		return nil, err
	}
	if b.cert, err = b.ca.Server("endpoint", []string{wireHost}); err != nil {
		return nil, err
	}
	b.store, err = store.Open(ctx, filepath.Join(dir, "cloud.db"), clock.System, b.log)
	return b, err
}

// identity makes a gateway known and returns how it connects.
func (b *wireBackend) identity(ctx context.Context, serial string) (func(serverName string) *tls.Config, error) {
	cert, err := enrolled(ctx, b.ca, b.store, serial)
	if err != nil {
		return nil, err
	}
	sessions := tls.NewLRUClientSessionCache(4)
	return func(serverName string) *tls.Config {
		return pki.ForServer(serverName, func() (*tls.Certificate, error) { return &cert, nil }, b.ca.Pool(), clock.System.Now, sessions)
	}, nil
}

// wireLink is a gateway at one end of a cable and the endpoint at the other.
type wireLink struct {
	b              *wireBackend
	serial         string
	gateway, cloud *netns.Namespace
	stop           context.CancelFunc
	served         chan error
}

// newWireLink lays the cable and serves at its far end.
func (b *wireBackend) newWireLink(ctx context.Context, serial string) (l *wireLink, err error) {
	l = &wireLink{b: b, serial: serial, served: make(chan error, 1)}
	if l.gateway, err = netns.New(); err != nil {
		return nil, err
	}
	if l.cloud, err = netns.New(); err != nil {
		return nil, errors.Join(err, l.gateway.Close())
	}
	abandon := func(err error) (*wireLink, error) { return nil, errors.Join(err, l.gateway.Close(), l.cloud.Close()) }
	if err := netns.Cable(l.gateway, "gw", wireGateway+"/30", l.cloud, "cloud", wireHost+"/30"); err != nil {
		return abandon(err)
	}
	known := func(serial string, leaf *x509.Certificate) error {
		return b.store.Standing(context.Background(), serial, pki.Number(leaf))
	}
	e, err := endpoint.New(endpoint.Config{Store: b.store, TLS: pki.ForGateways(b.cert.Certificate, b.ca.Pool(), clock.System.Now, known), Clock: clock.System, Log: b.log})
	if err != nil {
		return abandon(err)
	}
	listener, err := l.cloud.Listen("tcp4", wireAddress)
	if err != nil {
		return abandon(err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() { l.served <- e.Serve(serving, listener) }()
	return l, nil
}

func (l *wireLink) close() error {
	l.stop()
	return errors.Join(<-l.served, l.gateway.Close(), l.cloud.Close())
}

func (l *wireLink) traffic() (netns.Traffic, error) { return l.gateway.Traffic("gw") }

// session is the firmware's own, dialling from the gateway's end. Its assignment
// is cached, as it is after the first day.
func (l *wireLink) session(ctx context.Context, q uplink.Queue) (*uplink.Session, error) {
	identity, err := l.b.identity(ctx, l.serial)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.b.dir, l.serial, "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	assignment, err := json.Marshal(uplink.Assignment{Endpoint: "mqtts://" + wireAddress})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "assignment.json"), assignment, 0o600); err != nil {
		return nil, err
	}
	return uplink.NewSession(uplink.Config{
		Serial: l.serial, AuthURL: "https://" + wireHost + ":8443", Queue: q, TLS: identity, FS: disk.OS, Dir: dir,
		State: func(session uint64, online bool) []byte {
			return fmt.Appendf(nil, `{"online":%t,"session":%d}`, online, session)
		},
		Links: cable{l.gateway}, Clock: clock.System, Rand: func() float64 { return 0 }, Log: l.b.log, KeepAlive: 4 * time.Minute,
	})
}

// cable is the gateway's only link, a metered one: telemetry is its keepalive.
type cable struct{ *netns.Namespace }

func (c cable) Next() link.Path       { return c }
func (c cable) Name() string          { return "cable" }
func (c cable) Traits() link.Traits   { return link.Traits{Metered: true, KeepAlive: 4 * time.Minute} }
func (c cable) Answered()             {}
func (c cable) Failed(error)          {}
func (c cable) Left() <-chan struct{} { return nil }
func (c cable) History() bool         { return true }

// peer is paho as the firmware uses it, over the same TLS, for payloads of others.
// The endpoint keeps what it cannot read, and acknowledges it.
func (l *wireLink) peer(ctx context.Context) (mqtt.Client, error) {
	identity, err := l.b.identity(ctx, l.serial)
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions()
	o.AddBroker("mqtts://" + wireAddress)
	o.SetClientID(l.serial)
	o.SetProtocolVersion(4)
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetKeepAlive(4 * time.Minute)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		raw, err := l.gateway.Dial(ctx, "tcp4", wireAddress)
		if err != nil {
			return nil, err
		}
		return tls.Client(raw, identity(wireHost)), nil
	})
	c := mqtt.NewClient(o)
	t := c.Connect()
	if !t.WaitTimeout(wirePatience) {
		return nil, errors.New("the endpoint does not answer")
	}
	return c, t.Error()
}

// settle waits until nothing is on the cable any more and returns the traffic so
// far.
func (l *wireLink) settle(ctx context.Context) (netns.Traffic, error) {
	before, err := l.traffic()
	for err == nil {
		if err := clock.System.Sleep(ctx, 2*wireSpacing); err != nil {
			return before, err
		}
		now, again := l.traffic()
		if now == before {
			return now, again
		}
		before, err = now, again
	}
	return before, err
}
