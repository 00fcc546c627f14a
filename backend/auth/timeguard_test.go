package auth

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/memdisk"
)

const guardFile = "signed-time.json"

func TestAttackAClockThatRunsAheadIsNotSigned(t *testing.T) {
	start := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		off  time.Duration // of the clock since the last signed time, over a restart
		ok   bool
	}{
		{"a minute later", time.Minute, true},
		{"after six days off", 6 * 24 * time.Hour, true},
		{"a little behind", -time.Minute, true},
		{"eight days later", 8 * 24 * time.Hour, false},
		{"ten years later", 10 * 365 * 24 * time.Hour, false},
		{"an hour earlier", -time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys := memdisk.New()
			open := func() *TimeGuard {
				g, err := NewTimeGuard(fsys, guardFile, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				return g
			}
			if err := open().check(start); err != nil {
				t.Fatalf("the first time of all: %v", err)
			}
			now := start.Add(tt.off)
			for range 2 { // a restart is no confirmation
				if err := open().check(now); (err == nil) != tt.ok || err != nil && !errors.Is(err, errClock) {
					t.Fatalf("%v", err)
				}
			}
			if tt.ok {
				return
			}
			g := open()
			if err := g.check(start.Add(time.Minute)); err != nil {
				t.Errorf("the clock that was set right again: %v", err)
			}
			if g = open(); g.check(now) == nil {
				t.Error("signed before it was confirmed")
			}
			if err := ConfirmTime(fsys, guardFile, now); err != nil {
				t.Fatal(err)
			}
			if err := g.check(now.Add(time.Second)); err != nil {
				t.Errorf("confirmed, and refused: %v", err)
			}
		})
	}
}

func TestAttackAClockThatIsSetWhileTheBackendRunsIsNotSigned(t *testing.T) {
	g, err := NewTimeGuard(memdisk.New(), guardFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	base := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	var passed time.Duration // by the machine's running time
	g.elapsed = func(time.Time, time.Time) time.Duration { return passed }
	if err := g.check(base); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		passed, set time.Duration
		ok          bool
	}{
		{"no time at all", 0, 0, true},
		{"corrected by a minute", time.Hour, time.Minute, true},
		{"an hour ahead", 2 * time.Hour, time.Hour, false},
		{"set right again", 3 * time.Hour, 0, true},
		{"an hour behind", 4 * time.Hour, -time.Hour, false},
		{"a year of running", 365 * 24 * time.Hour, time.Hour, true},
		{"a day ahead after a year", 366 * 24 * time.Hour, 24 * time.Hour, false},
	} {
		passed = tt.passed
		if err := g.check(base.Add(tt.passed + tt.set)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestADamagedRecordOfTheSignedTimeIsNoFreshStart(t *testing.T) {
	fsys := memdisk.New()
	if err := disk.WriteFile(fsys, guardFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewTimeGuard(fsys, guardFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a damaged file is taken for none")
	}
}
