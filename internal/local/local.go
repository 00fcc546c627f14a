// Package local is the gateway's only door: a Unix socket for people who stand
// beside it.
//
// It speaks HTTP with JSON, because that needs no explanation, over a socket
// that the kernel guards by file permission (0660). There is no network
// listener in the firmware, ever.
package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Gateway is whom the door belongs to. Its methods may be called from any
// goroutine.
type Gateway interface {
	Snapshot() status.Snapshot
	// Command asks for a change on a pump and returns, in words, what the pump
	// shows once it has followed. The error says what became of it otherwise.
	Command(ctx context.Context, pump, name, value string) (string, error)
}

// commandTime bounds a command: the slowest pump has followed by then, or will not.
const commandTime = 30 * time.Second

// command is the body of POST /v1/command, answer or problem what comes back.
type command struct {
	Pump  string `json:"pump"`
	Name  string `json:"command"`
	Value string `json:"value,omitempty"`
}

type answer struct {
	Text string `json:"text"`
}

type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Serve answers at the socket until ctx ends. A socket left behind by a
// gateway that died is replaced; one that answers is not.
func Serve(ctx context.Context, path string, gateway Gateway, log *slog.Logger) error {
	l, err := listen(path)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(gateway.Snapshot()); err != nil {
			log.Debug("local socket: the caller went away", "err", err)
		}
	})
	mux.HandleFunc("POST /v1/command", func(w http.ResponseWriter, r *http.Request) {
		// Setting a deadline can fail only on a connection that is gone.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(commandTime + 5*time.Second))
		ctx, cancel := context.WithTimeout(r.Context(), commandTime)
		defer cancel()
		w.Header().Set("Content-Type", "application/json")
		var reply any
		var c command
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&c); err != nil {
			reply = problem{http.StatusText(http.StatusBadRequest), http.StatusBadRequest, "the body is not the JSON of a command: " + err.Error()}
		} else if text, err := gateway.Command(ctx, c.Pump, c.Name, c.Value); err != nil {
			reply = problem{http.StatusText(http.StatusConflict), http.StatusConflict, err.Error()}
		} else {
			reply = answer{text}
		}
		if p, ok := reply.(problem); ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(p.Status)
		}
		if err := json.NewEncoder(w).Encode(reply); err != nil {
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
func Status(ctx context.Context, path string) (s status.Snapshot, err error) {
	err = ask(ctx, path, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Command asks the gateway that listens at path for a change on one of its pumps,
// and returns what the pump then shows.
func Command(ctx context.Context, path, pump, name, value string) (string, error) {
	var a answer
	err := ask(ctx, path, http.MethodPost, "/v1/command", command{pump, name, value}, &a)
	return a.Text, err
}

// ask sends a question, if there is one, and reads the answer.
func ask(ctx context.Context, path, method, resource string, question, into any) error {
	client := &http.Client{
		Timeout: commandTime + 5*time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			},
		},
	}
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://penstock"+resource, body)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: permission denied; ask as root or a member of its group", path)
		}
		return fmt.Errorf("%w (socket %s)", ErrNotRunning, path)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var p problem
		if json.NewDecoder(res.Body).Decode(&p) == nil && p.Detail != "" {
			return errors.New(p.Detail)
		}
		return fmt.Errorf("%s answered %s", path, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
