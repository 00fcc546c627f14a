package uplink

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// TestSessionNumbersGrowOverRestarts: the end of an old session must not mark the
// new one offline, so a number is never used twice, also when the state folder was
// not there at first.
func TestSessionNumbersGrowOverRestarts(t *testing.T) {
	cfg := Config{
		Serial: "GW-0001", AuthURL: "https://auth.example", Queue: &fakeQueue{}, FS: disk.OS, Dir: filepath.Join(t.TempDir(), "state"),
		TLS:   func(string) *tls.Config { return nil },
		State: func(uint64, bool) []byte { return nil },
		Clock: clock.System, Rand: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	}
	last := uint64(0)
	for range 3 {
		s, err := NewSession(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n := s.numbers.next()
			if n <= last {
				t.Fatalf("session number %d after %d", n, last)
			}
			last = n
		}
	}
}

// saying is a life of what a session keeps on disk: numbers over several runs, more
// of them than one reservation has, and assignments. used is the last number that an
// endpoint may have heard, and cached what adopt has promised to remember.
func saying(d *faultdisk.Disk, runs int) (used uint64, cached string) {
	log := slog.New(slog.DiscardHandler)
	alive := func() bool { _, err := d.Stat("/"); return err == nil } // a number that nobody could send was not used
	for run := range runs {
		if disk.MkdirAll(d, "/var/state", 0o700) != nil {
			return used, cached
		}
		n, assigned := newNumbers(d, "/var/state", log), newDirector(nil, d, "/var/state", log)
		for range reserveSessions + 1 {
			if number := n.next(); alive() {
				used = number
			}
		}
		host := fmt.Sprintf("endpoint%d.test:8883", run)
		if assigned.adopt(Assignment{Endpoint: "mqtts://" + host}); alive() {
			cached = host
		}
	}
	return used, cached
}

// cutSayings cuts the power at each operation of such a life, and says what is wrong
// with what the next run finds, or "".
func cutSayings(prepare func(*faultdisk.Disk)) (wrong string) {
	whole := faultdisk.New()
	prepare(whole)
	saying(whole, 3)
	for n := 1; n <= whole.Operations()+1; n++ {
		for seed := range uint64(8) {
			d := faultdisk.New()
			prepare(d)
			d.CutAt(n)
			used, cached := saying(d, 3)
			after, log := d.AfterCut(seed), slog.New(slog.DiscardHandler)
			found := newDirector(nil, after, "/var/state", log)
			switch next := newNumbers(after, "/var/state", log).next(); {
			case next <= used:
				return fmt.Sprintf("cut at %d, seed %d: session number %d after %d", n, seed, next, used)
			case found.host < cached:
				return fmt.Sprintf("cut at %d, seed %d: assigned to %q, remembered %q", n, seed, cached, found.host)
			}
		}
	}
	return ""
}

// TestSessionNumbersAndAssignmentSurvivePowerCuts, and without any one sync some cut
// has a number used again or an assignment forgotten.
func TestSessionNumbersAndAssignmentSurvivePowerCuts(t *testing.T) {
	if wrong := cutSayings(func(*faultdisk.Disk) {}); wrong != "" {
		t.Fatal(wrong)
	}
	d := faultdisk.New()
	saying(d, 3)
	sites := d.SyncSites()
	if len(sites) < 6 { // file and folder of each, and the folders above
		t.Fatalf("the life syncs at %q only", sites)
	}
	for _, site := range sites {
		wrong := cutSayings(func(d *faultdisk.Disk) { d.IgnoreSync(site) })
		if wrong == "" {
			t.Errorf("without the sync at %s every cut is survived", site)
		}
		t.Logf("%s: %s", site, wrong)
	}
}
