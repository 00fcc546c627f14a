package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/internal/disk"
)

// Kept is what was found, on disk: a file that is replaced as a whole. It
// belongs to one goroutine.
type Kept struct {
	fsys  disk.FS
	name  string
	lines []Line
}

// Line is what was found on one port. A pump is known by its address: the
// Modbus profile of CIM modules tells no serial number.
type Line struct {
	Port    string        `json:"port"`
	Mode    fieldbus.Mode `json:"mode"`
	Found   time.Time     `json:"found"`
	Devices []KeptDevice  `json:"devices"`
}

// KeptDevice is a device on disk.
type KeptDevice struct {
	Address    int    `json:"address"`
	Family     int    `json:"family,omitempty"`
	Type       int    `json:"type,omitempty"`
	Version    int    `json:"version,omitempty"`
	Profile    string `json:"profile,omitempty"` // "" when no family fits
	ReplyDelay int    `json:"reply_delay_ms,omitempty"`
}

// keptVersion is the format of the file.
const keptVersion = 1

type keptFile struct {
	Version int    `json:"version"`
	Lines   []Line `json:"lines"`
}

// Load reads the file. One that is not there holds nothing. One that cannot be
// read is an error, and Kept holds nothing: search again, and the next Keep
// replaces it.
func Load(fsys disk.FS, name string) (*Kept, error) {
	k := &Kept{fsys: fsys, name: name}
	text, err := disk.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("the pumps found before: %w", err)
	}
	var f keptFile
	if err := json.Unmarshal(text, &f); err != nil {
		return k, fmt.Errorf("the pumps found before, %s: %w", name, err)
	}
	if f.Version != keptVersion {
		return k, fmt.Errorf("the pumps found before, %s: version %d of the file, not %d", name, f.Version, keptVersion)
	}
	for i, l := range f.Lines {
		if err := l.check(); err != nil {
			return k, fmt.Errorf("the pumps found before, %s: lines[%d]: %w", name, i, err)
		}
	}
	k.lines = f.Lines
	return k, nil
}

func (l *Line) check() error {
	if l.Port == "" {
		return errors.New("port: it is missing")
	}
	if err := l.Mode.Validate(); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	for i, d := range l.Devices {
		if d.Address < 1 || d.Address > lastAddress {
			return fmt.Errorf("devices[%d].address: %d; use 1 to %d", i, d.Address, lastAddress)
		}
		if d.ReplyDelay < 0 || time.Duration(d.ReplyDelay)*time.Millisecond > lateMost {
			return fmt.Errorf("devices[%d].reply_delay_ms: %d; use 0 to %d", i, d.ReplyDelay, lateMost.Milliseconds())
		}
	}
	return nil
}

// Lines are the lines on which something was found.
func (k *Kept) Lines() []Line { return slices.Clone(k.lines) }

// Line is what was found on a port.
func (k *Kept) Line(port string) (Line, bool) {
	i := slices.IndexFunc(k.lines, func(l Line) bool { return l.Port == port })
	if i < 0 {
		return Line{}, false
	}
	return k.lines[i], true
}

// Keep puts what was found on a port in the place of what was known of it. It
// returns when that is on stable storage.
func (k *Kept) Keep(port string, devices []Device, now time.Time) (Line, error) {
	l := Line{Port: port, Found: now.UTC().Round(time.Second)}
	for _, d := range devices {
		l.Mode = d.Mode
		l.Devices = append(l.Devices, KeptDevice{Address: d.Address, Family: d.Family, Type: d.Type,
			Version: d.Version, Profile: d.Profile, ReplyDelay: int(d.ReplyDelay.Milliseconds())})
	}
	lines := slices.DeleteFunc(slices.Clone(k.lines), func(old Line) bool { return old.Port == port })
	if len(l.Devices) > 0 {
		lines = append(lines, l)
	}
	text, err := json.MarshalIndent(keptFile{keptVersion, lines}, "", "  ")
	if err != nil {
		return l, err
	}
	if err := disk.MkdirAll(k.fsys, filepath.Dir(k.name), 0o755); err != nil {
		return l, err
	}
	if err := disk.WriteFile(k.fsys, k.name, append(text, '\n'), 0o644); err != nil {
		return l, err
	}
	k.lines = lines
	return l, nil
}
