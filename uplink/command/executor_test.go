package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
)

// world is what outlives a gateway's process: the pumps, and what the endpoint
// has heard.
type world struct {
	mu      sync.Mutex
	told    map[telemetry.CommandID]int
	order   []string
	heard   map[telemetry.CommandID][]telemetry.CommandResult
	trusted bool
	takes   time.Duration // to carry a command out
	deaf    error         // of Report
	gone    func() bool   // the gateway has lost power, and does nothing; nil: never
}

func newWorld() *world {
	return &world{told: map[telemetry.CommandID]int{}, heard: map[telemetry.CommandID][]telemetry.CommandResult{}, trusted: true}
}

func (w *world) act(ctx context.Context, c telemetry.Command) telemetry.CommandResult {
	w.mu.Lock()
	if w.gone != nil && w.gone() {
		w.mu.Unlock()
		return telemetry.CommandResult{}
	}
	w.told[c.ID]++
	w.order = append(w.order, c.Pump+" "+c.Value)
	takes := w.takes
	w.mu.Unlock()
	if clock.System.Sleep(ctx, takes) != nil {
		return telemetry.CommandResult{Outcome: telemetry.OutcomeUnknown, Text: "stopped"}
	}
	return telemetry.CommandResult{Outcome: telemetry.Done, Raw: 55, Text: c.Value}
}

// carriedOut is what the pumps were told so far, in order.
func (w *world) carriedOut() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

func (w *world) report(r telemetry.CommandResult) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone != nil && w.gone() {
		return nil
	}
	if w.deaf == nil {
		w.heard[r.ID] = append(w.heard[r.ID], r)
	}
	return w.deaf
}

func (w *world) outcomes(id telemetry.CommandID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, r := range w.heard[id] {
		all = append(all, r.Outcome.String())
	}
	return strings.Join(all, " ")
}

// start runs an executor on a disk; stop ends it.
func (w *world) start(t *testing.T, fsys disk.FS) (e *Executor, stop func()) {
	t.Helper()
	e, err := New(Config{FS: fsys, Dir: "/state", Act: w.act, Report: w.report, Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		Trusted: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.trusted }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { e.Run(ctx); close(ended) }()
	synctest.Wait()
	return e, func() { cancel(); <-ended }
}

func cmd(n int, change ...func(*telemetry.Command)) telemetry.Command {
	c := telemetry.Command{ID: telemetry.CommandID{byte(n), byte(n >> 8), 15: 1}, Pump: "bus1-1", Name: "setpoint", Value: fmt.Sprint(n), Expires: time.Now().Add(time.Hour)}
	for _, f := range change {
		f(&c)
	}
	return c
}

func TestACommandIsCarriedOutOnceHoweverOftenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		w.takes = time.Second
		e, stop := w.start(t, d)
		c := cmd(1)
		e.Take(c)
		e.Take(c) // while it waits or is under way
		time.Sleep(2 * time.Second)
		e.Take(c) // after it was answered: the result may not have arrived
		synctest.Wait()
		stop()
		e, stop = w.start(t, d)
		e.Take(c) // after a restart
		synctest.Wait()
		stop()
		if w.told[c.ID] != 1 || strings.Contains(w.outcomes(c.ID), "unknown") || !strings.HasPrefix(w.outcomes(c.ID), "done done") {
			t.Errorf("told %d times; heard %s", w.told[c.ID], w.outcomes(c.ID))
		}
	})
}

func TestCommandsOfAPumpKeepTheirOrderAndPumpsDoNotWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = 10 * time.Second
		e, stop := w.start(t, faultdisk.New())
		for i := range 3 {
			e.Take(cmd(i))
		}
		e.Take(cmd(9, func(c *telemetry.Command) { c.Pump = "bus1-2" }))
		synctest.Wait()
		if got := len(w.carriedOut()); got != 2 {
			t.Errorf("%d under way, want one for each pump", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		order := slices.DeleteFunc(w.carriedOut(), func(s string) bool { return s == "bus1-2 9" })
		if got := strings.Join(order, ","); got != "bus1-1 0,bus1-1 1,bus1-1 2" {
			t.Errorf("order %s", got)
		}
	})
}

func TestWhatMustNotBeCarriedOutIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		e, stop := w.start(t, faultdisk.New())
		defer stop()
		for i, try := range []struct {
			trusted bool
			change  func(*telemetry.Command)
			want    string
		}{
			{true, func(c *telemetry.Command) { c.Expires = time.Now() }, "expired"},
			{false, func(*telemetry.Command) {}, "clock_unknown"},
			{true, func(c *telemetry.Command) { c.Owner = 5 }, "done"},
			{true, func(c *telemetry.Command) { c.Owner = 4 }, "cancelled"},
		} {
			w.mu.Lock()
			w.trusted = try.trusted
			w.mu.Unlock()
			c := cmd(i, try.change)
			e.Take(c)
			synctest.Wait()
			if got := w.outcomes(c.ID); got != try.want {
				t.Errorf("%d: %s, want %s", i, got, try.want)
			}
			if (w.told[c.ID] > 0) != (try.want == "done") {
				t.Errorf("%s: the pump was told %d times", try.want, w.told[c.ID])
			}
			// The answer stands: it is not carried out later either.
			w.mu.Lock()
			w.trusted = true
			w.mu.Unlock()
			told := w.told[c.ID]
			e.Take(c)
			synctest.Wait()
			if w.told[c.ID] != told {
				t.Errorf("%s, and then the pump was told", try.want)
			}
		}
	})
}

func TestAResultThatTheDiskRefusesIsSaidLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		w.deaf = errors.New("disk full")
		e, stop := w.start(t, d)
		c := cmd(1)
		e.Take(c)
		time.Sleep(time.Minute)
		stop() // and it still was
		w.deaf = nil
		_, stop = w.start(t, d)
		synctest.Wait()
		stop()
		if got := w.outcomes(c.ID); got != "done" {
			t.Errorf("heard %q", got)
		}
	})
}

func TestACommandThatCannotBeWrittenDownIsNotCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		e, stop := w.start(t, d)
		d.SetReadOnly(true)
		c := cmd(1)
		e.Take(c)
		synctest.Wait()
		if w.told[c.ID] != 0 || w.outcomes(c.ID) != "" {
			t.Errorf("told %d times, heard %q", w.told[c.ID], w.outcomes(c.ID))
		}
		d.SetReadOnly(false)
		e.Take(c) // the endpoint sends it again
		synctest.Wait()
		stop()
		if w.told[c.ID] != 1 || w.outcomes(c.ID) != "done" {
			t.Errorf("told %d times, heard %q", w.told[c.ID], w.outcomes(c.ID))
		}
	})
}

func TestALostJournalPutsCommandsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		if err := d.MkdirAll("/state", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFile(d, "/state/commands.json", []byte("\x00\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		e, stop := w.start(t, d)
		defer stop()
		c := cmd(1)
		e.Take(c)
		time.Sleep(doubt)
		later := cmd(2)
		e.Take(later)
		synctest.Wait()
		if w.outcomes(c.ID) != "unknown" || w.outcomes(later.ID) != "done" {
			t.Errorf("heard %q, later %q", w.outcomes(c.ID), w.outcomes(later.ID))
		}
	})
}

func TestTheJournalIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		e, stop := w.start(t, d)
		take := func(from, to int) {
			for n := from; n < to; n++ {
				e.Take(cmd(n))
				synctest.Wait()
			}
		}
		take(0, most+10)
		if len(w.told) != most {
			t.Errorf("%d carried out while none could be forgotten", len(w.told))
		}
		time.Sleep(2 * time.Hour)
		take(1000, 1000+most)
		stop()
		if n := len(w.told); n != 2*most {
			t.Errorf("%d carried out", n)
		}
		if n := len(e.journal.book.Entries); n > most {
			t.Errorf("%d entries", n)
		}
	})
}

// live is a life of commands, with a restart in it; all are those that were sent.
func live(t *testing.T, d *faultdisk.Disk, w *world) (all []telemetry.Command) {
	w.gone = func() bool { _, err := d.Stat("/"); return err != nil }
	defer func() { w.gone = nil }()
	synctest.Test(t, func(t *testing.T) {
		for range 2 {
			e, err := New(Config{FS: d, Dir: "/state", Act: w.act, Report: w.report, Clock: clock.System, Log: slog.New(slog.DiscardHandler), Trusted: func() bool { return true }})
			if err != nil {
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { e.Run(ctx); close(ended) }()
			synctest.Wait()
			for range 3 {
				all = append(all, cmd(len(all)))
				e.Take(all[len(all)-1])
				time.Sleep(time.Second)
			}
			cancel()
			<-ended
		}
	})
	return all
}

// cutEverywhere cuts the power at each operation of a life of commands, starts again
// on what the disk kept, and has the endpoint send again what it has not heard of.
// wrong is the first thing that must not be, or "".
func cutEverywhere(t *testing.T, prepare func(*faultdisk.Disk)) (wrong string, cuts, unknown int) {
	whole := faultdisk.New()
	prepare(whole)
	live(t, whole, newWorld())
	for n := 1; n <= whole.Operations(); n++ {
		for seed := range uint64(4) {
			d, w := faultdisk.New(), newWorld()
			prepare(d)
			d.CutAt(n)
			// What is done at the moment of the cut may or may not have happened.
			all := live(t, d, w)
			before := maps.Clone(w.told)
			after := d.AfterCut(seed)
			fresh := telemetry.CommandID{}
			synctest.Test(t, func(t *testing.T) {
				e, stop := w.start(t, after)
				c := cmd(1000)
				fresh = c.ID
				e.Take(c)
				for _, c := range all {
					if w.outcomes(c.ID) == "" {
						e.Take(c)
					}
				}
				synctest.Wait()
				stop()
			})
			if heard := w.outcomes(fresh); heard != "done" { // the journal was lost, which puts all in doubt
				return fmt.Sprintf("cut at %d, seed %d: a new command is answered with %q", n, seed, heard), cuts, unknown
			}
			for _, c := range all {
				heard := w.outcomes(c.ID)
				if w.told[c.ID] > 1 || heard == "" {
					return fmt.Sprintf("cut at %d, seed %d: command %s: the pump was told %d times (%d before the cut), heard %q", n, seed, c.Value, w.told[c.ID], before[c.ID], heard), cuts, unknown
				}
				if strings.Contains(heard, "unknown") {
					unknown++
				}
			}
			cuts++
		}
	}
	return "", cuts, unknown
}

func TestThePowerMayFailAtEveryWrite(t *testing.T) {
	wrong, cuts, unknown := cutEverywhere(t, func(*faultdisk.Disk) {})
	if wrong != "" {
		t.Fatal(wrong)
	}
	t.Logf("%d cuts; %d outcomes were unknown", cuts, unknown)
	if unknown == 0 {
		t.Error("no cut met a command under way: the test proves little")
	}
}

// TestEverySyncOfTheJournalIsNeeded: without any one of them, some cut has a command
// carried out twice, or leaves a journal that cannot be read and so puts every
// command in doubt.
func TestEverySyncOfTheJournalIsNeeded(t *testing.T) {
	d := faultdisk.New()
	live(t, d, newWorld())
	lines := map[string]bool{}
	for _, site := range d.SyncSites() {
		line, _, _ := strings.Cut(site, " < ")
		lines[line] = true
	}
	if len(lines) < 3 { // the journal's file, its folder, and the folder that holds that
		t.Fatalf("the life syncs at %v only", lines)
	}
	for line := range lines {
		wrong, _, _ := cutEverywhere(t, func(d *faultdisk.Disk) { d.IgnoreSync(line) })
		if wrong == "" {
			t.Errorf("without the sync at %s every cut is survived", line)
		}
		t.Logf("%s: %s", line, wrong)
	}
}

func TestStoppingLeavesNothingUnsaid(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w, d := newWorld(), faultdisk.New()
			w.takes = 3 * time.Second
			var all []telemetry.Command
			for range 5 {
				e, stop := w.start(t, d)
				for _, c := range all {
					if w.outcomes(c.ID) == "" {
						e.Take(c)
					}
				}
				for range r.IntN(4) {
					c := cmd(len(all), func(c *telemetry.Command) { c.Pump = fmt.Sprint(r.IntN(2)) })
					all = append(all, c)
					e.Take(c)
				}
				time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
				stop()
			}
			e, stop := w.start(t, d)
			for _, c := range all {
				if w.outcomes(c.ID) == "" {
					e.Take(c)
				}
			}
			time.Sleep(time.Minute)
			stop()
			for _, c := range all {
				if w.told[c.ID] != 1 || w.outcomes(c.ID) == "" {
					t.Errorf("seed %d: told %d times, heard %q", seed, w.told[c.ID], w.outcomes(c.ID))
				}
			}
		})
	}
}

// TestAResultIsNotSaidAgainAtEveryStart: that it was handed on is written down.
func TestAResultIsNotSaidAgainAtEveryStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), faultdisk.New()
		c := cmd(1)
		e, stop := w.start(t, d)
		e.Take(c)
		time.Sleep(time.Second)
		stop()
		for range 3 {
			_, stop := w.start(t, d)
			time.Sleep(time.Second)
			stop()
		}
		if got := w.outcomes(c.ID); got != telemetry.Done.String() {
			t.Errorf("heard %q", got)
		}
	})
}
