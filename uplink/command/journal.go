package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

const (
	// keep is how many commands are remembered at least, and most at most. Past
	// most nothing is taken until one that is remembered has expired: an id may be
	// forgotten only when its command would be refused anyway.
	keep = 64
	most = 256
	// doubt is how long commands are answered with unknown after the journal was
	// lost: any of them may have been carried out before.
	doubt = time.Hour
)

var errCrowded = errors.New("too many commands that are still good; wait until some have expired")

// journal is what must survive of the commands. Executor.mu guards it.
type journal struct {
	fs   disk.FS
	file string
	book book
}

// book is the journal as it stands on disk.
type book struct {
	Owner      uint64   `json:"owner"`                 // the latest that a command came from
	DoubtUntil int64    `json:"doubt_until,omitempty"` // Unix ms
	Entries    []*entry `json:"entries"`               // oldest first
}

type entry struct {
	ID       telemetry.CommandID `json:"id"`
	Expires  int64               `json:"expires"` // Unix ms
	Result   *answer             `json:"result,omitempty"`
	Reported bool                `json:"reported,omitempty"`
}

type answer struct {
	Outcome telemetry.Outcome `json:"outcome"`
	Time    int64             `json:"time"` // Unix ms
	Raw     int64             `json:"raw,omitempty"`
	Text    string            `json:"text,omitempty"`
}

func (e *entry) result() telemetry.CommandResult {
	return telemetry.CommandResult{ID: e.ID, Outcome: e.Result.Outcome, Time: time.UnixMilli(e.Result.Time).UTC(), Raw: e.Result.Raw, Text: e.Result.Text}
}

// openJournal reads the journal. One that cannot be read is replaced, and puts
// what comes in doubt for a while.
func openJournal(fsys disk.FS, dir string, now time.Time, log *slog.Logger) (*journal, error) {
	j := &journal{fs: fsys, file: filepath.Join(dir, "commands.json")}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("the journal of commands: %w", err)
	}
	text, err := disk.ReadFile(fsys, j.file)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &j.book)
	}
	if err != nil {
		log.Error("the journal of commands cannot be read; commands are answered with unknown for a while", "file", j.file, "for", doubt, "err", err)
		j.book = book{DoubtUntil: now.Add(doubt).UnixMilli()}
		if err := j.save(); err != nil {
			log.Error("the journal of commands", "err", err)
		}
	}
	return j, nil
}

func (j *journal) find(id telemetry.CommandID) *entry {
	for _, e := range j.book.Entries {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// add writes a command's id down, with a result if that is known already. After
// an error nothing may be done about the command.
func (j *journal) add(c telemetry.Command, r *answer, now time.Time) (*entry, error) {
	before := j.book
	entries := before.Entries
	for len(entries) >= keep && entries[0].Result != nil && entries[0].Reported && entries[0].Expires <= now.UnixMilli() {
		entries = entries[1:]
	}
	if len(entries) >= most {
		return nil, errCrowded
	}
	e := &entry{ID: c.ID, Expires: c.Expires.UnixMilli(), Result: r}
	j.book.Entries = append(append([]*entry{}, entries...), e)
	j.book.Owner = max(before.Owner, c.Owner)
	if err := j.save(); err != nil {
		j.book = before
		return nil, err
	}
	return e, nil
}

func (j *journal) save() error {
	b, err := json.Marshal(j.book)
	if err != nil {
		return err
	}
	return disk.WriteFile(j.fs, j.file, append(b, '\n'), 0o600)
}
