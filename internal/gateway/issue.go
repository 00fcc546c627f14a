package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"penstock/certs/pki"
)

// ErrNoAnswer: the authority did not answer in time.
var ErrNoAnswer = errors.New("gave no answer")

// IssueBy asks the authority by a command of the shell, which gets the record on
// its standard input and answers on its standard output. What it says on standard
// error goes to stderr as it comes, since it may be asking for a password. It is
// ended when it takes longer than patience.
func IssueBy(command string, patience time.Duration, stderr io.Writer) Issue {
	return func(ctx context.Context, record []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var answer bounded
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(record), &answer, stderr
		// Not in a process group of its own: ssh asks for a passphrase at the terminal.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 2 * time.Second // then its pipes are closed, whoever still holds them
		err := cmd.Run()
		var exit *exec.ExitError
		switch {
		case answer.over:
			return nil, fmt.Errorf("%q answered more than %d bytes, which is no bundle", command, pki.MaxBundle)
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, fmt.Errorf("%q %w in %v", command, ErrNoAnswer, patience)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &exit):
			return nil, fmt.Errorf("%q failed: %w", command, err)
		case err != nil:
			return nil, fmt.Errorf("running %q: %w", command, err)
		}
		return answer.text, nil
	}
}

// bounded keeps what is written to it, up to the size of a bundle.
type bounded struct {
	text []byte
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || len(b.text)+len(p) > pki.MaxBundle; b.over {
		return 0, io.ErrShortWrite
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// lock keeps a second run out of a folder or file until it is freed; the kernel
// frees it when the process dies.
func lock(name string) (free func(), err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is being provisioned by another process: %w", name, err)
	}
	return func() { f.Close() }, nil
}
