package backend

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// oneConn is a listener of one connection.
type oneConn struct {
	conn chan net.Conn
	shut chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.shut:
		return nil, net.ErrClosed
	}
}

func (o *oneConn) Close() error {
	close(o.shut)
	return nil
}

func (*oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Somebody who never signs in asks again and again and takes the answers a little
// at a time, so that no single write stalls, or not at all.
func TestAttackSlowReadersOfThePageLoseTheirPlaces(t *testing.T) {
	a := pkitest.New(t)
	cert := a.Server(t, "localhost")
	config := pki.ForBrowsers(func() (*tls.Certificate, error) { return &cert, nil }, time.Now)
	for name, perSecond := range map[string]int64{"takes nothing": 0, "takes 1 kB a second": 1 << 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &oneConn{conn: make(chan net.Conn), shut: make(chan struct{})}
				page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write(make([]byte, 1<<20))
				})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- httpRole(page, config, browserLimits(), slog.New(slog.DiscardHandler), nil)(ctx, l) }()

				here, there := net.Pipe()
				l.conn <- here
				peer := tls.Client(there, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the attacker
				if err := peer.Handshake(); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				go func() { _, _ = io.WriteString(peer, strings.Repeat("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)) }()
				for perSecond > 0 {
					time.Sleep(time.Second)
					if _, err := io.CopyN(io.Discard, there, perSecond); err != nil {
						break
					}
				}
				for perSecond == 0 { // that the place is free shows by a write that fails
					time.Sleep(time.Second)
					if _, err := there.Write([]byte{0}); err != nil {
						break
					}
				}
				if held := time.Since(start); held > responseTime+10*time.Second {
					t.Errorf("the place was held for %v", held)
				}
				there.Close()
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
