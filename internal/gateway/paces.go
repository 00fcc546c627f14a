package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"penstock/fieldbus/lateness"
	"penstock/fieldbus/poll"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// paces is what the buses have learnt of their pumps' lateness, on disk. It is
// small, and written when it has changed noticeably; without it a restarted
// gateway would take a late answer for one in time until it had learnt anew.
type paces struct {
	fsys disk.FS
	file string
	log  *slog.Logger

	mu   sync.Mutex // guards what follows
	kept pacesFile
}

type pacesFile struct {
	// Run counts the starts at which pumps may have owed an answer to the run before.
	Run   int                         `json:"run"`
	Pumps map[string]lateness.Learned `json:"pumps"`
}

// saveEvery is how often what was learnt is looked at for a change.
const saveEvery = time.Minute

// openPaces reads the file. One that cannot be read is begun anew: nothing but
// waiting time depends on it.
func openPaces(fsys disk.FS, dir string, log *slog.Logger) *paces {
	p := &paces{fsys: fsys, file: filepath.Join(dir, "paces.json"), log: log}
	data, err := disk.ReadFile(fsys, p.file)
	if err == nil {
		err = json.Unmarshal(data, &p.kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what was learnt of the pumps' reply times cannot be read; it is learnt anew", "file", p.file, "err", err)
		p.kept = pacesFile{}
	}
	if p.kept.Pumps == nil {
		p.kept.Pumps = map[string]lateness.Learned{}
	}
	return p
}

// pumpKey names a pump of a bus: another family at the same address is another pump.
func pumpKey(port string, d poll.Device) string {
	return fmt.Sprintf("%s/%d/%s", port, d.Address, d.Profile.Name)
}

// of returns what is known of a pump; nil when nothing is.
func (p *paces) of(key string) *lateness.Learned {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, ok := p.kept.Pumps[key]; ok {
		return &l
	}
	return nil
}

// begin counts a start at which pumps may owe an answer, and returns its number.
// It is on disk before anything is asked.
func (p *paces) begin() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept.Run++
	p.save()
	return p.kept.Run
}

// save writes the file. mu is held.
func (p *paces) save() {
	data, err := json.Marshal(p.kept)
	if err == nil {
		if err = disk.MkdirAll(p.fsys, filepath.Dir(p.file), 0o700); err == nil {
			err = disk.WriteFile(p.fsys, p.file, data, 0o600)
		}
	}
	if err != nil {
		p.log.Warn("what was learnt of the pumps' reply times cannot be kept", "file", p.file, "err", err)
	}
}

// update takes in what the buses know now, and saves it when it has changed by
// more than a quarter.
func (p *paces) update(now map[string]lateness.Learned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := len(now) != len(p.kept.Pumps)
	for key, l := range now {
		changed = changed || differs(p.kept.Pumps[key], l)
	}
	if changed {
		p.kept.Pumps = maps.Clone(now)
		p.save()
	}
}

func differs(a, b lateness.Learned) bool {
	far := func(a, b time.Duration) bool { return max(a-b, b-a) > max(a, b)/4+20*time.Millisecond }
	return far(a.Reply, b.Reply) || far(a.Deviation, b.Deviation) || far(a.Late, b.Late) ||
		far(a.Repeat, b.Repeat) || far(a.Pause, b.Pause)
}

// keep saves what is learnt until stopped is closed, and once more then.
func (p *paces) keep(clk clock.Clock, learned func() map[string]lateness.Learned, stopped <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	for clk.Sleep(ctx, saveEvery) == nil {
		p.update(learned())
	}
	p.update(learned())
}

// learned is what all buses know of their pumps.
func (g *Gateway) learned() map[string]lateness.Learned {
	all := map[string]lateness.Learned{}
	for i, bus := range g.buses {
		for address, l := range bus.Learned() {
			all[g.pumpKeys[i][address]] = l
		}
	}
	return all
}
