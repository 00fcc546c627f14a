package uplink

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is an internet in memory, so that tests play in virtual time: its
// waits are of the kind that testing/synctest sees.
type network struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	dials     []dial
	conns     []*memConn // of the client's side
	hole      bool       // nothing arrives, and nothing is reset

	spoken     int // how often a client has dialled or written
	opensAt    int // a hole opens before that time; 0: none does
	swallows   way
	unanswered time.Time // when that was
}

// way is a direction in which a hole swallows.
type way int

const (
	bothWays way = iota
	there        // what the client sends
	back         // what it would get
)

// speaks counts what a client sends, and opens the hole where it is due.
func (n *network) speaks() {
	n.mu.Lock()
	n.spoken++
	opens := n.spoken == n.opensAt
	if opens {
		n.unanswered = time.Now()
	}
	n.mu.Unlock()
	if opens {
		n.swallow(n.swallows, true)
	}
}

type dial struct {
	at      time.Time
	address string
}

func newNetwork() *network { return &network{listeners: map[string]*memListener{}} }

func (n *network) Listen(address string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &memListener{n: n, address: address, backlog: make(chan net.Conn, 16), closed: make(chan struct{})}
	n.listeners[address] = l
	return l
}

func (n *network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.speaks()
	n.mu.Lock()
	n.dials = append(n.dials, dial{time.Now(), address})
	l := n.listeners[address]
	client, server := pipe()
	client.speaks = n.speaks
	n.conns = append(n.conns, client)
	hole := n.hole
	n.mu.Unlock()
	if hole { // the SYN is never answered
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	select {
	case l.backlog <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// blackHole swallows what is sent on connections from now on; nothing is reset.
func (n *network) blackHole(on bool) { n.swallow(bothWays, on) }

func (n *network) swallow(w way, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hole = on
	for _, c := range n.conns {
		if w != back {
			c.out.set(on)
		}
		if w != there {
			c.in.set(on)
		}
	}
}

func (n *network) dialled() []dial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]dial(nil), n.dials...)
}

type memListener struct {
	n       *network
	address string
	backlog chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.address] == l {
			delete(l.n.listeners, l.address)
		}
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.address) }

type memAddr string

func (a memAddr) Network() string { return "tcp" }
func (a memAddr) String() string  { return string(a) }

// half carries bytes one way, through a buffer as large as a kernel's.
type half struct {
	mu     sync.Mutex
	cond   *sync.Cond
	buf    []byte
	eof    bool // the writer closed
	closed bool // the reader closed
	hole   bool
	read   time.Time // deadline
	write  time.Time
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) set(hole bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hole = hole
	h.cond.Broadcast()
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closed:
			return 0, net.ErrClosed
		case past(h.read):
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0 && !h.hole:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.eof && !h.hole:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) Write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		switch {
		case h.eof:
			return n, net.ErrClosed
		case h.closed && !h.hole:
			return n, syscall.ECONNRESET
		case past(h.write):
			return n, os.ErrDeadlineExceeded
		}
		room := 64<<10 - len(h.buf)
		if room <= 0 {
			h.cond.Wait()
			continue
		}
		m := min(room, len(p))
		h.buf = append(h.buf, p[:m]...)
		p, n = p[m:], n+m
		h.cond.Broadcast()
	}
	return n, nil
}

func (h *half) end(flag *bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*flag = true
	h.cond.Broadcast()
}

func (h *half) deadline(which *time.Time, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*which = t
	h.cond.Broadcast()
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), h.cond.Broadcast)
	}
}

type memConn struct {
	in, out *half
	speaks  func() // nil on the server's side
}

func pipe() (a, b *memConn) {
	x, y := newHalf(), newHalf()
	return &memConn{in: x, out: y}, &memConn{in: y, out: x}
}

func (c *memConn) Read(p []byte) (int, error) { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error) {
	if c.speaks != nil {
		c.speaks()
	}
	return c.out.Write(p)
}
func (c *memConn) Close() error {
	c.in.end(&c.in.closed)
	c.out.end(&c.out.eof)
	return nil
}
func (c *memConn) LocalAddr() net.Addr  { return memAddr("here") }
func (c *memConn) RemoteAddr() net.Addr { return memAddr("there") }
func (c *memConn) SetDeadline(t time.Time) error {
	c.in.deadline(&c.in.read, t)
	c.out.deadline(&c.out.write, t)
	return nil
}
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.deadline(&c.in.read, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.deadline(&c.out.write, t); return nil }
