package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a child with its output in a file. It dies with its parent.
type Process struct {
	Name string
	Log  string // file that its output goes to
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, valid once done is closed
}

// Start runs a program whose output is appended to the file log.
func Start(name, log string, argv ...string) (*Process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	// Pdeathsig would tie the child to one thread of ours; a process group of
	// its own keeps the terminal's Ctrl-C for us, who then end it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends it at once, as a power cut would, and waits for its end.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks it to end and waits; past the context it is killed, which is an
// error.
func (p *Process) Stop(ctx context.Context) error {
	p.terminate()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s did not stop in time; its output is in %s", p.Name, p.Log)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return fmt.Errorf("%s: %w; its last words:\n%s", p.Name, p.err, p.Tail())
	}
	return p.err
}

// terminate asks it to end.
func (p *Process) terminate() { p.signal(syscall.SIGTERM) }

func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its id may belong to another by now
	default:
		_ = p.cmd.Process.Signal(s) // it may end this very moment
	}
}

// Tail is the end of its output.
func (p *Process) Tail() string {
	f, err := os.Open(p.Log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 2000
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// await polls until check is satisfied, ctx ends or p (if any) dies.
func await(ctx context.Context, what string, p *Process, check func() (bool, error)) error {
	ended := make(<-chan struct{})
	if p != nil {
		ended = p.Done()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := check()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("waiting for %s: %s ended; its last words:\n%s", what, p.Name, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
	}
}
