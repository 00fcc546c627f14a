package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"penstock/internal/lab/netns"
)

// wan is a gateway with two links, a router, and a backend behind it:
//
//	gateway  eth0 10.1.0.2 ── 10.1.0.1 re ┐
//	                                     router ── 10.3.0.2 cloud0  backend
//	gateway  lte0 10.2.0.2 ── 10.2.0.1 rl ┘
type wan struct {
	t                      *testing.T
	gateway, router, cloud *netns.Namespace
}

func newWAN(t *testing.T) *wan {
	t.Helper()
	if testing.Short() {
		t.Skip("networks are cut in the long tests only")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("%v (Debian: iproute2)", err)
	}
	w := &wan{t: t}
	for _, n := range []**netns.Namespace{&w.gateway, &w.router, &w.cloud} {
		made, err := netns.New()
		if errors.Is(err, netns.ErrNotAllowed) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = made.Close() })
		*n = made
	}
	for _, err := range []error{
		netns.Cable(w.gateway, "eth0", "10.1.0.2/24", w.router, "re", "10.1.0.1/24"),
		netns.Cable(w.gateway, "lte0", "10.2.0.2/24", w.router, "rl", "10.2.0.1/24"),
		netns.Cable(w.router, "rc", "10.3.0.1/24", w.cloud, "cloud0", "10.3.0.2/24"),
		w.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.ip(w.gateway, "route add default via 10.1.0.1 dev eth0 metric 100")
	w.ip(w.gateway, "route add default via 10.2.0.1 dev lte0 metric 200")
	w.ip(w.cloud, "route add default via 10.3.0.1")
	return w
}

func (w *wan) ip(n *netns.Namespace, args string) {
	w.t.Helper()
	err := n.Do(func() error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// swallow drops what the router gets from or has for an address of the gateway,
// without a word to either side.
func (w *wan) swallow(from, to bool, device, address string) {
	w.t.Helper()
	if from {
		w.ip(w.router, "rule add pref 10 iif "+device+" blackhole")
	}
	if to {
		w.ip(w.router, "route add blackhole "+address+"/32")
	}
}

func (w *wan) heal(from, to bool, device, address string) {
	w.t.Helper()
	if from {
		w.ip(w.router, "rule del pref 10 iif "+device)
	}
	if to {
		w.ip(w.router, "route del blackhole "+address+"/32")
	}
}

// site brings up a plant on the network.
func (w *wan) site(links string, changes ...func(*Site)) *Site {
	w.t.Helper()
	site := w.plan(links, changes...)
	if err := site.Up(w.t.Context(), wanAddresses, testPassword, w.t.Logf); err != nil {
		w.t.Fatal(err)
	}
	return site
}

// wanAddresses are where the backend listens.
var wanAddresses = Addresses{"10.3.0.2:8443", "10.3.0.2:8883", "10.3.0.2:8444"}

// plan makes a plant of which nothing runs yet.
func (w *wan) plan(links string, changes ...func(*Site)) *Site {
	w.t.Helper()
	programs, err := built()
	if err != nil {
		w.t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "penstock-site-")
	if err != nil {
		w.t.Fatal(err)
	}
	site := &Site{Dir: dir, Programs: programs, Period: 2 * time.Second, Pumps: 2, Hosts: "10.3.0.2", Links: links, InCloud: w.cloud.Do, InGateway: w.gateway.Do}
	for _, change := range changes {
		change(site)
	}
	w.t.Cleanup(func() {
		site.Abandon()
		if w.t.Failed() {
			for _, p := range []*Process{site.GatewayProc, site.CloudProc} {
				if p != nil {
					w.t.Logf("%s said last:\n%s", p.Name, p.Tail())
				}
			}
		}
		os.RemoveAll(dir)
	})
	return site
}

const ethernetOnly = "links:\n  - {name: ethernet, device: eth0}\n"

const bothLinks = "links:\n  - {name: ethernet, device: eth0}\n  - {name: modem, device: lte0, metered: true, budget: 100MB}\n"

// over waits until the session stands and goes over a link, and tells how long
// that took.
func over(t *testing.T, site *Site, link string, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(t.Context(), within, fmt.Errorf("not over %s within %v", link, within))
	defer cancel()
	if err := await(ctx, "the session to go over "+link, site.GatewayProc, func() (bool, error) {
		s, err := site.Status(ctx)
		if err != nil || s.Uplink.State != "connected" {
			return false, err
		}
		for _, l := range s.Links {
			if l.Current {
				return l.Name == link, fmt.Errorf("it goes over %s", l.Name)
			}
		}
		return false, errors.New("over none")
	}); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// noticed waits until the session has ended, or has given way to another.
func noticed(t *testing.T, site *Site, within time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var session uint64
	if err := await(ctx, "the gateway to notice", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(ctx)
		if err == nil && session == 0 {
			session = s.Uplink.Session
		}
		return err == nil && (s.Uplink.State != "connected" || s.Uplink.Session != session), err
	}); err != nil {
		t.Fatalf("not noticed within %v: %v", within, err)
	}
	t.Logf("noticed after %v", time.Since(began).Round(time.Second))
}

// recovered waits until a session stands and something new is acknowledged over it.
func recovered(t *testing.T, site *Site, within time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(t.Context(), within, fmt.Errorf("not recovered within %v", within))
	defer cancel()
	var before, session uint64
	if err := await(ctx, "an acknowledgement in a session that stands", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(ctx)
		if err != nil || s.Uplink.State != "connected" {
			return false, errors.Join(err, fmt.Errorf("it is %s; %s", s.Uplink.State, s.Uplink.LastError))
		}
		if s.Uplink.Session != session {
			session, before = s.Uplink.Session, s.Uplink.Acknowledged
		}
		return s.Uplink.Acknowledged > before, errors.New("nothing is acknowledged")
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("recovered after %v", time.Since(began).Round(time.Second))
}

// TestABlackHoleIsLeftForTheOtherLink: packets vanish without a reset, first both
// ways, or one way only.
func TestABlackHoleIsLeftForTheOtherLink(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct{ up, down bool }{
		"both ways": {true, true}, "towards the gateway": {false, true}, "from the gateway": {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			site := w.site(bothLinks)
			over(t, site, "ethernet", 10*time.Second)
			w.swallow(way.up, way.down, "re", "10.1.0.2")
			// A block is sealed every 2 s, so the first unanswered byte is that old.
			noticed(t, site, 34*time.Second)
			t.Logf("over the modem %v later", over(t, site, "modem", 90*time.Second).Round(time.Second))
			w.heal(way.up, way.down, "re", "10.1.0.2")
			t.Logf("back after %v", over(t, site, "ethernet", 100*time.Second).Round(time.Second))
			settle(t, site, 0)
		})
	}
}

// TestAPulledCableIsLeftAtOnce: carrier says it, no time-out need pass.
func TestAPulledCableIsLeftAtOnce(t *testing.T) {
	t.Parallel()
	w := newWAN(t)
	site := w.site(bothLinks)
	over(t, site, "ethernet", 10*time.Second)
	for range 3 { // a loose plug
		w.ip(w.router, "link set re down")
		if took := over(t, site, "modem", 20*time.Second); took > 15*time.Second {
			t.Errorf("over the modem after %v", took)
		}
		w.ip(w.router, "link set re up")
	}
	run(t, site, 2*time.Second)
	if err := await(t.Context(), "the modem's bytes to be counted", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(t.Context())
		if err != nil {
			return false, err
		}
		for _, l := range s.Links {
			if l.Name == "modem" {
				return l.Metered && l.Bytes > 0 && l.Budget == 100<<20, fmt.Errorf("%+v", l)
			}
		}
		return false, errors.New("no modem")
	}); err != nil {
		t.Error(err)
	}
	settle(t, site, 0)
}
