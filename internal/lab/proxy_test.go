package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// proxy stands between the gateway and the backend and relays TCP, as a firewall or
// a carrier's optimiser does: it acknowledges what it does not deliver. How it
// treats a direction of a connection is the test's choice, at any time.
type proxy struct {
	w   *wan
	far string // host of the backend

	mu     sync.Mutex
	relays []*relay       // guarded by mu
	treat  func(r *relay) // guarded by mu; does something to each new connection
	count  map[uint16]int // guarded by mu; connections by port
	more   chan struct{}  // holds one: count has grown
}

// front is where the gateway finds the backend when something stands between.
const front = "10.9.0.1"

// proxy puts one in front of the backend. It ends with the test.
func (w *wan) proxy() *proxy {
	w.t.Helper()
	w.ip(w.router, "address add "+front+"/32 dev lo")
	p := &proxy{w: w, far: "10.3.0.2", count: map[uint16]int{}, more: make(chan struct{}, 1)}
	var accepting sync.WaitGroup
	var listeners []net.Listener
	for _, port := range []uint16{8443, 8883} {
		l, err := w.router.Listen("tcp4", netip.AddrPortFrom(netip.MustParseAddr(front), port).String())
		if err != nil {
			w.t.Fatal(err)
		}
		listeners = append(listeners, l)
		accepting.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepting.Go(func() { p.relay(c.(*net.TCPConn), port) })
			}
		})
	}
	w.t.Cleanup(func() {
		for _, l := range listeners {
			l.Close()
		}
		p.cut()
		accepting.Wait()
	})
	return p
}

// page is an address at which a browser outside of the network finds the web page.
// It ends with the test.
func (w *wan) page() string {
	w.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var relaying sync.WaitGroup
	relaying.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			relaying.Go(func() {
				defer near.Close()
				far, err := w.cloud.Dial(w.t.Context(), "tcp4", "10.3.0.2:8444")
				if err != nil {
					return
				}
				defer far.Close()
				defer context.AfterFunc(w.t.Context(), func() { near.Close(); far.Close() })()
				relaying.Go(func() { _, _ = io.Copy(far, near); far.Close() })
				_, _ = io.Copy(near, far)
			})
		}
	})
	w.t.Cleanup(func() { l.Close(); relaying.Wait() })
	return l.Addr().String()
}

// behind makes a site reach its backend through a proxy or a NAT.
func behind(s *Site) { s.Hosts, s.Reached = front+",10.3.0.2", front }

// relay is one connection through the proxy.
type relay struct {
	port      uint16
	from      netip.Addr // of the gateway: it tells the link
	near, far *net.TCPConn
	up, down  *valve // from and to the gateway
}

func (p *proxy) relay(near *net.TCPConn, port uint16) {
	defer near.Close()
	c, err := p.w.router.Dial(p.w.t.Context(), "tcp4", netip.AddrPortFrom(netip.MustParseAddr(p.far), port).String())
	if err != nil {
		return
	}
	far := c.(*net.TCPConn)
	defer far.Close()
	from, _ := netip.ParseAddrPort(near.RemoteAddr().String())
	r := &relay{port: port, from: from.Addr(), near: near, far: far, up: newValve(), down: newValve()}
	p.mu.Lock()
	if p.treat != nil {
		p.treat(r)
	}
	p.relays = append(p.relays, r)
	p.count[port]++
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	var both sync.WaitGroup
	both.Go(func() { r.up.pump(far, near) })
	both.Go(func() { r.down.pump(near, far) })
	both.Wait()
}

// all does something to every connection that there is to a port.
func (p *proxy) all(port uint16, f func(r *relay)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.relays {
		if r.port == port {
			f(r)
		}
	}
}

// meet does something to every connection to come; nil for nothing.
func (p *proxy) meet(f func(r *relay)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.treat = f
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.relays {
		r.near.Close()
		r.far.Close()
		r.up.set(closed)
		r.down.set(closed)
	}
	p.relays = nil
}

// ease relays whatever is there and comes.
func (p *proxy) ease() {
	p.meet(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.relays {
		r.up.set(open)
		r.down.set(open)
	}
}

// tries is how many connections to a port there have been.
func (p *proxy) tries(port uint16) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[port]
}

// tried waits until there have been so many.
func (p *proxy) tried(port uint16, want int) {
	p.w.t.Helper()
	for late := time.After(2 * time.Minute); p.tries(port) < want; {
		select {
		case <-p.more:
		case <-late:
			p.w.t.Fatalf("%d connections to port %d, want %d", p.tries(port), port, want)
		}
	}
}

// manner is how a direction is treated.
type manner int

const (
	open     manner = iota
	stalled         // nothing is taken any more: the sender's window fills
	swallows        // what comes is taken and goes nowhere
	trickles        // a few bytes a second
	closed
)

// valve is one direction of a connection.
type valve struct {
	mu      sync.Mutex
	manner  manner        // guarded by mu
	changed chan struct{} // guarded by mu; closed when manner changes
	carried int           // guarded by mu; bytes
	heed    func()        // guarded by mu; called before each piece, nil for nothing
}

func newValve() *valve { return &valve{changed: make(chan struct{})} }

func (v *valve) set(m manner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.manner == closed {
		return
	}
	v.manner = m
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *valve) now() (manner, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.manner, v.changed
}

// heard tells that a piece has come.
func (v *valve) heard(n int) {
	v.mu.Lock()
	v.carried += n
	heed := v.heed
	v.mu.Unlock()
	if heed != nil && n > 0 {
		heed()
	}
}

func (v *valve) began() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.carried > 0
}

// deafen lets nothing reach the gateway from its second flight of the handshake
// on. Its TLS 1.3 is done with that flight and sends CONNECT.
func (r *relay) deafen() {
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	r.up.heed = func() {
		if r.down.began() {
			r.down.set(swallows)
		}
	}
}

// pump carries what comes from one side to the other until either ends.
func (v *valve) pump(to, from *net.TCPConn) {
	defer func() { _ = to.CloseWrite() }() // a half-close is passed on as such
	buf := make([]byte, 4<<10)
	drip := time.NewTicker(time.Second)
	defer drip.Stop()
	for {
		n, err := from.Read(buf)
		v.heard(n)
		rest := buf[:n]
		for len(rest) > 0 {
			m, changed := v.now()
			few := len(rest)
			switch m {
			case closed:
				return
			case stalled:
				<-changed
				continue
			case swallows:
				rest = nil
				continue
			case trickles:
				few = min(few, 3)
				select {
				case <-drip.C:
				case <-changed:
					continue
				}
			}
			if _, err := to.Write(rest[:few]); err != nil {
				_ = from.CloseRead()
				return
			}
			rest = rest[few:]
		}
		if err != nil {
			return
		}
	}
}

// TestPeersThatStallAreLeft: a connection through a box that acknowledges and does
// not deliver is no black hole for TCP. The gateway has to notice by itself.
func TestPeersThatStallAreLeft(t *testing.T) {
	t.Parallel()
	const mqtt = 8883
	for name, troubles := range map[string][]struct {
		name  string
		spoil func(r *relay)
	}{
		"acknowledgements": {
			// The endpoint stores what the gateway sends once more over the next connection.
			{"swallowed", func(r *relay) { r.down.set(swallows) }},
			{"a few bytes a second", func(r *relay) { r.up.set(trickles); r.down.set(trickles) }},
		},
		"in mid-stream": {
			{"nothing is taken", func(r *relay) { r.up.set(stalled); r.down.set(stalled) }},
			{"records swallowed", func(r *relay) { r.up.set(swallows) }},
			{"half closed towards the gateway", func(r *relay) { _ = r.near.CloseWrite() }},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			p := w.proxy()
			site := w.site(ethernetOnly, behind)
			for _, trouble := range troubles {
				t.Log(trouble.name)
				recovered(t, site, time.Minute)
				p.all(mqtt, trouble.spoil)
				// A block is sealed every 2 s, so the first unanswered byte is that old.
				noticed(t, site, 34*time.Second)
			}
			recovered(t, site, time.Minute)
			settle(t, site, 0)
		})
	}
}

// TestAPeerThatStallsWhileConnectingIsGivenUp: the handshake or CONNECT is taken
// and never answered, over one of two links.
func TestAPeerThatStallsWhileConnectingIsGivenUp(t *testing.T) {
	t.Parallel()
	ethernet := netip.MustParseAddr("10.1.0.2")
	for name, spoil := range map[string]func(r *relay){
		"in the handshake": func(r *relay) { r.down.set(swallows) },
		"after CONNECT":    func(r *relay) { r.deafen() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			p := w.proxy()
			site := w.site(bothLinks, behind)
			over(t, site, "ethernet", 10*time.Second)
			p.meet(func(r *relay) {
				if r.from == ethernet {
					spoil(r)
				}
			})
			before := p.tries(8883)
			again(t, site)
			p.tried(8883, before+3) // each is given up
			t.Logf("over the modem %v later", over(t, site, "modem", time.Minute).Round(time.Second))
			recovered(t, site, time.Minute)
			p.ease()
			t.Logf("back after %v", over(t, site, "ethernet", 100*time.Second).Round(time.Second))
			settle(t, site, 0)
		})
	}
}

// TestAFirstStartBehindAnAuthServiceThatStalls: an installer powers a new gateway
// up while the auth service takes connections and answers none. Pumps are read at
// once, it goes on trying, and all that was read arrives.
func TestAFirstStartBehindAnAuthServiceThatStalls(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(r *relay){
		"in the handshake":  func(r *relay) { r.down.set(swallows) },
		"after the request": func(r *relay) { r.deafen() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWAN(t)
			p := w.proxy()
			site := w.plan(ethernetOnly, behind)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("not within three minutes"))
			defer cancel()
			do := func(steps ...error) {
				t.Helper()
				if err := errors.Join(steps...); err != nil {
					t.Fatal(err)
				}
			}
			do(site.StartCloud(ctx, wanAddresses))
			do(site.Provision(ctx))
			do(site.StartPumps(ctx))
			p.meet(spoil)
			do(site.StartGateway(ctx))
			do(site.AwaitReadings(ctx)) // the pumps wait for no cloud
			p.tried(8443, 4)
			s, err := site.Status(ctx)
			do(err)
			t.Logf("in vain: it is %s: %s; %s", s.Uplink.State, s.Uplink.LastError, s.Identity.LastError)
			p.ease()
			recovered(t, site, 2*time.Minute)
			// Readings wait until somebody has told the gateway the time.
			if err := await(ctx, "all that waited to be delivered", site.GatewayProc, func() (bool, error) {
				s, err := site.Status(ctx)
				return err == nil && s.Uplink.State == "connected" && waiting(s.Queue) == 0, errors.Join(err, fmt.Errorf("%d records wait", waiting(s.Queue)))
			}); err != nil {
				t.Fatal(err)
			}
			settle(t, site, 0)
		})
	}
}
