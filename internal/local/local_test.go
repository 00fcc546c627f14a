package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"penstock/internal/local"
	"penstock/internal/status"
)

// gateway has one pump, which takes a set-point and nothing else.
type gateway struct{}

func (gateway) Snapshot() status.Snapshot { return status.Snapshot{Version: "1.2.3"} }
func (gateway) Command(_ context.Context, pump, name, value string) (string, error) {
	if pump != "bus1-1" || name != "setpoint" {
		return "", fmt.Errorf("refused: %s has no %s", pump, name)
	}
	return value + " %", nil
}

func TestACommandThroughTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.sock")
	if _, err := local.Command(t.Context(), path, "bus1-1", "setpoint", "55"); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("without a gateway: %v", err)
	}
	stop := serve(t, path)
	if text, err := local.Command(t.Context(), path, "bus1-1", "setpoint", "55"); err != nil || text != "55 %" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := local.Command(t.Context(), path, "bus1-1", "fly", ""); err == nil || err.Error() != "refused: bus1-1 has no fly" {
		t.Errorf("a refusal comes back as %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func serve(t *testing.T, path string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- local.Serve(ctx, path, gateway{}, slog.New(slog.DiscardHandler))
	}()
	for {
		if _, err := local.Status(t.Context(), path); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("Serve: %v", err)
		default:
		}
	}
	return func() error { cancel(); return <-ended }
}

func TestStatusThroughTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "p.sock")
	if _, err := local.Status(t.Context(), path); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("without a gateway: %v, want ErrNotRunning", err)
	}
	stop := serve(t, path)
	s, err := local.Status(t.Context(), path)
	if err != nil || s.Version != "1.2.3" {
		t.Errorf("got %+v, %v", s, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", fi.Mode(), err)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve after its context ended: %v", err)
	}
}

func TestASecondGatewayIsRefusedAndADeadOnesSocketReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.sock")
	// What a killed gateway leaves behind: a socket file that nobody serves.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	stop := serve(t, path)
	err = local.Serve(t.Context(), path, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "another gateway is running") {
		t.Errorf("a second Serve: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
