package gateway

import (
	"log/slog"
	"testing"
	"time"

	"penstock/fieldbus/lateness"
	"penstock/internal/disk"
	"penstock/internal/disk/memdisk"
)

func TestWhatWasLearntOfAPumpSurvivesARestart(t *testing.T) {
	fsys := memdisk.New()
	log := slog.New(slog.DiscardHandler)
	p := openPaces(fsys, "/state", log)
	if p.of("a") != nil {
		t.Fatal("something is known of a pump that was never asked")
	}
	late := lateness.Learned{Reply: 30 * time.Millisecond, Late: 1400 * time.Millisecond}
	p.update(map[string]lateness.Learned{"a": late})
	first := p.begin()

	p = openPaces(fsys, "/state", log)
	if l := p.of("a"); l == nil || *l != late {
		t.Errorf("after a restart: %+v", l)
	}
	if again := p.begin(); again == first {
		t.Errorf("two starts have the number %d", again)
	}

	if err := disk.WriteFile(fsys, "/state/paces.json", []byte(`{"run": "x`), 0o600); err != nil {
		t.Fatal(err)
	}
	if p = openPaces(fsys, "/state", log); p.of("a") != nil || p.begin() == 0 {
		t.Error("a damaged file is not begun anew")
	}
}

func TestSmallChangesAreNotWritten(t *testing.T) {
	fsys := memdisk.New()
	p := openPaces(fsys, "/state", slog.New(slog.DiscardHandler))
	p.update(map[string]lateness.Learned{"a": {Reply: 30 * time.Millisecond}})
	before, err := fsys.Stat("/state/paces.json")
	if err != nil {
		t.Fatal(err)
	}
	p.update(map[string]lateness.Learned{"a": {Reply: 31 * time.Millisecond}})
	after, err := disk.ReadFile(fsys, "/state/paces.json")
	if err != nil || int64(len(after)) != before.Size() || p.kept.Pumps["a"].Reply != 30*time.Millisecond {
		t.Errorf("a change of 1 ms was written: %s, %v", after, err)
	}
}
