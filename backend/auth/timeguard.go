package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"penstock/internal/disk"
)

const (
	// clockStep is how far the clock may be from where the last time that was found
	// good and the machine's running time put it; clockDrift is added for each
	// second since, ten times what a cheap crystal loses.
	clockStep  = 5 * time.Minute
	clockDrift = time.Second / 2000
	// longestStop is how far the clock may be ahead of the last signed time when
	// the backend starts: how long it may have been down.
	longestStop = 7 * 24 * time.Hour
	// The last signed time is written down this often.
	keepTimeEvery = 10 * time.Minute
)

// errClock is why a time is not signed.
var errClock = errors.New("the backend's clock cannot be believed; an administrator sets it right and runs 'penstock-cloud time confirm'")

// TimeGuard decides whether the backend's clock is fit to be signed. Gateways never
// go back behind a time that was signed, so a clock that runs ahead once would be
// in every gateway for good. Its methods may be called from any goroutine.
type TimeGuard struct {
	fs   disk.FS
	file string
	log  *slog.Logger
	// elapsed is the time between two readings of the clock, however it was set.
	elapsed func(from, to time.Time) time.Duration

	mu      sync.Mutex
	base    time.Time // guarded by mu; found good, with its monotonic reading; zero: none yet
	kept    keptTime  // guarded by mu; as this process last read or wrote it
	refused bool      // guarded by mu; the log says so already
}

// keptTime is the guard's file.
type keptTime struct {
	Signed    time.Time `json:"signed"`
	Confirmed time.Time `json:"confirmed,omitzero"` // what the clock said when an administrator vouched for it
}

// NewTimeGuard keeps the last signed time in a file.
func NewTimeGuard(fsys disk.FS, file string, log *slog.Logger) (*TimeGuard, error) {
	kept, err := readKeptTime(fsys, file)
	if err != nil {
		return nil, err
	}
	return &TimeGuard{fs: fsys, file: file, log: log, kept: kept,
		elapsed: func(from, to time.Time) time.Duration { return to.Sub(from) }}, nil
}

// ConfirmTime is the administrator's word that the clock is right now. A backend
// that runs heeds it at the next question.
func ConfirmTime(fsys disk.FS, file string, now time.Time) error {
	now = now.Round(0).UTC()
	return writeKeptTime(fsys, file, keptTime{Signed: now, Confirmed: now})
}

func readKeptTime(fsys disk.FS, file string) (k keptTime, err error) {
	text, err := disk.ReadFile(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return keptTime{}, nil // nothing was ever signed
	}
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return keptTime{}, fmt.Errorf("reading the last signed time: %w", err)
	}
	return k, nil
}

func writeKeptTime(fsys disk.FS, file string, k keptTime) error {
	text, err := json.Marshal(k)
	if err == nil {
		err = disk.WriteFile(fsys, file, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the last signed time: %w", err)
	}
	return nil
}

// check is nil when now may be signed. It is on disk, then, before it is sent.
func (g *TimeGuard) check(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	why := g.doubt(now)
	if why != "" {
		if why = g.confirmed(now, why); why != "" {
			if !g.refused {
				g.log.Error("the time is not signed until an administrator confirms it with 'penstock-cloud time confirm'", "why", why, "clock", now)
			}
			g.refused = true
			return errClock
		}
	}
	if g.base.IsZero() {
		g.base = now
	}
	if now.Sub(g.kept.Signed) >= keepTimeEvery {
		k := keptTime{Signed: now.Round(0).UTC(), Confirmed: g.kept.Confirmed}
		if err := writeKeptTime(g.fs, g.file, k); err != nil {
			return err
		}
		g.kept = k
	}
	g.refused = false
	return nil
}

// doubt says what is implausible about the clock; "" when nothing is. The caller
// holds mu.
func (g *TimeGuard) doubt(now time.Time) string {
	wall := now.Round(0)
	if !g.base.IsZero() {
		passed := g.elapsed(g.base, now)
		off := wall.Sub(g.base.Round(0)) - passed
		if allowed := clockStep + time.Duration(passed.Seconds()*float64(clockDrift)); off.Abs() > allowed {
			return fmt.Sprintf("the clock was set by %v while the backend ran", off.Round(time.Second))
		}
		return ""
	}
	switch since := wall.Sub(g.kept.Signed); {
	case g.kept.Signed.IsZero():
		return ""
	case since > longestStop:
		return fmt.Sprintf("the clock is %v past the last time that was signed", since.Round(time.Second))
	case since < -clockStep:
		return fmt.Sprintf("the clock is %v behind the last time that was signed", -since.Round(time.Second))
	}
	return ""
}

// confirmed takes a confirmation that has come since, and says what speaks against
// the clock still. The caller holds mu.
func (g *TimeGuard) confirmed(now time.Time, why string) string {
	k, err := readKeptTime(g.fs, g.file)
	if err != nil {
		return err.Error()
	}
	if k.Confirmed.IsZero() || k.Confirmed.Equal(g.kept.Confirmed) {
		return why
	}
	if off := now.Round(0).Sub(k.Confirmed); off < -clockStep || off > longestStop {
		return fmt.Sprintf("the clock is %v from what was confirmed", off.Round(time.Second))
	}
	g.log.Info("the clock is confirmed by an administrator", "clock", now)
	g.kept, g.base = k, now
	return ""
}
