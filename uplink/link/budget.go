package link

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"penstock/internal/disk"
)

// saveEvery is how many bytes may go over a link before what was used is written
// down: what a power cut can make the budget forget.
const saveEvery = 256 << 10

// Warning says that a share of a link's data for the month is used. Each link
// gives it once in a month for each share, or again if the power fails just then.
type Warning struct {
	Link            string
	Time            time.Time
	Percent, Before int // 80 or 100, and what was warned of before: 0 or 80
}

// meter counts the bytes of each link in a month, over restarts. The group's
// mutex guards it.
type meter struct {
	fs      disk.FS
	file    string
	tell    func(Warning) error
	log     *slog.Logger
	used    map[string]*usage
	unsaved uint64
}

// usage is what one link has used.
type usage struct {
	Month  string `json:"month"` // "2026-11", UTC
	Bytes  uint64 `json:"bytes"`
	Warned int    `json:"warned,omitempty"` // the highest percentage that was warned of

	counter uint64 // of the device, when it was last read
	read    bool   // counter counts
}

// openMeter reads what was used. A file that cannot be read counts as nothing
// used, which is said.
func openMeter(fsys disk.FS, dir string, tell func(Warning) error, log *slog.Logger) *meter {
	m := &meter{fs: fsys, file: filepath.Join(dir, "budget.json"), tell: tell, log: log, used: map[string]*usage{}}
	b, err := disk.ReadFile(fsys, m.file)
	if err == nil {
		err = json.Unmarshal(b, &m.used)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("how much data was used cannot be read; counting from 0", "file", m.file, "err", err)
	}
	for name, u := range m.used {
		if u == nil {
			delete(m.used, name)
		}
	}
	return m
}

func (m *meter) of(name string) *usage {
	if m.used[name] == nil {
		m.used[name] = &usage{}
	}
	return m.used[name]
}

// count takes a reading of a link's counter. A counter that is lower than before
// has begun anew with its device. now is zero while the time is not known.
func (m *meter) count(name string, counter uint64, t Traits, now time.Time) {
	u := m.of(name)
	delta := counter - u.counter
	if !u.read || counter < u.counter {
		delta = counter
		if !u.read {
			delta = 0 // of what the device had carried before our time, nobody knows whose it was
		}
	}
	u.counter, u.read = counter, true
	// A month only ends, it never comes back: a clock that has lost its time must
	// not grant the budget again. And one that somebody lies to must not end all
	// months for good, so that only a time that is known for certain counts.
	if month := now.UTC().Format("2006-01"); !now.IsZero() && month > u.Month {
		if u.Month != "" { // else it is the first to be known, and all of it was in it
			u.Bytes, u.Warned = 0, 0
		}
		u.Month = month
		m.unsaved += saveEvery
	}
	u.Bytes += delta
	m.unsaved += delta
	if t.Budget > 0 {
		m.warn(name, u, t, now)
	}
	if m.unsaved >= saveEvery {
		m.save()
	}
}

func (m *meter) warn(name string, u *usage, t Traits, now time.Time) {
	for _, percent := range []int{100, 80} {
		if u.Warned >= percent || !atLeast(u.Bytes, percent, t.Budget) {
			continue
		}
		if err := m.tell(Warning{Link: name, Time: now, Percent: percent, Before: u.Warned}); err != nil {
			m.log.Error("a warning of a data budget cannot be kept on disk; trying again", "link", name, "err", err)
			return
		}
		u.Warned = percent
		m.unsaved += saveEvery
		what := "most of the month's data is used"
		if percent == 100 {
			what = "the month's data is used up; only alarms and commands go over this link until the month ends"
		}
		m.log.Warn(what, "link", name, "used", u.Bytes, "budget", t.Budget)
	}
}

func atLeast(bytes uint64, percent int, budget int64) bool {
	return float64(bytes) >= float64(budget)*float64(percent)/100
}

// spent tells whether a link has used up its budget.
func (m *meter) spent(name string, t Traits) bool {
	return t.Budget > 0 && atLeast(m.of(name).Bytes, 100, t.Budget)
}

// problem says how the budget stands, where somebody should know.
func (m *meter) problem(name string, t Traits) string {
	u := m.of(name)
	month := cmp.Or(u.Month, "this month")
	switch {
	case m.spent(name, t):
		return fmt.Sprintf("the data of %s is used up (%d MB of %d MB); only alarms and commands pass", month, u.Bytes>>20, t.Budget>>20)
	case t.Budget > 0 && atLeast(u.Bytes, 80, t.Budget):
		return fmt.Sprintf("%d MB of the %d MB for %s are used", u.Bytes>>20, t.Budget>>20, month)
	}
	return ""
}

func (m *meter) save() {
	b, err := json.Marshal(m.used)
	if err == nil {
		err = disk.WriteFile(m.fs, m.file, append(b, '\n'), 0o644)
	}
	if err != nil {
		m.log.Warn("how much data was used could not be saved", "err", err)
	}
	m.unsaved = 0 // also after an error: it is not tried at every look
}
