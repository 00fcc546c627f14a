package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/uplink/queue"
	"penstock/uplink/wire/decode"
)

// storeHook stores what is published, before mochi sends PUBACK; now and then it
// fails as a full disk does, which closes the connection.
type storeHook struct {
	mochi.HookBase
	e *endpoint
	n int
}

func (h *storeHook) ID() string { return "store" }
func (h *storeHook) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish}, []byte{b})
}
func (h *storeHook) OnConnectAuthenticate(cl *mochi.Client, _ packets.Packet) bool {
	conn, ok := cl.Net.Conn.(*tls.Conn)
	return ok && conn.ConnectionState().PeerCertificates[0].Subject.CommonName == cl.ID
}
func (h *storeHook) OnACLCheck(*mochi.Client, string, bool) bool { return true }
func (h *storeHook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.TopicName != "gw/PSK-1/up" {
		return pk, nil
	}
	rec, err := decode.ParseRecord(pk.Payload)
	if err != nil {
		h.e.t.Errorf("endpoint: %v", err)
		return pk, packets.ErrRejectPacket
	}
	h.e.mu.Lock()
	defer h.e.mu.Unlock()
	if h.n++; h.n%97 == 0 {
		cl.Stop(packets.ErrRejectPacket)
		return pk, packets.ErrRejectPacket
	}
	h.e.stored[name{queue.Lane(rec.Lane), rec.Seq}]++
	return pk, nil
}

func broker(t *testing.T, e *endpoint, address string, tl *tls.Config) *mochi.Server {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(&storeHook{e: e}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "test", Address: address, TLSConfig: tl})); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWithARealBroker runs over real TCP and mutual TLS, with an endpoint that
// fails now and then and is restarted in between.
func TestWithARealBroker(t *testing.T) {
	ca := newAuthority(t)
	e := newEndpoint(t, nil)
	q := newFakeQueue(t, e)
	tl := ca.server("127.0.0.1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil { // mochi wants the address
		t.Fatal(err)
	}
	b := broker(t, e, address, tl)
	auth := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { assign(address)(w, "") }))
	auth.TLS = tl.Clone()
	auth.StartTLS()
	defer auth.Close()
	s, err := NewSession(Config{
		Serial: "PSK-1", AuthURL: auth.URL, Queue: q, TLS: ca.client("PSK-1"), FS: disk.OS, Dir: t.TempDir(),
		Clock: clock.System, Rand: rand.Float64, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
		State:   func(uint64, bool) []byte { return []byte("{}") },
		Backoff: Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	total := uint64(0)
	for range 3 {
		q.add(queue.History, 300)
		q.add(queue.Urgent, 5)
		total += 300
		for q.discarded(queue.History) < total-150 {
			if ctx.Err() != nil {
				t.Fatal("no progress")
			}
			<-q.progress()
		}
		_ = b.Close()
		b = broker(t, e, address, tl)
	}
	if err := s.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	e.complete(queue.History, total)
	e.complete(queue.Urgent, 15)
	if st := s.Status(); st.Acknowledged < total+15 || st.Connections < 4 {
		t.Errorf("%+v", st)
	}
	cancel()
	<-ended
	_ = b.Close()
}
