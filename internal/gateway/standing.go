package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"penstock/fieldbus/poll"
	"penstock/internal/disk"
)

// standings is which devices have stood at each address, on disk, so that one that is
// exchanged while the gateway is off is another pump as well.
type standings struct {
	fsys disk.FS
	file string
	log  *slog.Logger

	mu   sync.Mutex // guards kept
	kept map[string]poll.Standing
}

// openStandings reads the file. One that cannot be read is begun anew.
func openStandings(fsys disk.FS, dir string, log *slog.Logger) *standings {
	s := &standings{fsys: fsys, file: filepath.Join(dir, "devices.json"), log: log}
	data, err := disk.ReadFile(fsys, s.file)
	if err == nil {
		err = json.Unmarshal(data, &s.kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("which devices the pumps were cannot be read; those that answer now are taken for them", "file", s.file, "err", err)
		s.kept = nil
	}
	if s.kept == nil {
		s.kept = map[string]poll.Standing{}
	}
	for key, k := range s.kept {
		if k.Present < 0 || k.Present >= len(k.Devices) {
			delete(s.kept, key)
		}
	}
	return s
}

// standingKey names an address on a line: of an adapter where that is known.
func standingKey(adapter, port string, address int) string {
	if adapter == "" {
		adapter = port
	}
	return fmt.Sprintf("%s/%d", adapter, address)
}

// of is what is known of an address; otherwise what a search has found there.
func (s *standings) of(key string, found poll.Identity) poll.Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.kept[key]; ok || found == (poll.Identity{}) {
		return k
	}
	return poll.Standing{Devices: []poll.Identity{found}}
}

// keep puts on disk what stands at an address.
func (s *standings) keep(key string, k poll.Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[key] = k
	data, err := json.MarshalIndent(s.kept, "", "  ")
	if err == nil {
		if err = disk.MkdirAll(s.fsys, filepath.Dir(s.file), 0o700); err == nil {
			err = disk.WriteFile(s.fsys, s.file, append(data, '\n'), 0o600)
		}
	}
	if err != nil {
		s.log.Error("which devices the pumps are cannot be kept", "file", s.file, "err", err)
	}
}
