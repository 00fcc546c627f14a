package lab

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nat translates addresses as a carrier's router does, packet by packet, between
// the gateway and the backend, and may forget or lose what it likes. It is a
// program at a TUN device, since no kernel need have netfilter.
//
//	gateway 10.1.0.2:p → 10.9.0.1:8883   becomes   10.8.0.1:q → 10.3.0.2:8883
type nat struct {
	t    *testing.T
	tun  *os.File
	done sync.WaitGroup

	mu      sync.Mutex
	flows   map[netip.AddrPort]uint16 // guarded by mu; the gateway's end → our port
	owners  map[uint16]netip.AddrPort // guarded by mu; and back
	next    uint16                    // guarded by mu
	rand    *rand.Rand                // guarded by mu
	up      float64                   // guarded by mu; share of the gateway's packets that is lost
	down    float64                   // guarded by mu; and of those to it
	dropped int                       // guarded by mu; of flows that nobody remembers
}

var (
	natInside  = netip.MustParseAddr(front) // where the gateway finds the backend
	natOutside = netip.MustParseAddr("10.8.0.1")
	natBackend = netip.MustParseAddr("10.3.0.2")
)

func (w *wan) nat() *nat {
	w.t.Helper()
	n := &nat{t: w.t, flows: map[netip.AddrPort]uint16{}, owners: map[uint16]netip.AddrPort{}, next: 20000, rand: rand.New(rand.NewPCG(1, 1))}
	err := w.router.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("nat0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		n.tun = os.NewFile(uintptr(fd), "nat0")
		return nil
	})
	if err != nil {
		w.t.Fatalf("a TUN device: %v", err)
	}
	w.ip(w.router, "link set nat0 up")
	w.ip(w.router, fmt.Sprintf("route add %v/32 dev nat0", natInside))
	w.ip(w.router, fmt.Sprintf("route add %v/32 dev nat0", natOutside))
	n.done.Go(n.run)
	w.t.Cleanup(func() { n.tun.Close(); n.done.Wait() })
	return n
}

func (n *nat) run() {
	buf := make([]byte, 1<<16)
	for {
		k, err := n.tun.Read(buf)
		if err != nil {
			return
		}
		if p := buf[:k]; n.translate(p) {
			_, _ = n.tun.Write(p) // a packet that is lost is lost
		}
	}
}

// forget is what happens when a table overflows or a router restarts: packets of
// flows that were are dropped, and nobody is told.
func (n *nat) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.flows)
	clear(n.owners)
	n.dropped = 0
}

func (n *nat) droppedSince() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}

func (n *nat) lose(up, down float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up, n.down = up, down
}

// translate rewrites a packet in place. false: it is to be dropped.
func (n *nat) translate(p []byte) bool {
	const source, destination, syn = 12, 16, 2
	if len(p) < 40 || p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP {
		return false
	}
	head := int(p[0]&15) * 4
	if len(p) < head+20 {
		return false
	}
	segment := p[head:]
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[source:])), binary.BigEndian.Uint16(segment))
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[destination:])), binary.BigEndian.Uint16(segment[2:]))
	n.mu.Lock()
	defer n.mu.Unlock()
	switch to.Addr() {
	case natInside:
		port, known := n.flows[from]
		if !known && segment[13]&syn == 0 {
			n.dropped++
			return false
		}
		if !known {
			port = n.next
			n.next++
			n.flows[from], n.owners[port] = port, from
		}
		if n.rand.Float64() < n.up {
			return false
		}
		rewrite(p, head, netip.AddrPortFrom(natOutside, port), netip.AddrPortFrom(natBackend, to.Port()))
	case natOutside:
		owner, known := n.owners[to.Port()]
		if !known {
			n.dropped++
			return false
		}
		if n.rand.Float64() < n.down {
			return false
		}
		rewrite(p, head, netip.AddrPortFrom(natInside, from.Port()), owner)
	default:
		return false
	}
	return true
}

// rewrite gives a TCP packet other ends, and sums that fit (RFC 1624, equation 3).
func rewrite(p []byte, head int, from, to netip.AddrPort) {
	segment := p[head:]
	var sum uint32 // of what goes, complemented, and what comes
	put := func(at []byte, with []byte) {
		for i := 0; i < len(with); i += 2 {
			sum += uint32(^binary.BigEndian.Uint16(at[i:])) + uint32(binary.BigEndian.Uint16(with[i:]))
		}
		copy(at, with)
	}
	fix := func(at []byte) {
		s := sum + uint32(^binary.BigEndian.Uint16(at))
		for s > 0xffff {
			s = s>>16 + s&0xffff
		}
		binary.BigEndian.PutUint16(at, ^uint16(s))
	}
	a, b := from.Addr().As4(), to.Addr().As4()
	put(p[12:16], a[:])
	put(p[16:20], b[:])
	fix(p[10:12])
	put(segment[0:2], binary.BigEndian.AppendUint16(nil, from.Port()))
	put(segment[2:4], binary.BigEndian.AppendUint16(nil, to.Port()))
	fix(segment[16:18]) // the pseudo-header has the addresses, too
}

// TestANATThatForgetsIsNoticed: the flow of a session that stands is dropped in
// both directions, without a reset, as by a carrier's router that has restarted.
func TestANATThatForgetsIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWAN(t)
	n := w.nat()
	site := w.site(ethernetOnly, behind)
	for range 2 {
		recovered(t, site, time.Minute)
		n.forget()
		noticed(t, site, 34*time.Second)
		if n.droppedSince() == 0 {
			t.Error("nothing was dropped; the session ended for another reason")
		}
	}
	recovered(t, site, time.Minute)
	settle(t, site, 0)
}

// TestLossInOneDirectionSlowsAndLosesNothing: a third of the packets of one
// direction is lost at random, and the other is well.
func TestLossInOneDirectionSlowsAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]struct{ up, down float64 }{"towards the gateway": {0, 0.3}, "from the gateway": {0.3, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			n := w.nat()
			site := w.site(ethernetOnly, behind)
			n.lose(lost.up, lost.down)
			for range 3 { // whether one session stands it or several are needed
				recovered(t, site, 2*time.Minute)
				run(t, site, 5*time.Second)
			}
			n.lose(0, 0)
			recovered(t, site, time.Minute)
			settle(t, site, 0)
		})
	}
}
