// Package local is the gateway's only door: a Unix socket for people who stand
// beside it.
//
// It speaks HTTP with JSON, because that needs no explanation, over a socket
// that the kernel guards by file permission (0660). There is no network
// listener in the firmware, ever.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"penstock/internal/status"
)

// DefaultSocket is where the firmware listens unless it is told otherwise.
const DefaultSocket = "/run/penstock/penstock.sock"

// ErrNotRunning: nobody listens at the socket.
var ErrNotRunning = errors.New("no gateway is running here")

// Serve answers at the socket until ctx ends. A socket left behind by a
// gateway that died is replaced; one that answers is not.
func Serve(ctx context.Context, path string, snapshot func() status.Snapshot, log *slog.Logger) error {
	l, err := listen(path)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(snapshot()); err != nil {
			log.Debug("local socket: the caller went away", "err", err)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local socket %s: %w", path, err)
	}
	return nil
}

func listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("local socket %s: another gateway is running on this state; stop it first", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("local socket: %w", err), l.Close())
	}
	return l, nil
}

// Status asks the gateway that listens at path.
func Status(ctx context.Context, path string) (status.Snapshot, error) {
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://penstock/v1/status", nil)
	if err != nil {
		return status.Snapshot{}, err
	}
	res, err := client.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		if errors.Is(err, fs.ErrPermission) {
			return status.Snapshot{}, fmt.Errorf("%s: permission denied; ask as root or a member of its group", path)
		}
		return status.Snapshot{}, fmt.Errorf("%w (socket %s)", ErrNotRunning, path)
	}
	if err != nil {
		return status.Snapshot{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return status.Snapshot{}, fmt.Errorf("%s answered %s", path, res.Status)
	}
	var s status.Snapshot
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		return status.Snapshot{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
