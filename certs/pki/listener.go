package pki

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Limits keep a listener standing when somebody leans on it.
type Limits struct {
	Handshake time.Duration // that a peer may take to prove who it is
	Conns     int           // at a time, those in their handshake included; more wait in the kernel
	PerSecond int           // handshakes that are begun, after as many at once; 0: any number
	// PerAddress is how many connections one address may have that no certificate
	// names: in their handshake, and on a listener for browsers all of them. An
	// address is an IPv4 address or an IPv6 network of 64 bits. 0: any number.
	PerAddress int
	// PerCertificate is how many connections one certificate may have; the oldest is
	// closed for one more. 0: any number.
	PerCertificate int
	// Stall is how long a peer may take nothing of what is written to it; 0: for ever.
	Stall time.Duration
}

// DefaultLimits suit a small machine: a handshake with certificates on both sides
// costs it about a millisecond, so a flood takes half of a core and no more.
// Nobody who has not said who he is has more than a quarter of the places.
var DefaultLimits = Limits{Handshake: 10 * time.Second, Conns: 4096, PerSecond: 500,
	PerAddress: 1024, PerCertificate: 16, Stall: 30 * time.Second}

// Listener hands out connections whose handshake is done: nothing of a peer that
// was refused, or is slow to say who it is, reaches the server behind it.
type Listener struct {
	inner   net.Listener
	config  *tls.Config
	limits  Limits
	refused func(from net.Addr, err error)

	ready  chan *tls.Conn
	all    chan struct{} // holds an item for each open connection
	places *places
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup
	fail   error // of inner; written before ready is closed
}

// Secure makes a Listener of a plain one, which it owns from then on. The
// configuration is one of ForGateways or ForBrowsers. Each peer that does not get
// in is told to refused, from any goroutine; Explain puts the error in words.
func Secure(inner net.Listener, config *tls.Config, limits Limits, refused func(from net.Addr, err error)) *Listener {
	l := &Listener{inner: inner, config: config, limits: limits, refused: refused,
		ready: make(chan *tls.Conn), all: make(chan struct{}, limits.Conns), places: newPlaces(limits)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	go l.run()
	return l
}

// run accepts until the inner listener ends, then waits for the handshakes.
func (l *Listener) run() {
	pace := pace{perSecond: float64(l.limits.PerSecond), tokens: float64(l.limits.PerSecond), last: l.config.Time()}
	for {
		select {
		case l.all <- struct{}{}:
		case <-l.ctx.Done():
		}
		raw, err := l.inner.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() && l.ctx.Err() == nil { // too many open files, say
				<-l.all
				l.refused(l.inner.Addr(), err)
				l.wait(100 * time.Millisecond)
				continue
			}
			l.fail = err
			break
		}
		if ok, tell := l.places.enter(raw.RemoteAddr()); !ok {
			<-l.all
			if tell {
				l.refused(raw.RemoteAddr(), errCrowd)
			}
			raw.Close()
			continue
		}
		if l.limits.PerSecond > 0 {
			l.wait(pace.take(l.config.Time()))
		}
		l.work.Go(func() { l.admit(&placed{Conn: raw, all: l.all, places: l.places}) })
	}
	l.stop()
	l.work.Wait()
	close(l.ready)
}

// wait waits that long, or until the listener is closed.
func (l *Listener) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, d)
	defer cancel()
	<-ctx.Done()
}

// pace is a bucket of tokens, one for each handshake. Whoever comes when it is empty
// waits in the kernel's queue: nobody is refused for somebody else's flood.
type pace struct {
	perSecond, tokens float64
	last              time.Time
}

// take takes a token, and returns how long to wait before it is used.
func (p *pace) take(now time.Time) time.Duration {
	// A clock that was set does not count: at most a second passes between two looks.
	passed := min(max(now.Sub(p.last), 0), time.Second)
	p.last = now
	p.tokens = min(p.tokens+passed.Seconds()*p.perSecond, p.perSecond) - 1
	if p.tokens >= 0 {
		return 0
	}
	return time.Duration(-p.tokens / p.perSecond * float64(time.Second))
}

func (l *Listener) admit(raw *placed) {
	c := tls.Server(raw, l.config)
	ctx, cancel := context.WithTimeout(l.ctx, l.limits.Handshake)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		if l.ctx.Err() == nil {
			l.refused(raw.RemoteAddr(), err)
		}
		l.letRead(raw)
		return
	}
	l.places.identify(raw, c.ConnectionState())
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		c.Close()
	}
}

// letRead closes a refused connection once the peer has had a moment to read the
// alert that says why. A peer that has written already would otherwise get a
// reset: the kernel sends one when data is unread, and it overtakes the alert.
func (l *Listener) letRead(raw *placed) {
	defer raw.Close()
	half, ok := raw.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	_, _ = io.CopyN(io.Discard, raw, 64<<10)
}

// Accept returns the next connection that has proved who it is, a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, ok := <-l.ready
	if !ok {
		return nil, l.fail
	}
	return c, nil
}

// Close stops listening and ends the handshakes under way; it leaves connections
// that were handed out alone.
func (l *Listener) Close() error {
	l.stop()
	err := l.inner.Close()
	l.work.Wait()
	return err
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// placed gives its places back when it is closed.
type placed struct {
	net.Conn
	all    <-chan struct{}
	places *places
	once   sync.Once

	// Guarded by places.mu.
	left        bool              // it is closed
	named       bool              // it counts against its certificate, not its address
	certificate [sha256.Size]byte // hash of that certificate
}

func (p *placed) Close() error {
	p.once.Do(func() {
		p.places.leave(p)
		<-p.all
	})
	return p.Conn.Close()
}
