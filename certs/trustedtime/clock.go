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

// The sources. System is what the machine says of itself, which nobody vouches for;
// Kept is the same while an NTP service of the machine's own keeps it.
const (
	System Source = "system"
	Kept   Source = "machine"
	NTP    Source = "ntp"
	Modem  Source = "modem"
	Signed Source = "signed"
)

// persistEvery is how often the floor is written: what a power cut takes of it is
// no more than that.
const persistEvery = 4 * time.Hour

// drift is the share by which a crystal may be wrong: one in so many.
const drift = 10_000

// near is how close two clocks are that are both kept by NTP.
const near = 50 * time.Millisecond

// maxError is how far a correction may be from the truth: the time that an answer
// was under way.
const maxError = 10 * time.Second

// Clock is the gateway's time. Its methods may be called from any goroutine.
type Clock struct {
	machine clock.Machine
	fs      disk.FS
	file    string
	log     *slog.Logger

	mu sync.Mutex // guards what follows
	// The corrected clock: it was is when the machine had been up for was. Nobody
	// has told the time while source is System.
	source Source
	is     time.Time
	was    time.Duration
	// What our own service said last in this boot, zero before it did.
	signed    time.Time
	signedWas time.Duration
	within    time.Duration // of the truth, either way
	// The floor, and the uptime when it was raised.
	floor    time.Time
	floorWas time.Duration
	unsaved  bool // no signed time of this run is on disk yet
}

// Open reads the floor that was kept in dir. built is a time before which this
// firmware cannot run. Where signed time was heard earlier in this boot of the
// machine, the time is known at once.
func Open(m clock.Machine, fsys disk.FS, dir string, built time.Time, log *slog.Logger) (*Clock, error) {
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, err
	}
	up := m.Uptime()
	c := &Clock{machine: m, fs: fsys, file: filepath.Join(dir, "clock.json"), log: log,
		source: System, floor: built, floorWas: up, unsaved: true}
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
	if err == nil && kept.Boot != "" && kept.Boot == m.Boot() {
		c.source, c.is, c.was = Signed, kept.Booted.Add(up), up
		c.signed, c.signedWas, c.within = c.is, up, kept.Within
	}
	return c, nil
}

// record is clock.json.
type record struct {
	Floor time.Time `json:"floor"` // signed time that has been seen
	// When the boot of that name began, by signed time: a process that is started
	// again in it knows the time.
	Boot   string    `json:"boot,omitempty"`
	Booted time.Time `json:"booted,omitzero"`
	// How far that may be off.
	Within time.Duration `json:"within_ns,omitempty"`
}

// Now is the time, as well as it is known: the later of corrected clock and floor.
// It carries no monotonic reading, since it may be corrected.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now(c.machine.Uptime())
}

func (c *Clock) now(up time.Duration) time.Time {
	var t time.Time
	if c.source == System {
		t = c.machine.Now().Round(0)
	} else {
		t = c.is.Add(up - c.was)
	}
	return c.raised(t, up)
}

// raised is t, or the floor where that is later.
func (c *Clock) raised(t time.Time, up time.Duration) time.Time {
	if f := c.floorAt(up); t.Before(f) {
		t = f
	}
	return t.UTC()
}

func (c *Clock) floorAt(up time.Duration) time.Time {
	since := max(up-c.floorWas, 0)
	return c.floor.Add(since - since/1000)
}

// Sleep waits by the machine's clock.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error { return c.machine.Sleep(ctx, d) }

// Uptime is how long the machine has been up.
func (c *Clock) Uptime() time.Duration { return c.machine.Uptime() }

// Boot names this boot of the machine.
func (c *Clock) Boot() string { return c.machine.Boot() }

// Booted is when the machine was booted, which is what stamps are reckoned from.
// known: somebody has told the time. sure: our own service has, so that what is
// written by it holds for good; an NTP server that contradicts it is not followed.
func (c *Clock) Booted() (at time.Time, known, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	up := c.machine.Uptime()
	t := c.now(up)
	if !c.signed.IsZero() {
		since := up - c.signedWas
		told := c.raised(c.signed.Add(since), up)
		if t.Sub(told).Abs() > maxError+since/1000 {
			t = told
		}
	}
	return t.Add(-up), c.source != System, !c.signed.IsZero()
}

// Doubt is how far signed time may be off by now, either way: half of what the answer
// took, and what a crystal drifts. It is 0 before our own service has told the time.
func (c *Clock) Doubt() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubt(c.machine.Uptime())
}

func (c *Clock) doubt(up time.Duration) time.Duration {
	if c.signed.IsZero() {
		return 0
	}
	return c.within + (up-c.signedWas)/drift
}

// Claim is when the machine was booted by its own clock, and whether that can be:
// it shows no time before the floor.
func (c *Clock) Claim() (at time.Time, possible bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, up := reading(c.machine)
	return wall.Add(-up), !wall.Before(c.floorAt(up))
}

// Floor is a time that has passed.
func (c *Clock) Floor() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floorAt(c.machine.Uptime()).UTC()
}

// Correct moves the corrected clock: it was t when the machine had been up for at.
// It never moves the floor.
func (c *Clock) Correct(s Source, t time.Time, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.correct(s, t, at)
}

func (c *Clock) correct(s Source, t time.Time, at time.Duration) {
	before := c.now(at)
	c.source, c.is, c.was = s, t.Round(0), at
	if step := c.now(at).Sub(before); step.Abs() > time.Second {
		c.log.Info("the clock is corrected", "by", step.Round(time.Millisecond), "source", s)
	}
}

// TakeKept takes the machine's clock at its word where somebody keeps it right, and
// nobody else has told the time. It reports whether the time is known now.
func (c *Clock) TakeKept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source == System && c.machine.Kept() {
		wall, up := reading(c.machine)
		c.correct(Kept, wall, up)
	}
	return c.source != System
}

// reading is what the machine's clock shows, and its uptime at that moment, however
// the process is held up in between.
func reading(m clock.Machine) (wall time.Time, up time.Duration) {
	took := time.Duration(-1)
	for range 3 {
		before := m.Uptime()
		w := m.Now().Round(0)
		d := m.Uptime() - before
		if took < 0 || d < took {
			took, wall, up = d, w, before+d/2
		}
	}
	return wall, up
}

// Raise takes in signed time: t lay between asked and answered, which are uptimes. The
// floor is raised to t, which had passed by then; the corrected clock is set to the
// middle of what is possible. But a clock that fits the answer, and is better, stays
// as it is: the machine's own, as an NTP service keeps it, or what was signed before,
// by an answer that was less long under way. The first answer of a run is kept on disk
// at once, the others by Persist.
func (c *Clock) Raise(t time.Time, asked, answered time.Duration) error {
	took := answered - asked
	if took < 0 || took > maxError {
		return fmt.Errorf("signed time that was %v under way says too little", took.Round(time.Millisecond))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// It is now between t and t+took.
	fits := func(now time.Time, within time.Duration) bool {
		return !now.Before(t.Add(-within)) && !now.After(t.Add(took+within))
	}
	now, within := t.Add(took/2), took/2
	wall, up := reading(c.machine)
	wall = wall.Add(answered - up)
	before := c.signed.Add(answered - c.signedWas)
	switch doubt := c.doubt(answered); {
	case c.machine.Kept() && fits(wall, agree):
		now, within = wall, 0
	case fits(wall, near):
		now = wall
	case !c.signed.IsZero() && doubt <= within && fits(before, doubt):
		now, within = before, doubt
	}
	c.correct(Signed, now, answered)
	c.signed, c.signedWas, c.within = c.is, answered, within
	if t.After(c.floorAt(answered)) {
		c.floor, c.floorWas = t, answered
	}
	if !c.unsaved {
		return nil
	}
	return c.save()
}

// Persist keeps the floor on disk, every few hours and once more when ctx ends: it
// rises with the time that passes, whether or not somebody tells the time.
func (c *Clock) Persist(ctx context.Context) {
	for ended := false; !ended; {
		ended = c.Sleep(ctx, persistEvery) != nil
		if err := c.Save(); err != nil {
			c.log.Warn("the time could not be kept; trying again later", "err", err)
		}
	}
}

// Save keeps the floor on disk now.
func (c *Clock) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.save()
}

// save writes clock.json; mu is held.
func (c *Clock) save() error {
	kept := record{Floor: c.floorAt(c.machine.Uptime()).UTC()}
	if !c.signed.IsZero() {
		kept.Boot, kept.Booted, kept.Within = c.machine.Boot(), c.signed.Add(-c.signedWas).UTC(), c.doubt(c.machine.Uptime())
	}
	text, err := json.Marshal(kept)
	if err == nil {
		err = disk.WriteFile(c.fs, c.file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the clock's floor could not be kept: %w", err)
	}
	c.unsaved = c.unsaved && c.signed.IsZero()
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
	up := c.machine.Uptime()
	s := Status{Now: c.now(up), Source: c.source, Floor: c.floorAt(up).UTC()}
	if c.source != System {
		s.Since = up - c.was
	}
	return s
}
