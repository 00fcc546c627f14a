package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
func (w *wan) site(links string) *Site {
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
	if err := site.Up(w.t.Context(), Addresses{"10.3.0.2:8443", "10.3.0.2:8883", "10.3.0.2:8444"}, testPassword, w.t.Logf); err != nil {
		w.t.Fatal(err)
	}
	return site
}

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

// noticed waits until the session has ended.
func noticed(t *testing.T, site *Site, within time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := await(ctx, "the gateway to notice", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(ctx)
		return err == nil && s.Uplink.State != "connected", err
	}); err != nil {
		t.Fatalf("not noticed within %v: %v", within, err)
	}
	t.Logf("noticed after %v", time.Since(began).Round(time.Second))
}

// TestABlackHoleIsLeftForTheOtherLink: packets vanish without a reset, first both
// ways, later only those towards the gateway.
func TestABlackHoleIsLeftForTheOtherLink(t *testing.T) {
	t.Parallel()
	for name, both := range map[string]bool{"both ways": true, "one way": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			site := w.site(bothLinks)
			over(t, site, "ethernet", 10*time.Second)
			w.swallow(both, true, "re", "10.1.0.2")
			// A block is sealed every 2 s, so the first unanswered byte is that old.
			noticed(t, site, 34*time.Second)
			t.Logf("over the modem %v later", over(t, site, "modem", 90*time.Second).Round(time.Second))
			w.heal(both, true, "re", "10.1.0.2")
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

// TestTheCaptureOfARunHoldsNoPlaintext listens on the router's side of the
// backend from the gateway's first packet to its last.
func TestTheCaptureOfARunHoldsNoPlaintext(t *testing.T) {
	t.Parallel()
	w := newWAN(t)
	c := w.capture("rc")
	site := w.site(bothLinks)
	if out, err := site.Cloud(t.Context(), "command", Serial, "bus1-1", "access", "remote"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	run(t, site, 5*time.Second)
	settle(t, site, 0)
	packets := c.stop()
	if len(packets) < 50 {
		t.Fatalf("%d packets; the capture missed the run", len(packets))
	}
	for _, problem := range plaintext(packets) {
		t.Error(problem)
	}

	// What the capture would not find would prove nothing.
	c = w.capture("rc")
	conn, err := w.gateway.Dial(t.Context(), "udp4", "10.3.0.2:9999")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"pump":"bus1-1","speed":2900}`)); err != nil {
		t.Fatal(err)
	}
	c.await(1)
	if planted := plaintext(c.stop()); len(planted) == 0 {
		t.Error("a planted packet in plaintext went unnoticed")
	}
}

// capture gathers the packets of an interface.
type capture struct {
	t    *testing.T
	fd   int
	done chan struct{}

	mu      sync.Mutex
	packets [][]byte
	more    chan struct{}
}

func (w *wan) capture(device string) *capture {
	w.t.Helper()
	c := &capture{t: w.t, done: make(chan struct{}), more: make(chan struct{}, 1)}
	err := w.router.Do(func() error {
		const allProtocols = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, allProtocols)
		if err != nil {
			return err
		}
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		c.fd = fd
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: i.Index})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	go c.run()
	return c
}

func (c *capture) run() {
	buf := make([]byte, 1<<16)
	for {
		select {
		case <-c.done:
			_ = unix.Close(c.fd)
			c.done <- struct{}{}
			return
		default:
		}
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if err != nil {
			continue // the time-out
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Protocol != unix.ETH_P_IP>>8 { // in network order
			continue // ARP
		}
		c.mu.Lock()
		c.packets = append(c.packets, bytes.Clone(buf[:n]))
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
	}
}

// await waits until there are so many packets.
func (c *capture) await(n int) {
	c.t.Helper()
	for late := time.After(10 * time.Second); ; {
		c.mu.Lock()
		have := len(c.packets)
		c.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-c.more:
		case <-late:
			c.t.Fatal("the packet did not come")
		}
	}
}

func (c *capture) stop() [][]byte {
	c.done <- struct{}{}
	<-c.done
	return c.packets
}

// needles are words that would stand in the clear if anything did.
var needles = []string{"gw/" + Serial, "bus1-1", "MQTT\x04", "HTTP/1", "mqtts://", `"online"`, "setpoint"}

// plaintext lists what is in packets and should not be: a flow that is neither
// TLS nor DNS, DHCP or time, and words of ours.
func plaintext(packets [][]byte) (problems []string) {
	begun := map[string]bool{} // directions of connections whose first payload was looked at
	for i, p := range packets {
		if len(p) < 20 || p[0]>>4 != 4 {
			problems = append(problems, fmt.Sprintf("packet %d is not IPv4", i))
			continue
		}
		head, protocol := int(p[0]&15)*4, p[9]
		total := int(binary.BigEndian.Uint16(p[2:]))
		if total < head || total > len(p) || total < head+8 {
			problems = append(problems, fmt.Sprintf("packet %d has a length of %d", i, total))
			continue
		}
		segment := p[head:total]
		from, to := binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
		flow := fmt.Sprintf("%v:%d > %v:%d", net.IP(p[12:16]), from, net.IP(p[16:20]), to)
		var payload []byte
		switch protocol {
		case unix.IPPROTO_TCP:
			if len(segment) < 20 || len(segment) < int(segment[12]>>4)*4 {
				problems = append(problems, flow+": a broken TCP header")
				continue
			}
			payload = segment[int(segment[12]>>4)*4:]
			// The first bytes of each direction are a TLS handshake record or an alert.
			if len(payload) > 0 && !begun[flow] {
				begun[flow] = true
				if payload[0] != 22 && payload[0] != 21 || len(payload) < 3 || payload[1] != 3 {
					problems = append(problems, fmt.Sprintf("%s: %q is not TLS", flow, payload[:min(16, len(payload))]))
				}
			}
		case unix.IPPROTO_UDP:
			payload = segment[8:]
			allowed := map[uint16]bool{53: true, 67: true, 68: true, 123: true}
			if !allowed[from] && !allowed[to] {
				problems = append(problems, flow+": UDP that is neither DNS, DHCP nor time")
			}
		case unix.IPPROTO_ICMP:
		default:
			problems = append(problems, fmt.Sprintf("packet %d is of protocol %d", i, protocol))
		}
		for _, n := range needles {
			if bytes.Contains(payload, []byte(n)) {
				problems = append(problems, fmt.Sprintf("%s: %q stands in the clear", flow, n))
			}
		}
	}
	return problems
}
