package store_test

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// setClock is a clock that stands where it was set.
type setClock struct {
	clock.Clock
	ms atomic.Int64
}

func (c *setClock) Now() time.Time { return time.UnixMilli(c.ms.Load()).UTC() }

func clockAt(t time.Time) *setClock {
	c := &setClock{Clock: clock.System}
	c.ms.Store(t.UnixMilli())
	return c
}

func openAt(t *testing.T, path string, c clock.Clock) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// twoPumps is a catalogue in which set-points have these scales.
func twoPumps(t *testing.T, first, second telemetry.Scale) *wire.Catalogue {
	t.Helper()
	c, err := wire.NewCatalogue(telemetry.Catalogue{
		Pumps: []telemetry.Pump{{ID: "p1"}, {ID: "p2"}},
		Groups: []telemetry.Group{
			{Period: time.Second, Series: []telemetry.Series{{Pump: "p1", Point: "setpoint", Unit: "%", Scale: first}}},
			{Period: time.Second, Series: []telemetry.Series{{Pump: "p2", Point: "setpoint", Unit: "%", Scale: second}}},
			{Period: time.Hour, Series: []telemetry.Series{{Pump: "p2", Point: "energy", Unit: "kW.h", Scale: telemetry.Unit}}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reading is a block with one reading of each group that raws names.
func (g *gateway) reading(at time.Time, raws map[int]int64) []byte {
	b := wire.NewBuilder(g.catalogue)
	b.Open(at)
	for group, raw := range raws {
		b.Add(telemetry.Reading{Group: group, Slot: at, Raw: raw})
	}
	return g.publish(wire.KindBlock, b.Seal(at.Add(time.Second)))
}

// shown is the value of each point that a gateway has now.
func shown(t *testing.T, s *store.Store) map[string]float64 {
	t.Helper()
	latest, err := s.Latest(t.Context(), "GW-1")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, v := range latest {
		if v.Scale.Known() {
			values[v.Pump+" "+v.Point] = v.Scale.Value(v.Raw)
		}
	}
	return values
}

// TestEachReadingHasTheScaleOfItsOwnCatalogue: pump 1 is rescaled in the middle of a
// chart, pump 2 is not, and the backend restarts. 50 % of before stays 50 %.
func TestEachReadingHasTheScaleOfItsOwnCatalogue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	c := clockAt(t0.Add(time.Minute))
	s := openAt(t, path, c)
	half, hundredth := telemetry.Scale{Num: 1, Den: 2}, telemetry.Scale{Num: 1, Den: 100}
	g := &gateway{epoch: wire.Epoch{1}, catalogue: twoPumps(t, half, half)}
	keep(t, s, g.catalogueRecord(), g.reading(t0, map[int]int64{0: 100, 1: 80, 2: 7}))
	g.catalogue = twoPumps(t, telemetry.Scale{}, half)
	keep(t, s, g.catalogueRecord(), g.reading(t0.Add(time.Second), map[int]int64{0: 4900}))
	g.catalogue = twoPumps(t, hundredth, half)
	keep(t, s, g.catalogueRecord()) // and no reading yet: the last one keeps its meaning
	if v := shown(t, s); len(v) != 2 || v["p2 setpoint"] != 40 || v["p2 energy"] != 7 {
		t.Errorf("while the scale is not known: %v", v)
	}
	keep(t, s, g.reading(t0.Add(2*time.Second), map[int]int64{0: 4800}))
	check := func() {
		t.Helper()
		samples, err := s.Range(t.Context(), "GW-1", "p1", "setpoint", t0, t0.Add(time.Hour))
		if err != nil || len(samples) != 3 {
			t.Fatalf("%d samples, %v", len(samples), err)
		}
		var drawn []float64
		for _, v := range samples {
			if v.Series.Scale.Known() {
				drawn = append(drawn, v.Series.Scale.Value(v.Raw))
			}
		}
		if !slices.Equal(drawn, []float64{50, 48}) || samples[1].Series.Scale.Known() {
			t.Errorf("drawn: %v", drawn)
		}
		if v := shown(t, s); v["p1 setpoint"] != 48 || v["p2 setpoint"] != 40 {
			t.Errorf("shown: %v", v)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, c)
	defer s.Close()
	check()
}

// TestOfTwoCataloguesInOneMillisecondTheLaterCounts: in either order.
func TestOfTwoCataloguesInOneMillisecondTheLaterCounts(t *testing.T) {
	for _, later := range []int64{7, 9} {
		s := openAt(t, filepath.Join(t.TempDir(), "cloud.db"), clockAt(t0))
		g := &gateway{epoch: wire.Epoch{1}}
		for _, den := range []int64{7, 9, later} { // the last one is told again
			g.catalogue = twoPumps(t, telemetry.Scale{Num: 1, Den: den}, telemetry.Unit)
			keep(t, s, g.catalogueRecord())
		}
		c, err := s.Catalogue(t.Context(), "GW-1")
		if err != nil || c.Groups[0].Series[0].Scale.Den != later {
			t.Errorf("the newest is %+v, %v; expected a denominator of %d", c.Groups[0].Series, err, later)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAReadingDatedAheadDoesNotHideThePresent: it is drawn at its date, and the gateway
// says so.
func TestAReadingDatedAheadDoesNotHideThePresent(t *testing.T) {
	c := clockAt(t0)
	s := openAt(t, filepath.Join(t.TempDir(), "cloud.db"), c)
	defer s.Close()
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1", Model: "cim550", Board: "lab"}, store.Certificate{Number: "01", Gateway: "GW-1", Role: "factory", Key: []byte{1}, NotAfter: t0.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	g := &gateway{epoch: wire.Epoch{1}, catalogue: twoPumps(t, telemetry.Unit, telemetry.Unit)}
	year := t0.AddDate(1, 0, 0)
	keep(t, s, g.catalogueRecord(), g.reading(year, map[int]int64{0: 99}), g.reading(t0.Add(-time.Second), map[int]int64{0: 5}))
	if v := shown(t, s); v["p1 setpoint"] != 5 {
		t.Errorf("shown: %v", v)
	}
	if samples, err := s.Range(t.Context(), "GW-1", "p1", "setpoint", year, year); err != nil || len(samples) != 1 {
		t.Errorf("at its date: %v, %v", samples, err)
	}
	gw, err := s.Gateway(t.Context(), "GW-1")
	if err != nil || !gw.Ahead.Equal(year) || !gw.LastReading.Equal(t0.Add(-time.Second)) {
		t.Errorf("ahead %v, last reading %v, %v", gw.Ahead, gw.LastReading, err)
	}
}

// TestASlowPointStaysOnThePage: however many blocks have come since it was read, and
// what comes late does not take the place of what is newer.
func TestASlowPointStaysOnThePage(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cloud.db"), clockAt(t0.Add(time.Hour)))
	defer s.Close()
	g := &gateway{epoch: wire.Epoch{1}, catalogue: twoPumps(t, telemetry.Unit, telemetry.Unit)}
	keep(t, s, g.catalogueRecord(), g.reading(t0, map[int]int64{0: 0, 2: 3223}))
	for i := range 400 {
		keep(t, s, g.reading(t0.Add(time.Duration(i+1)*time.Second), map[int]int64{0: int64(i)}))
	}
	keep(t, s, g.reading(t0.Add(-time.Hour), map[int]int64{0: 77, 1: 66, 2: 55})) // of a queue that was held up
	if v := shown(t, s); v["p1 setpoint"] != 399 || v["p2 energy"] != 3223 || v["p2 setpoint"] != 66 {
		t.Errorf("shown: %v", v)
	}
}

// TestNewestReadingsAreFoundInOlderRecords: a database of before the table has them
// after it was opened, and so has one whose filling was interrupted.
func TestNewestReadingsAreFoundInOlderRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	c := clockAt(t0.Add(time.Hour))
	s := openAt(t, path, c)
	g := &gateway{epoch: wire.Epoch{1}, catalogue: twoPumps(t, telemetry.Unit, telemetry.Unit)}
	early := g.reading(t0.Add(-time.Minute), map[int]int64{0: 1, 2: 12}) // before its catalogue
	keep(t, s, early, g.reading(t0, map[int]int64{0: 5, 1: 6}))
	if v := shown(t, s); len(v) != 0 {
		t.Errorf("before the catalogue: %v", v)
	}
	keep(t, s, g.catalogueRecord())
	want := func() {
		t.Helper()
		if v := shown(t, s); len(v) != 3 || v["p1 setpoint"] != 5 || v["p2 setpoint"] != 6 || v["p2 energy"] != 12 {
			t.Errorf("shown: %v", v)
		}
	}
	want()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DELETE FROM newest`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, c)
	defer s.Close()
	want()
}

// TestALookAtTheNewestReadingsReadsNoBlock: they are there where every block is gone, so
// that no gateway can make a look at the list slow by what its blocks state.
func TestALookAtTheNewestReadingsReadsNoBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s := openAt(t, path, clockAt(t0.Add(time.Minute)))
	defer s.Close()
	g := &gateway{epoch: wire.Epoch{1}, catalogue: twoPumps(t, telemetry.Unit, telemetry.Unit)}
	keep(t, s, g.catalogueRecord(), g.reading(t0, map[int]int64{0: 5, 1: 6, 2: 7}))
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.Exec(`DELETE FROM arrivals`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n != 2 || err != nil {
		t.Fatalf("%d records, %v", n, err)
	}
	if v := shown(t, s); len(v) != 3 || v["p1 setpoint"] != 5 {
		t.Errorf("shown: %v", v)
	}
}
