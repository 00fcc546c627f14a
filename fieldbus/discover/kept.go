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

// Line is what was found on one port, or on one adapter where that is known: the
// numbers of ports change. A pump is known by its address and by what it says of
// itself; the Modbus profile of CIM modules tells no serial number.
type Line struct {
	Port    string        `json:"port"`
	Adapter string        `json:"adapter,omitempty"` // that the port belongs to, however it is numbered; "" where unknown
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

// Line is what was found on a port, or on its adapter.
func (k *Kept) Line(port, adapter string) (Line, bool) {
	i := slices.IndexFunc(k.lines, func(l Line) bool { return l.is(port, adapter) })
	if i < 0 {
		return Line{}, false
	}
	return k.lines[i], true
}

// Keep puts what was found on a port in the place of what was known of it, or of its
// adapter. It returns when that is on stable storage.
func (k *Kept) Keep(port, adapter string, devices []Device, now time.Time) (Line, error) {
	l := Line{Port: port, Adapter: adapter, Found: now.UTC().Round(time.Second)}
	for _, d := range devices {
		l.Mode = d.Mode
		l.Devices = append(l.Devices, KeptDevice{Address: d.Address, Family: d.Family, Type: d.Type,
			Version: d.Version, Profile: d.Profile, ReplyDelay: int(d.ReplyDelay.Milliseconds())})
	}
	// A line keeps its place: buses are named by it.
	lines := slices.Clone(k.lines)
	at := slices.IndexFunc(lines, func(old Line) bool { return old.is(port, adapter) })
	switch {
	case at < 0 && len(l.Devices) > 0:
		lines = append(lines, l)
	case at >= 0 && len(l.Devices) > 0:
		lines[at] = l
	case at >= 0:
		lines = slices.Delete(lines, at, at+1)
	}
	return l, k.save(lines)
}

// is tells whether a line is the one on a port, or on an adapter where both are known.
func (l *Line) is(port, adapter string) bool {
	if l.Adapter != "" && adapter != "" {
		return l.Adapter == adapter
	}
	return l.Port == port
}

// Adopt notes the adapters of lines that were kept before adapters were, and the ports
// at which adapters are now. adapterOf names the adapter of a port, portOf finds one.
func (k *Kept) Adopt(adapterOf, portOf func(string) string) error {
	lines := slices.Clone(k.lines)
	for i := range lines {
		if l := &lines[i]; l.Adapter == "" {
			l.Adapter = adapterOf(l.Port)
		} else if port := portOf(l.Adapter); port != "" {
			l.Port = port
		}
	}
	if slices.EqualFunc(lines, k.lines, func(a, b Line) bool { return a.Adapter == b.Adapter && a.Port == b.Port }) {
		return nil
	}
	return k.save(lines)
}

func (k *Kept) save(lines []Line) error {
	text, err := json.MarshalIndent(keptFile{keptVersion, lines}, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.MkdirAll(k.fsys, filepath.Dir(k.name), 0o755); err != nil {
		return err
	}
	if err := disk.WriteFile(k.fsys, k.name, append(text, '\n'), 0o644); err != nil {
		return err
	}
	k.lines = lines
	return nil
}
