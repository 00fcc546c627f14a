package trustedtime

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// board is a machine's clock: what it shows at its start, and the time that has
// passed since, which is real as far as the monotonic reading goes.
type board struct {
	mu    sync.Mutex
	shift time.Duration // of what it shows from the monotonic truth
	boot  time.Time
}

// booted is a board that says at its start that it is wall.
func booted(wall time.Time) *board { return &board{boot: wall} }

var origin = time.Now()

// Now carries a monotonic reading, as the machine's does.
func (b *board) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return origin.Add(b.boot.Sub(origin.Round(0))).Add(b.shift)
}

func (b *board) Sleep(ctx context.Context, d time.Duration) error {
	b.pass(d)
	return ctx.Err()
}

// pass lets time go by.
func (b *board) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shift += d
}

var (
	built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	truth = time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)
	quiet = slog.New(slog.DiscardHandler)
)

func open(t *testing.T, b *board, fsys disk.FS) *Clock {
	t.Helper()
	c, err := Open(b, fsys, "/state", built, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// raise lets the clock hear signed time that was a second under way.
func raise(t *testing.T, c *Clock, b *board, now time.Time) {
	t.Helper()
	asked := b.Now()
	b.pass(time.Second)
	if err := c.Raise(now, asked, b.Now()); err != nil {
		t.Fatal(err)
	}
}

func near(a, b time.Time, by time.Duration) bool { return a.Sub(b).Abs() <= by }

func TestABoardWithoutAClockStartsAtItsFloor(t *testing.T) {
	b, d := booted(time.Unix(0, 0)), faultdisk.New()
	c := open(t, b, d)
	if got := c.Now(); !got.Equal(built) || c.Known() {
		t.Errorf("before anything is known it is %s, known %v; want the firmware's date", got, c.Known())
	}
	b.pass(time.Hour)
	if got := c.Now(); !near(got, built.Add(time.Hour), 4*time.Second) {
		t.Errorf("an hour later it is %s", got)
	}
	raise(t, c, b, truth)
	if got := c.Now(); !near(got, truth, time.Second) || !c.Known() {
		t.Errorf("signed time says %s, the clock %s", truth, got)
	}
	// The power goes; a year in a drawer; the board boots in 1970 again.
	again := open(t, booted(time.Unix(0, 0)), d.AfterCut(0))
	if got := again.Now(); got.Before(truth) || again.Known() {
		t.Errorf("after the drawer it is %s, known %v; the floor was %s", got, again.Known(), truth)
	}
}

// TestAForgedAnswerLastsNoLongerThanTheForger: NTP says 2099, then the truth.
func TestAForgedAnswerLastsNoLongerThanTheForger(t *testing.T) {
	b, d := booted(truth), faultdisk.New()
	c := open(t, b, d)
	raise(t, c, b, truth)
	floor := c.Status().Floor
	lie := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	c.Correct(NTP, lie, b.Now())
	if got := c.Now(); !near(got, lie, time.Second) {
		t.Errorf("the forged time is %s", got)
	}
	if got := c.Status().Floor; !near(got, floor, time.Second) {
		t.Errorf("NTP moved the floor from %s to %s", floor, got)
	}
	b.pass(time.Minute)
	c.Correct(NTP, truth.Add(time.Minute), b.Now())
	if got := c.Now(); !near(got, truth.Add(time.Minute), 2*time.Second) {
		t.Errorf("after the true answer it is %s", got)
	}
	if again := open(t, booted(truth), d.AfterCut(0)); again.Now().After(truth.Add(time.Hour)) {
		t.Errorf("the lie has survived on disk: %s", again.Now())
	}
}

func TestNobodySetsTheClockBehindItsFloor(t *testing.T) {
	b := booted(truth)
	c := open(t, b, faultdisk.New())
	raise(t, c, b, truth)
	for _, s := range []Source{NTP, Modem} {
		c.Correct(s, truth.AddDate(-1, 0, 0), b.Now())
		if got := c.Now(); got.Before(truth) {
			t.Errorf("%s set it back to %s", s, got)
		}
	}
	// An answer that was recorded long ago does not lower it either.
	raise(t, c, b, truth.AddDate(0, -1, 0))
	if got := c.Now(); got.Before(truth) {
		t.Errorf("old signed time set it back to %s", got)
	}
}

func TestAFastCrystalDoesNotCarryTheFloorPastTheTruth(t *testing.T) {
	b := booted(truth)
	c := open(t, b, faultdisk.New())
	raise(t, c, b, truth)
	const month = 30 * 24 * time.Hour
	b.pass(month + month/20_000) // 50 ppm fast
	if got := c.Status().Floor; got.After(truth.Add(month)) {
		t.Errorf("after a month the floor is %s, the truth %s", got, truth.Add(month))
	}
}

func TestAnAnswerThatWasLongUnderWayIsRefused(t *testing.T) {
	b := booted(truth)
	c := open(t, b, faultdisk.New())
	asked := b.Now()
	b.pass(maxError + time.Second)
	if err := c.Raise(truth, asked, b.Now()); err == nil || c.Known() {
		t.Error("an answer of eleven seconds ago was believed")
	}
}

// TestThePowerMayGoAtEveryWriteOfTheFloor: what was kept once is never lost.
func TestThePowerMayGoAtEveryWriteOfTheFloor(t *testing.T) {
	life := func(d *faultdisk.Disk) (promised time.Time) {
		b := booted(truth)
		c, err := Open(b, d, "/state", built, quiet)
		if errors.Is(err, faultdisk.ErrPowerCut) {
			return promised
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			now := truth.Add(time.Duration(i) * (persistEvery + time.Minute))
			asked := b.Now()
			if c.Raise(now, asked, b.Now()) != nil {
				return promised
			}
			promised = now
			b.pass(persistEvery + time.Minute)
		}
		return promised
	}
	whole := faultdisk.New()
	life(whole)
	if n := whole.Operations(); n < 12 {
		t.Fatalf("the life has %d operations only", n)
	}
	for n := 1; n <= whole.Operations(); n++ {
		for seed := range uint64(6) {
			d := faultdisk.New()
			d.CutAt(n)
			promised := life(d)
			c, err := Open(booted(time.Unix(0, 0)), d.AfterCut(seed), "/state", built, quiet)
			if err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			if got := c.Now(); got.Before(promised) || got.Before(built) {
				t.Fatalf("cut at %d, seed %d: it is %s, and had been %s", n, seed, got, promised)
			}
		}
	}
}

func TestMostTimeServersMustAgree(t *testing.T) {
	offsets := map[string]time.Duration{"a": 10 * time.Second, "b": 10*time.Second + 300*time.Millisecond, "c": 10*time.Second + 500*time.Millisecond,
		"liar": 70 * 365 * 24 * time.Hour, "other liar": -time.Hour}
	ask := func(_ context.Context, s string) (time.Duration, error) {
		if off, ok := offsets[s]; ok {
			return off, nil
		}
		return 0, errors.New("no answer")
	}
	for _, tc := range []struct {
		servers []string
		moves   bool
	}{
		{[]string{"a"}, true},
		{[]string{"a", "b", "c"}, true},
		{[]string{"a", "b", "liar"}, true},
		{[]string{"a", "b", "c", "liar", "other liar"}, true},
		{[]string{"a", "b", "dead"}, true},
		{[]string{"a", "liar"}, false},
		{[]string{"a", "dead"}, false},
		{[]string{"a", "dead", "liar"}, false},
		{[]string{"dead"}, false},
	} {
		b := booted(truth.Add(-10 * time.Second))
		c := open(t, b, faultdisk.New())
		err := AskNTP(t.Context(), c, tc.servers, ask)
		if (err == nil) != tc.moves || c.Known() != tc.moves {
			t.Errorf("%v: %v, known %v", tc.servers, err, c.Known())
		}
		if tc.moves && !near(c.Now(), truth, time.Second) {
			t.Errorf("%v: it is %s, in truth %s", tc.servers, c.Now(), truth)
		}
	}
}
