package uplink

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"testing"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// TestSessionNumbersGrowOverRestarts: the end of an old session must not mark the
// new one offline, so a number is never used twice, also when the state folder was
// not there at first.
func TestSessionNumbersGrowOverRestarts(t *testing.T) {
	cfg := Config{
		Serial: "GW-0001", AuthURL: "https://auth.example", Queue: &fakeQueue{}, FS: disk.OS, Dir: filepath.Join(t.TempDir(), "state"),
		TLS:   func(string) *tls.Config { return nil },
		State: func(uint64, bool) []byte { return nil },
		Clock: clock.System, Rand: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	}
	last := uint64(0)
	for range 3 {
		s, err := NewSession(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n := s.numbers.next()
			if n <= last {
				t.Fatalf("session number %d after %d", n, last)
			}
			last = n
		}
	}
}
