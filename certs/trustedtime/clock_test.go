package trustedtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// board is a machine: what its clock shows, how long it has been up, and which of
// its boots this is.
type board struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
	name string

	kept   bool
	asleep func() // called when somebody has slept
}

var boots atomic.Int32

// booted is a board that shows at its start that it is wall.
func booted(wall time.Time) *board {
	return &board{wall: wall, name: fmt.Sprintf("boot %d", boots.Add(1))}
}

func (b *board) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wall
}

func (b *board) Uptime() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up
}

func (b *board) Boot() string { return b.name }
func (b *board) Kept() bool   { return b.kept }

func (b *board) Sleep(ctx context.Context, d time.Duration) error {
	b.pass(d)
	if b.asleep != nil {
		b.asleep()
	}
	return ctx.Err()
}

// pass lets time go by.
func (b *board) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wall, b.up = b.wall.Add(d), b.up+d
}

// set sets the clock on the wall.
func (b *board) set(wall time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wall = wall
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
	asked := b.Uptime()
	b.pass(time.Second)
	if err := c.Raise(now, asked, b.Uptime()); err != nil {
		t.Fatal(err)
	}
}

func about(a, b time.Time, by time.Duration) bool { return a.Sub(b).Abs() <= by }

func TestABoardWithoutAClockStartsAtItsFloor(t *testing.T) {
	b, d := booted(time.Unix(0, 0)), faultdisk.New()
	c := open(t, b, d)
	if got := c.Now(); !got.Equal(built) || c.Known() {
		t.Errorf("before anything is known it is %s, known %v; want the firmware's date", got, c.Known())
	}
	b.pass(time.Hour)
	if got := c.Now(); !about(got, built.Add(time.Hour), 4*time.Second) {
		t.Errorf("an hour later it is %s", got)
	}
	raise(t, c, b, truth)
	if got := c.Now(); !about(got, truth, time.Second) || !c.Known() {
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
	c.Correct(NTP, lie, b.Uptime())
	if got := c.Now(); !about(got, lie, time.Second) {
		t.Errorf("the forged time is %s", got)
	}
	if got := c.Status().Floor; !about(got, floor, time.Second) {
		t.Errorf("NTP moved the floor from %s to %s", floor, got)
	}
	b.pass(time.Minute)
	c.Correct(NTP, truth.Add(time.Minute), b.Uptime())
	if got := c.Now(); !about(got, truth.Add(time.Minute), 2*time.Second) {
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
		c.Correct(s, truth.AddDate(-1, 0, 0), b.Uptime())
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
	asked := b.Uptime()
	b.pass(maxError + time.Second)
	if err := c.Raise(truth, asked, b.Uptime()); err == nil || c.Known() {
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
			asked := b.Uptime()
			if c.Raise(now, asked, b.Uptime()) != nil {
				return promised
			}
			if i == 0 {
				promised = now // the first is kept at once
			}
			b.pass(persistEvery + time.Minute)
			floor := c.Status().Floor
			if c.Save() != nil {
				return promised
			}
			promised = floor
		}
		return promised
	}
	whole := faultdisk.New()
	life(whole)
	if n := whole.Operations(); n < 20 {
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
		if tc.moves && !about(c.Now(), truth, time.Second) {
			t.Errorf("%v: it is %s, in truth %s", tc.servers, c.Now(), truth)
		}
	}
}

// TestTheFloorRisesOnDiskWhileNobodyTellsTheTime: a gateway that has been without
// its cloud for a month, and then without power, does not start a month ago.
func TestTheFloorRisesOnDiskWhileNobodyTellsTheTime(t *testing.T) {
	b, d := booted(time.Unix(0, 0)), faultdisk.New()
	c := open(t, b, d)
	raise(t, c, b, truth)
	const month = 30 * 24 * time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	b.asleep = func() {
		if b.Uptime() > month {
			cancel()
		}
	}
	c.Persist(ctx)
	again := open(t, booted(time.Unix(0, 0)), d.AfterCut(0))
	if got, want := again.Now(), truth.Add(month); got.After(want.Add(persistEvery)) || !about(got, want, month/1000+persistEvery) {
		t.Errorf("after a month it starts at %s, in truth it is %s", got, want)
	}
}

func TestAProcessThatIsStartedAgainKnowsTheTimeOfItsBoot(t *testing.T) {
	b, d := booted(time.Unix(0, 0)), faultdisk.New()
	c := open(t, b, d)
	if _, known, sure := c.Booted(); known || sure {
		t.Error("before anybody has told it, the time of the boot is known")
	}
	raise(t, c, b, truth)
	want, _, _ := c.Booted()
	b.pass(time.Hour)
	b.set(time.Unix(5, 0)) // which is nobody's affair
	again := open(t, b, d.AfterCut(0))
	at, known, sure := again.Booted()
	if !known || !sure || !about(at, want, time.Millisecond) || !again.Known() || !about(again.Now(), truth.Add(time.Hour), time.Second) {
		t.Errorf("started again, it is %s and was booted at %s (known %v, sure %v); want %s", again.Now(), at, known, sure, want)
	}
	if other := open(t, booted(time.Unix(0, 0)), d.AfterCut(0)); other.Known() {
		t.Error("another boot takes the time over")
	}
}

// TestNTPDoesNotStampAgainstSignedTime: the lie of the year 2099 moves the clock, as
// it may, but what is written for good meanwhile follows what was signed.
func TestNTPDoesNotStampAgainstSignedTime(t *testing.T) {
	b := booted(time.Unix(0, 0))
	c := open(t, b, faultdisk.New())
	raise(t, c, b, truth)
	want, _, _ := c.Booted()
	c.Correct(NTP, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), b.Uptime())
	if at, _, sure := c.Booted(); !sure || !about(at, want, time.Second) {
		t.Errorf("it was booted at %s, by NTP's lie at %s", want, at)
	}
	c.Correct(NTP, truth.Add(3*time.Second), b.Uptime())
	if at, _, _ := c.Booted(); !about(at, want.Add(3*time.Second), time.Second) {
		t.Errorf("an answer that agrees is not followed: %s", at.Sub(want))
	}
}

// TestABetterClockIsNotCorrectedByAWorseOne: an answer that was half a second under
// way cannot improve a clock that NTP keeps to the millisecond.
func TestABetterClockIsNotCorrectedByAWorseOne(t *testing.T) {
	b := booted(truth)
	c := open(t, b, faultdisk.New())
	raise(t, c, b, truth.Add(200*time.Millisecond))
	if got := c.Now(); !got.Equal(b.Now()) || !c.Known() {
		t.Errorf("the machine says %s, the clock %s", b.Now(), got)
	}
	b.set(truth.Add(time.Hour))
	if got := c.Now(); got.After(truth.Add(time.Minute)) {
		t.Errorf("and then follows it to %s", got)
	}
}

func TestTheMachinesClaimIsPossibleFromTheFloorOn(t *testing.T) {
	for _, tc := range []struct {
		wall     time.Time
		possible bool
	}{{time.Unix(0, 0), false}, {built.Add(-time.Second), false}, {truth, true}} {
		b := booted(tc.wall)
		b.pass(time.Minute)
		b.set(tc.wall)
		at, possible := open(t, b, faultdisk.New()).Claim()
		if possible != tc.possible || !at.Equal(tc.wall.Add(-time.Minute)) {
			t.Errorf("a machine that says %s: booted %s, possible %v", tc.wall, at, possible)
		}
	}
}

// TestAMachineThatIsKeptRightKnowsTheTime: but it is the last to be asked, and what it
// says is not for good.
func TestAMachineThatIsKeptRightKnowsTheTime(t *testing.T) {
	b := booted(truth)
	c := open(t, b, faultdisk.New())
	if c.TakeKept() || c.Known() {
		t.Error("a clock that nobody keeps is believed")
	}
	b.kept = true
	floor := c.Status().Floor
	if !c.TakeKept() || !about(c.Now(), truth, time.Second) || c.Status().Source != Kept || !c.Status().Floor.Equal(floor) {
		t.Errorf("%+v", c.Status())
	}
	if _, known, sure := c.Booted(); !known || sure {
		t.Errorf("known %v, sure %v", known, sure)
	}
	raise(t, c, b, truth.Add(time.Hour))
	if b.set(truth); !c.TakeKept() || c.Status().Source != Signed {
		t.Error("it counts for more than signed time")
	}
}

// TestABetterAnswerCountsForMore: of two that agree, the one that was less long under
// way; of two that do not, the last.
func TestABetterAnswerCountsForMore(t *testing.T) {
	b := booted(time.Unix(0, 0))
	c := open(t, b, faultdisk.New())
	began := truth.Add(-b.Uptime())
	answer := func(there, back time.Duration) {
		t.Helper()
		asked := b.Uptime()
		b.pass(there)
		signed := began.Add(b.Uptime())
		b.pass(back)
		if err := c.Raise(signed, asked, b.Uptime()); err != nil {
			t.Fatal(err)
		}
	}
	off := func() time.Duration { return c.Now().Sub(began.Add(b.Uptime())) }
	answer(0, 6*time.Second)
	if off() != -3*time.Second || c.Doubt() != 3*time.Second {
		t.Errorf("%v off, in doubt by %v", off(), c.Doubt())
	}
	answer(10*time.Millisecond, 10*time.Millisecond)
	if off().Abs() > 10*time.Millisecond || c.Doubt() != 10*time.Millisecond {
		t.Errorf("after a good answer: %v off, in doubt by %v", off(), c.Doubt())
	}
	b.pass(time.Hour)
	answer(5*time.Second, time.Second)
	if off().Abs() > 10*time.Millisecond || c.Doubt() > time.Second {
		t.Errorf("after a worse one: %v off, in doubt by %v", off(), c.Doubt())
	}
	began = began.Add(time.Minute) // which has not been so all the while
	answer(time.Second, 3*time.Second)
	if off().Abs() > 2*time.Second {
		t.Errorf("an answer that contradicts: %v off", off())
	}
}
