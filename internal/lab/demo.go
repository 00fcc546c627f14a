package lab

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// DemoOptions are what a person may choose.
type DemoOptions struct {
	Dir       string        // kept afterwards; "" is a temporary folder that goes
	ExitAfter time.Duration // 0 runs until ctx ends
	JSON      bool          // print only the summary, as one object
	Out       io.Writer
}

// Summary is what a run came to.
type Summary struct {
	ReadingsStored          int     `json:"readings_stored"`
	ReadingsServed          int     `json:"readings_served"`
	WrongValues             int     `json:"wrong_values"`
	MissingValues           int     `json:"missing_values"`
	DiscardedValues         int     `json:"discarded_values"`
	GatewayListeningSockets int     `json:"gateway_listening_sockets"`
	SecondsToFirstReading   float64 `json:"seconds_to_first_reading"`
}

// OK tells whether the run kept every promise.
func (s Summary) OK() bool {
	return s.WrongValues == 0 && s.MissingValues == 0 && s.GatewayListeningSockets == 0 && s.ReadingsStored > 0
}

// DemoEmail is the demo's one account.
const DemoEmail = "demo@penstock.example"

// demoScenario makes an alarm come and go: every two minutes the second pump
// runs dry for twenty seconds. It notices after eight, and restarts by itself ten
// seconds after the water is back.
const demoScenario = "2:dry_running:15s:20s:2m"

// Demo brings up a plant with its backend, says where to look, watches it run,
// ends it in order and judges every value.
func Demo(ctx context.Context, o DemoOptions) (sum Summary, err error) {
	started := time.Now()
	say := func(format string, args ...any) {
		if !o.JSON {
			fmt.Fprintf(o.Out, format, args...)
		}
	}
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "penstock-demo-"); err != nil {
			return sum, err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(dir)
			} else {
				err = fmt.Errorf("%w\n(the run's files are kept in %s)", err, dir)
			}
		}()
	} else if err = os.MkdirAll(dir, 0o755); err != nil {
		return sum, err
	}

	programs, err := Beside(ctx, dir)
	if err != nil {
		return sum, err
	}
	site := &Site{Dir: dir, Programs: programs, Period: 2 * time.Second, Pumps: 2, Genibus: 1, Scenario: demoScenario}
	defer site.Abandon()
	password := strings.ToLower(rand.Text()[:12])
	if err := site.Up(ctx, freeOr("127.0.0.1:8443", "127.0.0.1:8883", "127.0.0.1:8444"), password, say); err != nil {
		return sum, err
	}
	sum.SecondsToFirstReading = time.Since(started).Seconds()
	if err := welcome(ctx, site, password, sum.SecondsToFirstReading, say); err != nil {
		return sum, err
	}

	if o.ExitAfter > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, o.ExitAfter-min(o.ExitAfter, time.Since(started)))
		defer stop()
	}
	if sum.GatewayListeningSockets, err = watch(ctx, site, say); err != nil {
		return sum, err
	}

	say("\r\033[KStopping: the pumps, then the gateway once its queue is empty, then the backend.\n")
	// The caller's context has ended; what follows has its own bound.
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer done()
	if err := site.Finish(ending); err != nil {
		return sum, err
	}
	v, err := site.Verdict(ending)
	if err != nil {
		return sum, err
	}
	sum.ReadingsServed, sum.ReadingsStored = v.Served, v.Stored
	sum.WrongValues, sum.MissingValues, sum.DiscardedValues = v.Wrong, v.Missing, v.Discarded
	if o.JSON {
		return sum, json.NewEncoder(o.Out).Encode(sum)
	}
	say("The pumps served %d values; the store holds %d of them: %d wrong, %d missing.\n", v.Served, v.Stored, v.Wrong, v.Missing)
	for _, f := range v.Faults {
		say("  %s\n", f)
	}
	return sum, nil
}

// Up starts everything and returns when the first reading has been stored.
func (s *Site) Up(ctx context.Context, at Addresses, password string, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not up within a minute"))
	defer cancel()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"backend: authorities, auth service, endpoint, web page", func() error { return s.StartCloud(ctx, at) }},
		{"an account for the page", func() error { return s.AddUser(ctx, DemoEmail, password) }},
		{"a gateway's identity: key, request, certificate", func() error { return s.Provision(ctx) }},
		{fmt.Sprintf("%d virtual pumps on a virtual serial line, Modbus RTU, 19200 8E1%s", s.Pumps, s.besides()), func() error { return s.StartPumps(ctx) }},
		{"the gateway", func() error { return s.StartGateway(ctx) }},
		{"first readings of every pump", func() error { return s.AwaitReadings(ctx) }},
		{"first reading in the store", func() error { return s.AwaitStored(ctx) }},
	} {
		t := time.Now()
		say("  %-84s", step.what)
		if err := step.do(); err != nil {
			say("failed\n")
			return err
		}
		say("%5.1f s\n", time.Since(t).Seconds())
	}
	return nil
}

func welcome(ctx context.Context, site *Site, password string, seconds float64, say func(string, ...any)) error {
	fingerprint, err := certificateFingerprint(ctx, site.Addresses().Web)
	if err != nil {
		return err
	}
	say(`
A pump's first reading was stored %.1f s after the start.

  Open     https://%s
  Sign in  %s
  Password %s

The browser warns because this demo made its own certificate, SHA-256
%s

Meanwhile, in another terminal:
  %s status -socket %s
Ctrl-C ends the demo and checks every value.

`, seconds, strings.Replace(site.Addresses().Web, "127.0.0.1", "localhost", 1), DemoEmail, password, fingerprint,
		strings.Join(site.Programs.Gateway, " "), site.Socket())
	return nil
}

// watch shows progress until ctx ends, and looks at the kernel's socket table.
func watch(ctx context.Context, site *Site, say func(string, ...any)) (listening int, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		sockets, err := ListeningSockets(site.GatewayProc.PID())
		if err != nil {
			return listening, fmt.Errorf("the gateway is gone: %w; its last words:\n%s", err, site.GatewayProc.Tail())
		}
		listening = max(listening, len(sockets))
		if snap, err := site.Status(ctx); err == nil {
			var busy float64
			for _, b := range snap.Buses {
				busy = max(busy, b.Occupancy)
			}
			var waiting uint64
			for _, l := range snap.Queue.Lanes {
				waiting += l.Records
			}
			say("\r\033[K%s · %d records stored, %d waiting · bus %.0f %% busy · %d listening sockets",
				snap.Uplink.State, snap.Uplink.Acknowledged, waiting, 100*busy, listening)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return listening, nil
		case <-site.PumpsProc.Done():
			return listening, fmt.Errorf("the virtual pumps ended; their last words:\n%s", site.PumpsProc.Tail())
		case <-site.CloudProc.Done():
			return listening, fmt.Errorf("the backend ended; its last words:\n%s", site.CloudProc.Tail())
		case <-site.GatewayProc.Done():
			return listening, fmt.Errorf("the gateway ended; its last words:\n%s", site.GatewayProc.Tail())
		}
	}
}

// freeOr keeps each address that is free and lets the kernel choose otherwise.
func freeOr(auth, endpoint, web string) Addresses {
	free := func(addr string) string {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return "127.0.0.1:0"
		}
		l.Close()
		return addr
	}
	return Addresses{Auth: free(auth), Endpoint: free(endpoint), Web: free(web)}
}

// certificateFingerprint is what a browser shows of the page's certificate.
func certificateFingerprint(ctx context.Context, addr string) (string, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // only to read it
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("the web page does not answer: %w", err)
	}
	defer c.Close()
	sum := sha256.Sum256(c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"), nil
}

// besides says what else is on the site.
func (s *Site) besides() string {
	if s.Genibus == 0 {
		return ""
	}
	return fmt.Sprintf("; %d on a GENIbus", s.Genibus)
}
