package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"penstock/internal/clock"
)

// Far is what sits at the far end of a port. Serve calls it from one goroutine.
type Far interface {
	// Hear takes bytes that the near end wrote, when that was, and the speed
	// that it had set.
	Hear(b []byte, at time.Time, speed int)
	// Due does what is due at now. It calls send for bytes that are to be at the
	// near end now; send returns when they were. unplug asks for the port to
	// vanish for a time.
	Due(now time.Time, send func(b []byte) time.Time) (unplug time.Duration)
	// Next is when Due is to be called again; zero for not before Hear.
	Next() time.Time
	// Idle tells that nothing is due any more but what waits for Hear.
	Idle() bool
}

// Port is a serial port whose near end other programs open. Path may be called
// from any goroutine; the rest belongs to one.
type Port struct {
	link string
	clk  clock.Clock
	log  *slog.Logger

	mu   sync.Mutex
	path string // the near end itself

	pty  *pty      // nil while unplugged
	sent time.Time // when bytes were sent last
}

// Open makes a port. link, if not empty, is a symbolic link by which it can be
// opened under a name of its own.
func Open(linkPath string, clk clock.Clock, log *slog.Logger) (*Port, error) {
	p := &Port{link: linkPath, clk: clk, log: log}
	if err := p.plug(); err != nil {
		return nil, err
	}
	return p, nil
}

// Path is the name to open.
func (p *Port) Path() string {
	if p.link != "" {
		return p.link
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path
}

func (p *Port) plug() error {
	t, err := openPTY()
	if err != nil {
		return err
	}
	if p.link != "" {
		if err := link(t.path, p.link); err != nil {
			t.close()
			return fmt.Errorf("naming the serial port: %w", err)
		}
	}
	p.mu.Lock()
	p.path = t.path
	p.mu.Unlock()
	p.pty = t
	return nil
}

func (p *Port) unplug() {
	if p.pty == nil {
		return
	}
	if p.link != "" {
		unlink(p.pty.path, p.link)
	}
	p.pty.close()
	p.pty = nil
}

// Close removes the port. It is not to be called while Serve runs.
func (p *Port) Close() { p.unplug() }

// grace is how long Serve goes on after its context has ended, so that an
// answer on its way arrives whole and is read: closing the terminal would throw
// away what is in its buffer.
const grace = time.Second

// settle is how long the kernel, on a busy machine, may take to carry bytes to the near end: until
// then they are in no count of what is unread.
const settle = 200 * time.Millisecond

// Serve joins far to the port until ctx ends. The port stays open.
func (p *Port) Serve(ctx context.Context, far Far) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("serving a serial port: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		// The thread is given up at the end, with what was changed about it.
		runtime.LockOSThread()
		tuneThread()
		done <- p.loop(ctx, far, wake)
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		// A full counter would be the only error, and it wakes as well.
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		err = <-done
	}
	unix.Close(wake)
	return err
}

// tuneThread makes this thread's waits end on time. Each part may be refused,
// which costs precision and shows in the lateness that is measured.
func tuneThread() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
}

func (p *Port) loop(ctx context.Context, far Far, wake int) error {
	var (
		buf     [4096]byte
		plugIn  time.Time // while unplugged: when to come back
		stopped time.Time // since when ctx has ended
	)
	for {
		now := p.clk.Now()
		if p.pty == nil && !now.Before(plugIn) {
			if err := p.plug(); err != nil {
				return err
			}
			p.log.Info("serial port plugged in", "port", p.Path())
		}
		if away := far.Due(now, p.send); away > 0 && p.pty != nil {
			p.log.Info("serial port unplugged", "port", p.Path(), "for", away)
			p.unplug()
			plugIn = p.clk.Now().Add(away)
		}
		if ctx.Err() != nil {
			if stopped.IsZero() {
				stopped = now
			}
			if far.Idle() && now.Sub(p.sent) > settle && p.pty.allRead() || now.Sub(stopped) > grace {
				return nil
			}
		}
		next := far.Next()
		if p.pty == nil && (next.IsZero() || plugIn.Before(next)) {
			next = plugIn
		}
		if !stopped.IsZero() {
			next = earlier(next, stopped.Add(grace))
			if far.Idle() {
				next = earlier(next, now.Add(time.Millisecond)) // nothing tells when it is read
			}
		}
		ready, err := p.wait(next, wake, stopped.IsZero())
		if err != nil {
			return err
		}
		if ready&userReady != 0 {
			opened, closed := p.pty.usersChanged()
			if opened || closed {
				p.log.Debug("serial port", "port", p.Path(), "opened", opened, "closed", closed)
			}
		}
		if ready&byteReady == 0 {
			continue
		}
		n, err := unix.Read(p.pty.far, buf[:])
		switch at := p.clk.Now(); {
		case n > 0 && stopped.IsZero():
			speed, err := p.pty.speed()
			if err != nil {
				return fmt.Errorf("reading the speed of %s: %w", p.Path(), err)
			}
			far.Hear(buf[:n], at, speed)
		case n > 0, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("reading from %s: %w", p.Path(), err)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// What wait has found.
const (
	byteReady = 1 << iota
	userReady
)

// wait sleeps until next, or until there is something to read. A zero next has
// no end.
func (p *Port) wait(next time.Time, wake int, wakeable bool) (ready int, err error) {
	var fds [3]unix.PollFd
	n, byteAt, userAt := 0, -1, -1
	add := func(fd int) int {
		fds[n] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n++
		return n - 1
	}
	if wakeable {
		add(wake)
	}
	if p.pty != nil {
		byteAt = add(p.pty.far)
		if p.pty.watch >= 0 {
			userAt = add(p.pty.watch)
		}
	}
	var timeout *unix.Timespec
	if !next.IsZero() {
		t := unix.NsecToTimespec(max(0, next.Sub(p.clk.Now())).Nanoseconds())
		timeout = &t
	}
	if _, err := unix.Ppoll(fds[:n], timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, fmt.Errorf("waiting on %s: %w", p.Path(), err)
	}
	if byteAt >= 0 && fds[byteAt].Revents != 0 {
		ready |= byteReady
	}
	if userAt >= 0 && fds[userAt].Revents != 0 {
		ready |= userReady
	}
	return ready, nil
}

// send hands bytes to the near end. What does not fit into its buffer is lost,
// as in a UART that nobody reads.
func (p *Port) send(b []byte) time.Time {
	if p.pty != nil && len(b) > 0 {
		// An error here means that nobody reads; the master finds out by itself.
		_, _ = unix.Write(p.pty.far, b)
		p.sent = p.clk.Now()
		return p.sent
	}
	return p.clk.Now()
}
