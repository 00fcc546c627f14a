package uplink

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"

	"penstock/internal/disk"
)

// numbers hands out session numbers that grow for ever, over restarts too: the
// endpoint tells by them the will of an old session from the state of the new.
// They are reserved on disk in batches, so that a flapping link does not wear
// the flash; a restart leaves out what was reserved and not used.
type numbers struct {
	fs             disk.FS
	file           string
	log            *slog.Logger
	last, reserved uint64
}

const reserveSessions = 64

type reservation struct {
	Reserved uint64 `json:"reserved"` // the next run begins above this
}

func newNumbers(fsys disk.FS, dir string, log *slog.Logger) *numbers {
	n := &numbers{fs: fsys, file: filepath.Join(dir, "session.json"), log: log}
	var r reservation
	b, err := disk.ReadFile(fsys, n.file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the session number cannot be read; numbering starts again", "file", n.file, "err", err)
	}
	n.last, n.reserved = r.Reserved, r.Reserved
	return n
}

func (n *numbers) next() uint64 {
	n.last++
	if n.last > n.reserved {
		b, err := json.Marshal(reservation{n.last + reserveSessions - 1})
		if err == nil {
			err = disk.WriteFile(n.fs, n.file, append(b, '\n'), 0o644)
		}
		if err != nil {
			n.log.Warn("the session number could not be saved", "err", err)
		}
		n.reserved = n.last + reserveSessions - 1
	}
	return n.last
}
