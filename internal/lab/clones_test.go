package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/status"
	"penstock/internal/telemetry"
)

// copyState copies a gateway's state folder as a card is copied, modes and all.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := fs.WalkDir(os.DirFS(from), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, name), info.Mode())
	}); err != nil {
		t.Fatal(err)
	}
}

// TestTwoGatewaysWithOneIdentityAndOneQueue copies a gateway's card, readings that
// wait on it included, and lets both live: the original where it was, the copy at
// other pumps. What both have read is in the store exactly once, and somebody is
// told.
func TestTwoGatewaysWithOneIdentityAndOneQueue(t *testing.T) {
	t.Parallel()
	site := up(t, func(s *Site) { s.Genibus = 0 })
	// While the backend is away readings pile up, which the copy has, too.
	site.CloudProc.Kill()
	if err := await(t.Context(), "readings to pile up", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(t.Context())
		return err == nil && waiting(s.Queue) >= 2, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "penstock-site-")
	if err != nil {
		t.Fatal(err)
	}
	clone := &Site{Dir: dir, Programs: site.Programs, Period: site.Period, Pumps: 2, First: 11, Beside: site}
	t.Cleanup(func() {
		clone.Abandon()
		if t.Failed() && clone.GatewayProc != nil {
			t.Logf("the clone said last:\n%s", clone.GatewayProc.Tail())
		}
		os.RemoveAll(dir)
	})
	copyState(t, site.path("gateway"), clone.path("gateway"))
	if err := site.StartCloud(t.Context(), anywhere); err != nil {
		t.Fatal(err)
	}
	if err := clone.StartPumps(t.Context()); err != nil {
		t.Fatal(err)
	}
	var original telemetry.Catalogue
	withStore(t, site, func(db *store.Store) {
		if original, err = db.Catalogue(t.Context(), Serial); err != nil {
			t.Fatal(err)
		}
	})
	for _, s := range []*Site{site, clone} {
		if err := s.StartGateway(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	signs := []string{"is known with other content", "sessions take each other over: 3 times"}
	withStore(t, site, func(db *store.Store) {
		within, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := await(within, "both signs of a clone", site.CloudProc, func() (bool, error) {
			alarms, err := db.Alarms(within, Serial)
			return err == nil && told(alarms, signs...), errors.Join(err, fmt.Errorf("alarms: %v", alarms))
		}); err != nil {
			t.Fatal(err)
		}
	})
	seenOnThePage(t, site.Addresses().Web, "#alarms:not([hidden])", "is this identity in use twice")

	// Each alone gets rid of what it has, the clone first.
	for _, s := range []*Site{site, clone} {
		if err := s.PumpsProc.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty(t, clone)
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty(t, site)
	if err := site.CloudProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	withStore(t, site, func(db *store.Store) {
		copied := other(original, clone.First-1)
		served, err := servedOf(site.ServedLog(), "bus1", original, site.starts)
		if err != nil {
			t.Fatal(err)
		}
		more, err := servedOf(clone.ServedLog(), "bus1", copied, clone.starts)
		if err != nil {
			t.Fatal(err)
		}
		if len(served) == 0 || len(more) == 0 {
			t.Fatalf("%d and %d values were served", len(served), len(more))
		}
		var stored []Stored
		if err := db.Readings(t.Context(), Serial, func(r store.Reading) {
			stored = append(stored, Stored{SeriesKey{r.Pump, r.Point}, r.Time, r.Raw, r.Quality})
		}); err != nil {
			t.Fatal(err)
		}
		gaps, err := db.Gaps(t.Context(), Serial, time.Unix(0, 0), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		periods := map[SeriesKey]time.Duration{}
		for _, g := range slices.Concat(original.Groups, copied.Groups) {
			for _, s := range g.Series {
				periods[SeriesKey{s.Pump, s.Point}] = g.Period
			}
		}
		v := Judge(slices.Concat(served, more), stored, gaps, periods)
		t.Logf("%d served, %d stored, %d wrong, %d missing, %d discarded, %d in gaps", v.Served, v.Stored, v.Wrong, v.Missing, v.Discarded, v.Excused)
		for _, f := range v.Faults {
			t.Error(f)
		}
		if v.Wrong > 0 || v.Missing > 0 {
			t.Error("the store does not hold what the pumps served")
		}
	})
}

// waiting is how many records wait in a queue.
func waiting(q status.Queue) (n uint64) {
	for _, l := range q.Lanes {
		n += l.Records
	}
	return n
}

// empty waits until a gateway has delivered everything, and stops it.
func empty(t *testing.T, site *Site) {
	t.Helper()
	within, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("not empty within two minutes"))
	defer cancel()
	if err := await(within, "the queue to be empty", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(within)
		return err == nil && s.Uplink.State == "connected" && waiting(s.Queue) == 0, errors.Join(err, fmt.Errorf("%d records wait, it is %s", waiting(s.Queue), s.Uplink.State))
	}); err != nil {
		t.Fatal(err)
	}
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// told tells whether each of the signs is in an alarm.
func told(alarms []store.Alarm, signs ...string) bool {
	for _, sign := range signs {
		if !slices.ContainsFunc(alarms, func(a store.Alarm) bool { return strings.Contains(a.Text, sign) }) {
			return false
		}
	}
	return true
}

// other is a catalogue of pumps whose addresses are higher by so much.
func other(c telemetry.Catalogue, by int) telemetry.Catalogue {
	ids := map[string]string{}
	var o telemetry.Catalogue
	for _, p := range c.Pumps {
		id := fmt.Sprintf("%s-%d", p.Bus, p.Address+by)
		ids[p.ID] = id
		p.ID, p.Address = id, p.Address+by
		o.Pumps = append(o.Pumps, p)
	}
	for _, g := range c.Groups {
		g.Series = slices.Clone(g.Series)
		for i := range g.Series {
			g.Series[i].Pump = ids[g.Series[i].Pump]
		}
		o.Groups = append(o.Groups, g)
	}
	return o
}
