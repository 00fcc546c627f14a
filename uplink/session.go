package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"penstock/uplink/link"

	"penstock/internal/disk"
)

// Session keeps the gateway connected to its endpoint and publishes the queue.
// Run owns it; the other methods may be called from any goroutine.
type Session struct {
	cfg      Config
	director *director // owned by Run
	numbers  *numbers  // owned by Run
	pacer    *pacer    // owned by Run
	wary     *pacer    // owned by Run: of an endpoint that breaks the protocol
	path     link.Path // owned by Run: the link of this attempt
	good     bool      // owned by Run: something was acknowledged in this attempt
	// connect makes one connection and returns why it ended: connection.
	connect func(ctx context.Context, endpoint string) error

	mu     sync.Mutex
	status Status          // guarded by mu
	drains []chan struct{} // guarded by mu; closed when the queue is found empty
	unread string          // owned by Run: the problem with reading the queue that was logged

	poke  chan struct{} // holds one: look at the queue again
	again chan struct{} // holds one: connect anew
}

// NewSession checks the configuration and reads the cached assignment. It does
// not connect.
func NewSession(cfg Config) (*Session, error) {
	if cfg.Links == nil {
		cfg.Links = usualWay{}
	}
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 10 * time.Second
	}
	if cfg.Backoff == (Backoff{}) {
		cfg.Backoff = DefaultBackoff
	}
	if cfg.Serial == "" || cfg.Queue == nil || cfg.TLS == nil || cfg.FS == nil || cfg.State == nil || cfg.Clock == nil || cfg.Rand == nil || cfg.Log == nil {
		return nil, errors.New("uplink: the configuration of a session is not complete")
	}
	if cfg.KeepAlive%time.Second != 0 || cfg.KeepAlive < 0 || cfg.KeepAlive > 18*time.Hour {
		return nil, fmt.Errorf("uplink: a keepalive of %v; MQTT counts it in whole seconds up to 18 h", cfg.KeepAlive)
	}
	if err := disk.MkdirAll(cfg.FS, cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("uplink: the folder of the assignment and the session number: %w", err)
	}
	s := &Session{cfg: cfg}
	auth, err := NewAuthClient(cfg.AuthURL, cfg.TLS, func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.path.Dial(ctx, network, address)
	}, cfg.Clock)
	if err != nil {
		return nil, err
	}
	*s = Session{
		cfg:      cfg,
		director: newDirector(auth, cfg.FS, cfg.Dir, cfg.Log),
		numbers:  newNumbers(cfg.FS, cfg.Dir, cfg.Log),
		pacer:    newPacer(cfg.Backoff, cfg.Rand),
		wary:     newPacer(cfg.Backoff, cfg.Rand),
		status:   Status{State: Stopped, Since: cfg.Clock.Now()},
		poke:     make(chan struct{}, 1),
		again:    make(chan struct{}, 1),
	}
	s.connect = s.connection
	return s, nil
}

// Run keeps a connection up until ctx ends, which is the only way it returns.
// Ending leaves politely: what is in flight gets a moment to be acknowledged.
func (s *Session) Run(ctx context.Context) error {
	clk := s.cfg.Clock
	defer s.set(func(st *Status) { st.State, st.InFlight = Stopped, 0 })
	delay := time.Duration(s.cfg.Rand() * float64(s.cfg.Spread))
	said := "" // the last problem that was logged
	for {
		s.set(func(st *Status) { st.State, st.Next = Waiting, clk.Now().Add(delay) })
		if err := s.pause(ctx, delay); err != nil {
			return err
		}
		began := clk.Now()
		err := s.attempt(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if left(err) {
			delay = 0 // another link or certificate is there, and waits for us
			s.set(func(st *Status) { st.InFlight = 0 })
			continue
		}
		now := clk.Now()
		select {
		case <-s.path.Left(): // another link is up, and has done nothing to be waited for
			s.pacer.reset()
		default:
		}
		if s.good && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
			s.pacer.herd()
		}
		delay = s.pacer.next(s.director.refused)
		var broken *violation
		switch {
		case errors.As(err, &broken):
			// Whatever it acknowledged before: that must not bring us back at once.
			delay = max(delay, s.wary.next(true))
		case s.good && now.Sub(began) >= trustedAfter:
			s.wary.reset()
		}
		var wait *waitError
		if errors.As(err, &wait) {
			delay += max(wait.until.Sub(now), 0)
		}
		s.set(func(st *Status) { st.LastError, st.LastErrorAt, st.InFlight = err.Error(), now, 0 })
		if s.cfg.Failed != nil {
			s.cfg.Failed(err)
		}
		level := slog.LevelDebug // the same trouble again
		if text := err.Error(); text != said {
			level, said = slog.LevelWarn, text
		}
		s.cfg.Log.Log(ctx, level, "not connected", "err", err, "retry_in", delay.Round(time.Millisecond))
	}
}

// Reconnect leaves the connection there is, politely, and makes another at once:
// there is a new certificate. A wait for the next attempt ends.
func (s *Session) Reconnect() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// pause waits before the next attempt, unless Reconnect wants it at once.
func (s *Session) pause(ctx context.Context, d time.Duration) error {
	sleep, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-s.again:
			cancel()
		case <-sleep.Done():
		}
	}()
	early := s.cfg.Clock.Sleep(sleep, d) != nil && ctx.Err() == nil
	cancel()
	<-watched
	if early {
		s.pacer.reset()
	}
	return ctx.Err()
}

// left tells whether a connection was ended by ourselves, for a better one.
func left(err error) bool { return errors.Is(err, errMoved) || errors.Is(err, errAgain) }

// attempt makes one connection and returns why it ended.
func (s *Session) attempt(ctx context.Context) error {
	now := s.cfg.Clock.Now()
	select {
	case <-s.again: // what there is now is asked for below
	default:
	}
	s.path, s.good = s.cfg.Links.Next(), false
	s.set(func(st *Status) { st.Link = s.path.Name() })
	if s.director.wantsToAsk(now) {
		s.set(func(st *Status) { st.State = Assigning })
	}
	endpoint, err := s.director.next(ctx, now)
	if err != nil {
		s.judge(ctx, err)
		return err
	}
	s.set(func(st *Status) { st.State, st.Endpoint = Connecting, endpoint })
	err = s.connect(ctx, endpoint)
	if ctx.Err() == nil && !left(err) {
		s.director.failed(s.cfg.Clock.Now(), err)
		s.judge(ctx, err)
	}
	return err
}

// judge takes a failure to the link's account, unless it shows that the link is
// good: a service that refuses us has answered, and one that has asked to be left
// alone was not asked.
func (s *Session) judge(ctx context.Context, err error) {
	var wait *waitError
	var problem *Problem
	if ctx.Err() == nil && identityRefused(err) {
		s.outcome(err)
	}
	switch {
	case ctx.Err() != nil || errors.As(err, &wait):
	case refusedByPeer(err) || errors.As(err, &problem):
		s.path.Answered()
	default:
		s.path.Failed(err)
	}
}

// outcome tells what became of our certificate.
func (s *Session) outcome(err error) {
	if s.cfg.Outcome != nil {
		s.cfg.Outcome(err)
	}
}

// unreadable says once that the queue cannot be read.
func (s *Session) unreadable(err error) {
	if text := err.Error(); text != s.unread {
		s.unread = text
		s.cfg.Log.Error("the queue cannot be read; trying again", "err", err)
	}
}

// proven notes that the connection is a good one: the next failure is a new one.
func (s *Session) proven() {
	s.good = true
	s.director.succeeded()
	s.pacer.reset()
	s.path.Answered()
}

// Drain waits until everything that was in the queue when it was called, or came
// since, is acknowledged. It needs Run to be running.
func (s *Session) Drain(ctx context.Context) error {
	done := make(chan struct{})
	s.mu.Lock()
	s.drains = append(s.drains, done)
	s.mu.Unlock()
	s.look()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		st := s.Status()
		return fmt.Errorf("draining the queue: %w; the session is %s, last error: %s", context.Cause(ctx), st.State, st.LastError)
	}
}

// takeDrains takes the waiters over; those of a queue that is not empty are put
// back.
func (s *Session) takeDrains() []chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drains
	s.drains = nil
	return d
}

func (s *Session) putDrains(d []chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains = append(s.drains, d...)
}

// look makes the session look at the queue again.
func (s *Session) look() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Status tells how the session is.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// set changes the status, and notes since when.
func (s *Session) set(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.State
	change(&s.status)
	if s.status.State != before {
		s.status.Since = s.cfg.Clock.Now()
	}
}
