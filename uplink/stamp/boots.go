package stamp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"penstock/internal/disk"
)

// fileName is the table of boots, in the queue's folder.
const fileName = "boots.json"

// mostBoots bounds the table: a board that is booted over and over, and never told
// the time, forgets the oldest.
const mostBoots = 1000

// boots is the table of boots, the oldest first. It is owned by Queue.mu.
type boots struct {
	fsys  disk.FS
	file  string
	log   *slog.Logger
	list  []boot
	dirty bool // the file does not say so yet
}

// boot is one boot of the machine. Times are Unix milliseconds, lengths milliseconds.
type boot struct {
	Name mark `json:"name"`
	// Scale is where the boot begins on the queue's own scale.
	Scale int64 `json:"scale"`
	// Length is how long it lasted at least; 0 while it lasts.
	Length int64 `json:"length,omitempty"`
	// Floor is a time that had passed when it began. Claim is when it began by the
	// machine's own clock, 0 where that cannot be.
	Floor int64 `json:"floor"`
	Claim int64 `json:"claim,omitempty"`
	// Began is when it began, 0 until that is settled. It may have been earlier by
	// Early, or later by Late.
	Began int64 `json:"began,omitempty"`
	Early int64 `json:"early,omitempty"`
	Late  int64 `json:"late,omitempty"`
	// Corrected is when it began by the last correction that was followed; 0: none
	// was of more than a second.
	Corrected int64 `json:"corrected,omitempty"`
	// Undated: its urgent records go without the times that were in doubt then, which
	// on the queue's own scale are those from DatedTo on.
	Undated bool  `json:"undated,omitempty"`
	DatedTo int64 `json:"dated_to,omitempty"`
	// Forgotten: all that is known of it is that there are records of it.
	Forgotten bool `json:"forgotten,omitempty"`
}

// ended is when the boot began, as its end is reckoned from it.
func (b boot) ended() int64 {
	if b.Corrected != 0 {
		return b.Corrected
	}
	return b.Began
}

// mark names a boot in a record.
type mark uint64

func markOf(boot string) mark {
	sum := sha256.Sum256([]byte(boot))
	return mark(binary.LittleEndian.Uint64(sum[:]))
}

func (m mark) MarshalText() ([]byte, error) {
	return []byte(hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(m)))), nil
}

func (m *mark) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 8 {
		return errors.New("not the mark of a boot")
	}
	*m = mark(binary.BigEndian.Uint64(b))
	return nil
}

// load reads the table. One that cannot be read is begun anew: records of boots
// that are forgotten are dated as well as may be.
func (t *boots) load() {
	text, err := disk.ReadFile(t.fsys, t.file)
	if err == nil {
		err = json.Unmarshal(text, &t.list)
	}
	if err != nil {
		t.list = nil
		if !errors.Is(err, fs.ErrNotExist) {
			t.log.Warn("when the machine was booted cannot be read; what was recorded before the clock was known is dated by guess", "file", t.file, "err", err)
		}
	}
}

// save writes the table if it has changed.
func (t *boots) save() error {
	if !t.dirty {
		return nil
	}
	text, err := json.Marshal(t.list)
	if err == nil {
		err = disk.WriteFile(t.fsys, t.file, append(text, '\n'), 0o600)
	}
	t.dirty = err != nil
	return err
}

// present is the boot that lasts.
func (t *boots) present() *boot { return &t.list[len(t.list)-1] }

// find is the place of a boot, -1 where it is forgotten.
func (t *boots) find(m mark) int {
	for i := len(t.list) - 1; i >= 0; i-- {
		if t.list[i].Name == m {
			return i
		}
	}
	return -1
}

// enter begins the boot of that name behind last, the latest time in the queue on
// its own scale (0: none). up is the present uptime.
func (t *boots) enter(name mark, last int64, up time.Duration, c Clock) {
	if n := len(t.list); n > 0 && t.list[n-1].Name == name {
		return // the process was started again
	}
	b := boot{Name: name, Floor: c.Floor().Add(-up).UnixMilli()}
	at, possible := c.Claim()
	if possible {
		b.Claim = at.UnixMilli()
	}
	b.Scale = max(at.UnixMilli(), b.Floor, last+1)
	if n := len(t.list); n > 0 {
		before := &t.list[n-1]
		before.Length = max(last-before.Scale, 0)
		b.Scale = max(b.Scale, before.Scale+before.Length+1)
	}
	t.list = append(t.list, b)
	if over := len(t.list) - mostBoots; over > 0 {
		t.list = append([]boot(nil), t.list[over:]...)
	}
	t.dirty = true
}

// forgetOld leaves the present boot only, once nothing in the queue is of another.
func (t *boots) forgetOld() {
	if n := len(t.list); n > 1 {
		t.list = append([]boot(nil), t.list[n-1])
		t.dirty = true
	}
}

// settle settles the present boot as begun then, give or take doubt, and with it all
// before it.
func (t *boots) settle(began, doubt int64) {
	n := len(t.list) - 1
	if t.list[n].Began != 0 {
		return
	}
	t.list[n].Began, t.list[n].Early, t.list[n].Late, t.dirty = max(began, 1), doubt, doubt, true
	first := n
	for first > 0 && t.list[first-1].Began == 0 {
		first--
	}
	// No boot began before its floor, or before the one before it had ended.
	earliest := make([]int64, n+1)
	for i := first; i < n; i++ {
		earliest[i] = t.list[i].Floor
		if i > 0 {
			before := &t.list[i-1]
			end := before.Began - before.Early + before.Length
			if i > first {
				end = earliest[i-1] + before.Length
			}
			earliest[i] = max(earliest[i], end)
		}
	}
	// None ended after the next began; latest is the latest beginning of the next,
	// then the one that was chosen for it.
	latest, next := t.list[n].Began+t.list[n].Late, t.list[n].Began
	for i := n - 1; i >= first; i-- {
		b := &t.list[i]
		latest, next = latest-b.Length, next-b.Length
		guess := next
		if b.Claim != 0 {
			guess = min(next, max(b.Claim, earliest[i]))
		}
		b.Began = max(guess, 1)
		b.Early, b.Late = max(b.Began-earliest[i], 0), max(latest-b.Began, 0)
		next = b.Began
	}
}

// recall enters a boot of which the table knows nothing: it is taken to have lasted
// for up, just before the oldest known. That one is settled.
func (t *boots) recall(m mark, up int64) {
	began := max(t.list[0].Began-up, 1)
	t.list = append([]boot{{Name: m, Began: began, Early: forgotten.Milliseconds(), Forgotten: true}}, t.list...)
	t.dirty = true
}

// undate lets the urgent records of a boot go without the times that are in doubt.
func (t *boots) undate(i int) {
	t.list[i].Undated, t.dirty = true, true
	for j := range t.list {
		if t.list[j].Began == 0 {
			t.list[i].DatedTo = t.list[j].Scale
			return
		}
	}
}

// onScale turns a time of the queue's own scale into the boot it lies in (-1: none
// that is known) and the uptime there.
func (t *boots) onScale(ms int64) (i int, up int64) {
	for i := len(t.list) - 1; i >= 0; i-- {
		if !t.list[i].Forgotten && ms >= t.list[i].Scale {
			return i, ms - t.list[i].Scale
		}
	}
	return -1, ms
}
