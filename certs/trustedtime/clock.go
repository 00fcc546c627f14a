package trustedtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// Source is where the corrected clock came from last.
type Source string

// The sources. System is what the machine says of itself, which nobody vouches for.
const (
	System Source = "system"
	NTP    Source = "ntp"
	Modem  Source = "modem"
	Signed Source = "signed"
)

// persistEvery is how often the floor is written: what a power cut takes of it is
// no more than that.
const persistEvery = 4 * time.Hour

// maxError is how far a correction may be from the truth: the time that an answer
// was under way.
const maxError = 10 * time.Second

// Clock is the gateway's time. Its methods may be called from any goroutine.
type Clock struct {
	base clock.Clock // the machine's; its monotonic reading is what counts
	fs   disk.FS
	file string
	log  *slog.Logger

	mu sync.Mutex // guards what follows
	// The corrected clock: it was is at when base said was.
	source  Source
	is, was time.Time
	// The floor, and what base said when it was raised.
	floor, floorWas time.Time
	saved           time.Time // by base: when the floor was written last; zero: not in this run
}

// Open reads the floor that was kept in dir. built is a time before which this
// firmware cannot run.
func Open(base clock.Clock, fsys disk.FS, dir string, built time.Time, log *slog.Logger) (*Clock, error) {
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, err
	}
	now := base.Now()
	c := &Clock{base: base, fs: fsys, file: filepath.Join(dir, "clock.json"), log: log,
		source: System, floor: built, floorWas: now}
	var kept record
	text, err := disk.ReadFile(fsys, c.file)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil: // a floor that is lost is a lower floor, and no reason to stand still
		log.Warn("the kept time cannot be read; the clock's floor is the firmware's date", "file", c.file, "err", err)
	case kept.Floor.After(c.floor):
		c.floor = kept.Floor
	}
	return c, nil
}

// record is clock.json.
type record struct {
	Floor time.Time `json:"floor"` // signed time that has been seen
}

// Now is the time, as well as it is known: the later of corrected clock and floor.
// It carries no monotonic reading, since it may be corrected.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now(c.base.Now())
}

func (c *Clock) now(base time.Time) time.Time {
	t := base.Round(0)
	if c.source != System {
		t = c.is.Add(base.Sub(c.was))
	}
	if f := c.floorAt(base); t.Before(f) {
		t = f
	}
	return t.UTC()
}

func (c *Clock) floorAt(base time.Time) time.Time {
	since := max(base.Sub(c.floorWas), 0)
	return c.floor.Add(since - since/1000)
}

// Sleep waits by the machine's clock.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error { return c.base.Sleep(ctx, d) }

// Correct moves the corrected clock: it was t when the machine's clock said at,
// which carries a monotonic reading. It never moves the floor.
func (c *Clock) Correct(s Source, t, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.now(at)
	c.source, c.is, c.was = s, t.Round(0), at
	if step := c.now(at).Sub(before); step.Abs() > time.Second {
		c.log.Info("the clock is corrected", "by", step.Round(time.Millisecond), "source", s)
	}
}

// Raise takes in signed time: the corrected clock is set to t plus half of what the
// answer took, and the floor is raised to t, which had passed by then. It keeps the
// floor on disk every few hours, and at once when it had not been kept in this run.
func (c *Clock) Raise(t, asked, answered time.Time) error {
	took := answered.Sub(asked)
	if took < 0 || took > maxError {
		return fmt.Errorf("signed time that was %v under way says too little", took.Round(time.Millisecond))
	}
	c.Correct(Signed, t.Add(took/2), answered)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.floorAt(answered)) {
		c.floor, c.floorWas = t, answered
	}
	if !c.saved.IsZero() && answered.Sub(c.saved) < persistEvery {
		return nil
	}
	text, err := json.Marshal(record{c.floorAt(answered)})
	if err == nil {
		err = disk.WriteFile(c.fs, c.file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the clock's floor could not be kept: %w", err)
	}
	c.saved = answered
	return nil
}

// Known tells whether somebody has told the time since the machine was started:
// until then it is a guess, and what must not be repeated later must not be done.
func (c *Clock) Known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source != System
}

// Status is the clock for people.
type Status struct {
	Now    time.Time
	Source Source
	Since  time.Duration // how long ago that was; 0 for System
	Floor  time.Time
}

// Status is the clock as it is now.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	base := c.base.Now()
	s := Status{Now: c.now(base), Source: c.source, Floor: c.floorAt(base).UTC()}
	if c.source != System {
		s.Since = base.Sub(c.was)
	}
	return s
}
