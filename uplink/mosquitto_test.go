package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/uplink/queue"
	"penstock/uplink/wire/decode"
)

// mosquitto runs Debian's broker with mutual TLS; the certificate's name is who
// a client is.
func mosquitto(t *testing.T, ca *authority) (address string) {
	t.Helper()
	const program = "/usr/sbin/mosquitto" // where Debian has it, and few a path to it
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("%v (Debian: mosquitto)", err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) {
		t.Helper()
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { // of a test: mosquitto drops its rights first
			t.Fatal(err)
		}
	}
	cert := ca.issue("127.0.0.1", x509.ExtKeyUsageServerAuth)
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", ca.cert.Raw)
	write("cert.pem", "CERTIFICATE", cert.Certificate[0])
	write("key.pem", "EC PRIVATE KEY", key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil { // mosquitto wants a port
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	conf := fmt.Sprintf("listener %s 127.0.0.1\ncafile %[2]s/ca.pem\ncertfile %[2]s/cert.pem\nkeyfile %[2]s/key.pem\nrequire_certificate true\n"+
		"use_identity_as_username true\nallow_anonymous false\nmax_inflight_messages 64\nuser root\nacl_file %[2]s/acl\n", port, dir)
	const acl = "pattern write gw/%u/up\npattern write gw/%u/state\npattern read gw/%u/down\nuser cloud\ntopic readwrite gw/#\n"
	for name, text := range map[string]string{"conf": conf, "acl": acl} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-c", filepath.Join(dir, "conf"))
	cmd.Stdout, cmd.Stderr = testLog{t}, testLog{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, which is an error
	})
	return address
}

// TestAgainstMosquitto holds the session against a broker that nobody here wrote.
// (That mosquitto stores what it acknowledges is not claimed: killed, it loses it.)
func TestAgainstMosquitto(t *testing.T) {
	ca := newAuthority(t)
	address := mosquitto(t, ca)
	auth := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { assign(address)(w, "") }))
	auth.TLS = ca.server("127.0.0.1")
	auth.StartTLS()
	defer auth.Close()

	// The backend, as far as this broker can play it: a subscriber.
	e := newEndpoint(t, nil)
	var mu sync.Mutex
	var order []name
	states := make(chan string, 16)
	o := mqtt.NewClientOptions().AddBroker("mqtts://" + address).SetClientID("cloud").SetConnectTimeout(5 * time.Second).
		SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{ca.issue("cloud", x509.ExtKeyUsageClientAuth)}, RootCAs: ca.pool(), MinVersion: tls.VersionTLS12})
	o.SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond)
	cloud := mqtt.NewClient(o)
	token := func(tk mqtt.Token) {
		t.Helper()
		if !tk.WaitTimeout(20*time.Second) || tk.Error() != nil {
			t.Fatal("mosquitto does not answer", tk.Error())
		}
	}
	token(cloud.Connect())
	defer cloud.Disconnect(100)
	token(cloud.Subscribe("gw/+/up", 1, func(_ mqtt.Client, m mqtt.Message) {
		rec, err := decode.ParseRecord(m.Payload())
		if err != nil {
			t.Error(err)
			return
		}
		k := name{queue.Lane(rec.Lane), rec.Seq}
		mu.Lock()
		order = append(order, k)
		mu.Unlock()
		e.mu.Lock()
		e.stored[k]++
		e.mu.Unlock()
	}))
	token(cloud.Subscribe("gw/+/state", 1, func(_ mqtt.Client, m mqtt.Message) { states <- string(m.Payload()) }))

	q := newFakeQueue(t, nil) // with nobody to ask what is stored
	down := make(chan string, 1)
	s, err := NewSession(Config{
		Serial: "PSK-1", AuthURL: auth.URL, Queue: q, TLS: ca.client("PSK-1"), FS: disk.OS, Dir: t.TempDir(),
		Clock: clock.System, Rand: rand.Float64, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
		State:   func(session uint64, online bool) []byte { return fmt.Appendf(nil, "%d %v", session, online) },
		Down:    func(m []byte) { down <- string(m) },
		Backoff: Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	q.add(queue.History, 500)
	q.add(queue.Urgent, 20)
	if err := s.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if q.discarded(queue.History) != 500 || q.discarded(queue.Urgent) != 20 {
		t.Errorf("discarded up to %d and %d", q.discarded(queue.History), q.discarded(queue.Urgent))
	}
	for arrived := false; !arrived; { // what it has acknowledged it may still be handing on
		mu.Lock()
		arrived = len(order) >= 520
		mu.Unlock()
		select {
		case <-q.progress():
		case <-ctx.Done():
			t.Fatal("mosquitto did not hand on what it acknowledged")
		}
	}
	last := map[queue.Lane]uint64{}
	for _, k := range order {
		if k.seq != last[k.lane]+1 {
			t.Errorf("%v: %d came after %d", k.lane, k.seq, last[k.lane])
		}
		last[k.lane] = k.seq
	}
	token(cloud.Publish("gw/PSK-1/down", 1, false, "watch"))
	if got := <-down; got != "watch" {
		t.Errorf("%q came down", got)
	}
	if got := <-states; got != "1 true" {
		t.Errorf("state %q", got)
	}
	cancel()
	<-ended
	if got := <-states; got != "1 false" {
		t.Errorf("state %q after a polite end", got)
	}
}
