package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"penstock/backend/access"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// With -look ADDRESS this test serves a plant to look at while the pages are
// worked on, until it is interrupted:
//
//	go test ./backend/web -run TestThePagesCanBeLookedAt -look 127.0.0.1:8444 -timeout 0
var look = flag.String("look", "", "serve a plant at this address until interrupted")

const (
	lookEmail    = "demo@penstock.example"
	lookPassword = "pumps and pipes"
)

// cheap is argon2id at a cost that tests can bear.
var cheap = argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// ill changes a reading into one of a pump in trouble.
func ill(pump string, codes map[string]int64, missing bool) func(telemetry.Series, *telemetry.Reading) {
	return func(s telemetry.Series, r *telemetry.Reading) {
		if s.Pump != pump {
			return
		}
		if missing {
			*r = telemetry.Reading{Group: r.Group, Series: r.Series, Slot: r.Slot, Quality: telemetry.Missing}
		} else if c, ok := codes[s.Point]; ok {
			r.Raw = c
		}
	}
}

// scene is several gateways with an hour behind them.
func scene(t testing.TB) *plant {
	now := time.Now()
	p := newPlant(t, "LAB-0001", "Pressure pump 1", "Pressure pump 2")
	p.clock.set(-2 * time.Hour)
	p.presence(t, true)
	p.clock.set(0)
	p.run(t, now.Add(-65*time.Minute), now.Add(-21*time.Minute))
	p.send(t, wire.KindGap, wire.AppendGap(nil, telemetry.Gap{Reason: telemetry.UncleanStop, From: now.Add(-21 * time.Minute), To: now.Add(-17 * time.Minute)}))
	p.run(t, now.Add(-17*time.Minute), now)

	away := plantIn(t, p.store, p.clock, "WELL-EAST-2", "Well pump")
	away.run(t, now.Add(-65*time.Minute), now.Add(-14*time.Minute))
	p.clock.set(-14 * time.Minute)
	away.presence(t, true)
	away.presence(t, false)
	p.clock.set(0)

	sick := plantIn(t, p.store, p.clock, "BOILER-7", "Boiler feed", "Return", "Stand-by")
	sick.presence(t, true)
	sick.run(t, now.Add(-40*time.Minute), now.Add(-12*time.Minute))
	sick.run(t, now.Add(-12*time.Minute), now,
		ill("bus1-1", map[string]int64{"alarm": 1, "alarm_code": 57, "running": 0, "speed": 0, "flow": 0, "head": 0, "power": 9}, false),
		ill("bus1-2", map[string]int64{"warning": 1, "warning_code": 30}, false),
		ill("bus1-3", nil, true))
	sick.send(t, wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: now, Link: "modem", Point: telemetry.DataUsed, Raw: 80}))
	known(t, p.store, "NEW-0007")
	return p
}

// site is a handler on a plant with one account.
func site(t testing.TB, p *plant, log *slog.Logger) *Handler {
	t.Helper()
	accounts, err := access.NewAccounts(p.store, p.clock, log, cheap)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Add(t.Context(), lookEmail, lookPassword, access.Viewer); err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Store: p.store, Accounts: accounts, Sessions: access.NewSessions(p.store, accounts, p.clock, log), Clock: p.clock, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestThePagesCanBeLookedAt holds the scene to what a person would see first,
// and serves it when asked to.
func TestThePagesCanBeLookedAt(t *testing.T) {
	p := scene(t)
	h := site(t, p, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	list, err := h.summaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ serial, state, attention string }{
		{"BOILER-7", "Online", "Boiler feed: Alarm: running dry, Stand-by: No answer, Return: Warning: bearings need to be replaced (service), " +
			p.clock.Now().UTC().Format("80 % of the data of link modem for 2006-01 are used")},
		{"LAB-0001", "Online", "Gaps in the last 24 h: 1, 4 min in all (unclean stop)"},
		{"NEW-0007", "Never seen", ""},
		{"WELL-EAST-2", "Offline", ""},
	} {
		if g := list[i]; g.Serial != want.serial || g.State != want.state || g.Attention != want.attention {
			t.Errorf("got %+v, want %+v", g, want)
		}
	}
	if *look == "" {
		return
	}
	srv := &http.Server{Addr: *look, Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}}
	srv.RegisterOnShutdown(h.Close)
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServeTLS("", "") }()
	fmt.Printf("https://%s  %s  %s\n", *look, lookEmail, lookPassword)
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	last := time.Now()
	for tick := time.NewTicker(2 * time.Second); ; {
		select {
		case now := <-tick.C:
			p.run(t, last, now)
			last = now
		case <-interrupt:
			srv.Close()
			return
		case err := <-ended:
			t.Fatal(err)
		}
	}
}
