package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"penstock/internal/disk"
)

// assigner asks the auth service; *AuthClient is one.
type assigner interface {
	Assign(ctx context.Context, failed string) (Assignment, error)
}

// director decides which endpoint to try, and when to ask the auth service for
// another. It is owned by the session's goroutine.
//
// The auth service is asked when nothing is cached, when the answer has expired,
// when the endpoint refused us or broke the protocol, and when it could not be
// reached for endpointPatience; never twice in one attempt, and not before a Retry-After has
// passed. As long as it has no better answer, the cached endpoint is tried.
type director struct {
	auth assigner
	fs   disk.FS
	file string
	log  *slog.Logger

	current      Assignment
	host         string    // of current, "" when there is none
	failingSince time.Time // of the endpoint; zero while it is good
	ask          bool      // before the next attempt
	notBefore    time.Time // Retry-After
	refused      bool      // by the auth service, when last asked
}

func newDirector(auth assigner, fsys disk.FS, dir string, log *slog.Logger) *director {
	d := &director{auth: auth, fs: fsys, file: filepath.Join(dir, "assignment.json"), log: log}
	b, err := disk.ReadFile(fsys, d.file)
	if err == nil {
		err = json.Unmarshal(b, &d.current)
	}
	if err == nil {
		d.host, err = d.current.host()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the cached assignment cannot be used; asking for another", "file", d.file, "err", err)
	}
	return d
}

// wantsToAsk tells whether next would ask the auth service.
func (d *director) wantsToAsk(now time.Time) bool {
	expired := !d.current.Expires.IsZero() && now.After(d.current.Expires)
	return (d.host == "" || d.ask || expired) && !now.Before(d.notBefore)
}

// next is the endpoint to try now, as host:port.
func (d *director) next(ctx context.Context, now time.Time) (string, error) {
	if !d.wantsToAsk(now) {
		if d.host == "" {
			return "", &waitError{d.notBefore}
		}
		return d.host, nil
	}
	failed := ""
	if !d.failingSince.IsZero() {
		failed = d.host
	}
	a, err := d.auth.Assign(ctx, failed)
	d.ask, d.refused = false, err != nil && refusedByPeer(err)
	if err != nil {
		var p *Problem
		if errors.As(err, &p) && p.RetryAfter > 0 {
			d.notBefore = now.Add(p.RetryAfter)
		}
		if d.host == "" || d.refused {
			return "", err
		}
		d.log.Warn("no new assignment; using the cached one", "endpoint", d.host, "err", err)
		return d.host, nil
	}
	d.adopt(a)
	return d.host, nil
}

// adopt takes an answer of the auth service and caches it.
func (d *director) adopt(a Assignment) {
	host, err := a.host()
	if err != nil { // Assign checked it
		d.log.Error("assignment", "err", err)
		return
	}
	d.failingSince, d.notBefore, d.refused = time.Time{}, time.Time{}, false
	if d.current == a {
		return
	}
	d.current, d.host = a, host
	b, err := json.Marshal(a)
	if err == nil {
		err = disk.WriteFile(d.fs, d.file, append(b, '\n'), 0o644)
	}
	if err != nil { // it is good for this run all the same
		d.log.Warn("the assignment could not be cached", "err", err)
	}
}

// failed notes that an attempt or session at the endpoint ended with err.
func (d *director) failed(now time.Time, err error) {
	if d.host == "" {
		return
	}
	if d.failingSince.IsZero() {
		d.failingSince = now
	}
	var broken *violation
	if refusedByPeer(err) || errors.As(err, &broken) || now.Sub(d.failingSince) >= endpointPatience {
		d.ask = true
	}
}

// succeeded notes that the endpoint is good.
func (d *director) succeeded() { d.failingSince, d.refused = time.Time{}, false }

// waitError: there is no endpoint, and the auth service asked to be left alone.
type waitError struct{ until time.Time }

func (e *waitError) Error() string {
	return "no endpoint is known and the auth service asked to be left alone until " + e.until.Format(time.RFC3339)
}
