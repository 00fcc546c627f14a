package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
