package wire_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"penstock/fieldbus/pumpsim/wire"
	"penstock/internal/clock"
)

// oneWord is a far end that sends a word once somebody has the port open, and is
// idle from then on.
type oneWord struct {
	word []byte
	sent chan struct{}
}

func (f *oneWord) Hear([]byte, time.Time, int) {}
func (f *oneWord) Due(_ time.Time, send func([]byte) time.Time) time.Duration {
	if f.word != nil {
		send(f.word)
		f.word = nil
		close(f.sent)
	}
	return 0
}
func (f *oneWord) Next() time.Time { return time.Time{} }
func (f *oneWord) Idle() bool      { return f.word == nil }

// TestAPortIsNotClosedOverUnreadBytes: what a pump has sent is in the log as
// sent, so a line that stops waits until its master has read it.
func TestAPortIsNotClosedOverUnreadBytes(t *testing.T) {
	p, err := wire.Open("", clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(p.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	ctx, cancel := context.WithCancel(t.Context())
	far := &oneWord{word: []byte("water"), sent: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, far) }()
	<-far.sent
	cancel()
	select {
	case err := <-served:
		t.Fatalf("the line ended with bytes unread: %v", err)
	case <-time.After(100 * time.Millisecond): // a faulty line would have ended at once
	}
	got := make([]byte, 5)
	n, err := near.Read(got)
	if err != nil || !bytes.Equal(got[:n], []byte("water")) {
		t.Errorf("read %q, %v", got[:n], err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	p.Close()
}
