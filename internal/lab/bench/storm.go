package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/gateway"
	"penstock/uplink"
)

func init() {
	Register("storm", "a fleet of 10 000 that lost its power or its endpoint together: handshakes a second as it comes back", storm)
}

const (
	stormFleet   = 10_000
	stormPlayed  = 40 * time.Minute
	stormSlot    = 5 * time.Second // of the curve
	stormTimeout = 15 * time.Second
)

// disaster is what happens to the fleet, and when it is over.
type disaster struct {
	name         string
	spread       time.Duration // that the firmware takes at power-up
	cached       bool          // gateways know their endpoint
	connected    bool          // they were connected when it began
	endpointBack time.Duration
	authBack     time.Duration
	lostEndpoint bool // the endpoint is never back; the auth service knows another
}

func storm(ctx context.Context, emit func(Metric)) error {
	offered, err := handshakesOffered(ctx)
	if err != nil {
		return err
	}
	emit(Metric{"auth_handshakes_per_s", offered, "/s", map[string]any{"real": true, "cores": "shared with the clients"}})
	for _, d := range []disaster{
		{name: "power", spread: gateway.PowerUpSpread, cached: true},
		{name: "power, none knows its endpoint", spread: gateway.PowerUpSpread},
		{name: "endpoint restarts in 3 s", cached: true, connected: true, endpointBack: 3 * time.Second},
		{name: "endpoint away for 10 min", cached: true, connected: true, endpointBack: 10 * time.Minute},
		{name: "endpoint lost, another takes over", cached: true, connected: true, lostEndpoint: true},
		{name: "all away for 10 min", cached: true, connected: true, endpointBack: 10 * time.Minute, authBack: 10 * time.Minute},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		playStorm(d, offered, emit)
	}
	return nil
}

// server is a service that makes so many handshakes a second, one after the
// other; who waits too long has gone when its turn comes, and cost as much.
type server struct {
	clk  *virtual
	each time.Duration

	mu     sync.Mutex
	busy   time.Time
	began  time.Time
	starts []int // handshakes begun, by second
}

var errTooLate = errors.New("timed out")

func (s *server) handshake(ctx context.Context) error {
	s.mu.Lock()
	now := s.clk.Now()
	second := int(now.Sub(s.began) / time.Second)
	for len(s.starts) <= second {
		s.starts = append(s.starts, 0)
	}
	s.starts[second]++
	if s.busy.Before(now) {
		s.busy = now
	}
	s.busy = s.busy.Add(s.each)
	wait := s.busy.Sub(now)
	s.mu.Unlock()
	if wait > stormTimeout {
		if err := s.clk.Sleep(ctx, stormTimeout); err != nil {
			return err
		}
		return errTooLate
	}
	return s.clk.Sleep(ctx, wait)
}

func playStorm(d disaster, offered float64, emit func(Metric)) {
	clk := newVirtual()
	began := clk.Now()
	serve := func() *server {
		return &server{clk: clk, each: time.Duration(float64(time.Second) / offered), began: began}
	}
	auth, endpoint := serve(), serve()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var attempts, connected atomic.Int64
	var last atomic.Int64 // when the last one came in, ns
	const first, second = "endpoint-1:8883", "endpoint-2:8883"
	clk.add(stormFleet + 1)
	for i := range stormFleet {
		random := mathrand.New(mathrand.NewPCG(uint64(i), 5))
		fsys := faultdisk.New()
		if d.cached {
			// A cache that cannot be written counts as none, which the curve would show.
			_ = disk.WriteFile(fsys, "assignment.json", []byte(`{"endpoint":"mqtts://`+first+`"}`), 0o644)
		}
		had := !d.connected
		m := uplink.Simulation{FS: fsys, Dir: ".", Clock: clk, Rand: random.Float64, Config: uplink.Config{Spread: d.spread},
			Assign: func(ctx context.Context, failed string) (uplink.Assignment, error) {
				attempts.Add(1)
				if clk.Now().Sub(began) < d.authBack {
					return uplink.Assignment{}, errTooLate
				}
				if err := auth.handshake(ctx); err != nil {
					return uplink.Assignment{}, err
				}
				if failed != "" && d.lostEndpoint {
					return uplink.Assignment{Endpoint: "mqtts://" + second}, nil
				}
				return uplink.Assignment{Endpoint: "mqtts://" + first}, nil
			},
			Connect: func(ctx context.Context, host string, good func()) error {
				if !had {
					had = true
					good()
					return io.EOF // the connection that the disaster ended
				}
				attempts.Add(1)
				if host == first && (d.lostEndpoint || clk.Now().Sub(began) < d.endpointBack) {
					return errTooLate // refused: nothing listens
				}
				if err := endpoint.handshake(ctx); err != nil {
					return err
				}
				good()
				connected.Add(1)
				last.Store(int64(clk.Now().Sub(began)))
				// It stays for the rest of the play.
				if err := clk.Sleep(ctx, 10*stormPlayed); err != nil {
					return err
				}
				return io.EOF
			}}
		wg.Go(func() {
			defer clk.done()
			_ = m.Run(ctx) // it ends with ctx
		})
	}
	go func() {
		defer clk.done()
		_ = clk.Sleep(ctx, stormPlayed)
		cancel()
	}()
	wg.Wait()
	keys := map[string]any{"gateways": stormFleet, "disaster": d.name}
	report := func(metric string, value float64, unit string) { emit(Metric{metric, value, unit, keys}) }
	report("peak_auth_handshakes_per_s", float64(peak(auth.starts)), "/s")
	report("peak_endpoint_handshakes_per_s", float64(peak(endpoint.starts)), "/s")
	report("attempts", float64(attempts.Load()), "1")
	report("connected", float64(connected.Load()), "1")
	report("all_connected_s", time.Duration(last.Load()).Seconds(), "s")
	for t := 0; t < max(len(auth.starts), len(endpoint.starts)); t += int(stormSlot / time.Second) {
		a, e := mean(auth.starts, t), mean(endpoint.starts, t)
		if a > 0 || e > 0 {
			emit(Metric{"handshakes_per_s", a + e, "/s", map[string]any{"disaster": d.name, "t_s": t, "auth": a, "endpoint": e}})
		}
	}
}

func peak(starts []int) (most int) {
	for _, n := range starts {
		most = max(most, n)
	}
	return most
}

// mean is the rate of the slot of the curve that begins at second t.
func mean(starts []int, t int) float64 {
	n := 0
	for i := t; i < min(len(starts), t+int(stormSlot/time.Second)); i++ {
		n += starts[i]
	}
	return float64(n) / stormSlot.Seconds()
}

// handshakesOffered measures how many mutual handshakes a second our listener
// makes here, with its clients on the same cores.
func handshakesOffered(ctx context.Context) (float64, error) {
	dir, err := os.MkdirTemp("", "penstock-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.OpenCA(disk.OS, filepath.Join(dir, "ca"), clock.System, rand.Reader)
	if err != nil {
		return 0, err
	}
	server, err := ca.Server("auth", []string{"127.0.0.1"})
	if err != nil {
		return 0, err
	}
	client, err := gatewayCertificate(ca, "BENCH-0001")
	if err != nil {
		return 0, err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	config := pki.ForGateways(server.Certificate, ca.Pool(), time.Now, func(string, *x509.Certificate) error { return nil })
	l := pki.Secure(plain, config, pki.DefaultLimits, func(net.Addr, error) {})
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	const clients, measured = 8, 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, measured)
	defer cancel()
	var made atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				d := tls.Dialer{Config: pki.ForServer("127.0.0.1", func() (*tls.Certificate, error) { return &client, nil }, ca.Pool(), time.Now, nil)}
				c, err := d.DialContext(ctx, "tcp", l.Addr().String())
				if err == nil {
					// In TLS 1.3 the server's word on our certificate comes after ours.
					if _, err = c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
						err = nil
					}
					err = errors.Join(err, c.Close())
				}
				if ctx.Err() == nil && err != nil {
					failed <- err
					return
				}
				made.Add(1)
			}
		})
	}
	began := time.Now()
	wg.Wait()
	select {
	case err := <-failed:
		return 0, fmt.Errorf("measuring handshakes: %w", err)
	default:
	}
	return float64(made.Load()) / time.Since(began).Seconds(), nil
}

// gatewayCertificate issues an operational certificate for a client of a measurement.
func gatewayCertificate(ca *pki.CA, serial string) (tls.Certificate, error) {
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := ca.IssueOperational(request)
	if err != nil {
		return tls.Certificate{}, err
	}
	chain, err := ca.ChainOf(leaf)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c, nil
}
