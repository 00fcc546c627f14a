package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
)

// places counts the records that were filed, and those that have only arrived.
func places(t *testing.T, path string) (filed, arrived int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM filed), (SELECT count(*) FROM arrivals)`).Scan(&filed, &arrived); err != nil {
		t.Fatal(err)
	}
	return filed, arrived
}

// TestARecordIsTheSameBeforeAndAfterItIsFiled: found, told from its repetition,
// and held against other content of its name.
func TestARecordIsTheSameBeforeAndAfterItIsFiled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s, g := open(t, path), newGateway(t)
	c, first := g.catalogueRecord(), g.block(t0)
	keep(t, s, c, first)
	if err := s.Close(); err != nil { // which files them
		t.Fatal(err)
	}
	if filed, arrived := places(t, path); filed != 2 || arrived != 0 {
		t.Fatalf("after closing, %d records are filed and %d are not", filed, arrived)
	}

	s = open(t, path)
	defer s.Close()
	second := g.block(t0.Add(time.Minute))
	keep(t, s, second, first, c, second)
	if filed, arrived := places(t, path); filed != 2 || arrived != 1 {
		t.Errorf("%d records are filed and %d have arrived; want 2 and 1", filed, arrived)
	}
	samples, err := s.Range(t.Context(), "GW-1", "bus1-1", "head", t0, t0.Add(time.Hour))
	if err != nil || len(samples) != 120 {
		t.Fatalf("%d samples, %v; want 120", len(samples), err)
	}
	for i, v := range samples {
		if want := t0.Add(time.Duration(i) * time.Second); !v.Time.Equal(want) || v.Raw != int64(2*(i%60)) {
			t.Errorf("sample %d is %+v", i, v)
		}
	}
	if latest, err := s.Latest(t.Context(), "GW-1"); err != nil || len(latest) != 3 || !latest[0].Time.Equal(t0.Add(119*time.Second)) {
		t.Errorf("latest %+v, %v", latest, err)
	}
	if n := count(t, s); n != (store.Counters{Records: 3, Readings: 252}) {
		t.Errorf("counters %+v", n)
	}
	g.seq = 1 // of the first block
	keep(t, s, g.block(t0.Add(time.Hour)))
	if n := count(t, s); n.Conflicts != 1 || n.Records != 4 {
		t.Errorf("after other content under a name that is filed: %+v", n)
	}
}

// TestManyRecordsAreFiledWhileMoreArrive: none is lost, none is there twice.
func TestManyRecordsAreFiledWhileMoreArrive(t *testing.T) {
	store.FileAfter(t, 100)
	path := filepath.Join(t.TempDir(), "cloud.db")
	s := open(t, path)
	defer s.Close()
	const gateways, each = 8, 60
	failures := make(chan error, gateways)
	for n := range gateways {
		g := newGateway(t)
		go func() {
			serial := fmt.Sprintf("GW-%d", n)
			err := s.Append(t.Context(), serial, g.catalogueRecord())
			for i := 0; i < each && err == nil; i++ {
				p := g.block(t0.Add(time.Duration(i) * time.Minute))
				if err = s.Append(t.Context(), serial, p); err == nil && i%10 == 0 {
					err = s.Append(t.Context(), serial, p) // the acknowledgement was lost
				}
			}
			failures <- err
		}()
	}
	for range gateways {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
	if filed, arrived := places(t, path); filed == 0 || filed+arrived != gateways*(each+1) {
		t.Errorf("%d records are filed, %d have arrived; want %d together", filed, arrived, gateways*(each+1))
	}
	for n := range gateways {
		seen := map[telemetry.Series]map[int64]int{}
		err := s.Readings(t.Context(), fmt.Sprintf("GW-%d", n), func(r store.Reading) {
			k := telemetry.Series{Pump: r.Pump, Point: r.Point}
			if seen[k] == nil {
				seen[k] = map[int64]int{}
			}
			seen[k][r.Time.Unix()]++
		})
		if err != nil {
			t.Fatal(err)
		}
		for k, times := range seen {
			for at, n := range times {
				if n != 1 {
					t.Errorf("%v at %d is there %d times", k, at, n)
				}
			}
		}
		if speed := seen[telemetry.Series{Pump: "bus1-1", Point: "speed"}]; len(speed) != each*60 {
			t.Errorf("gateway %d: %d readings of the speed, want %d", n, len(speed), each*60)
		}
	}
}

// TestWhatHasArrivedSurvivesTheEndOfTheProcess: the files as they are at that
// moment are those that a kill would leave.
func TestWhatHasArrivedSurvivesTheEndOfTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s, g := open(t, path), newGateway(t)
	defer s.Close()
	c, first, second := g.catalogueRecord(), g.block(t0), g.block(t0.Add(time.Minute))
	keep(t, s, c, first, second)
	left := filepath.Join(t.TempDir(), "cloud.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(left+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, left)
	defer again.Close()
	if filed, arrived := places(t, left); filed != 0 || arrived != 3 {
		t.Errorf("%d records are filed and %d have arrived; want 0 and 3", filed, arrived)
	}
	keep(t, again, second, c, g.block(t0.Add(2*time.Minute)))
	if n := count(t, again); n != (store.Counters{Records: 4, Readings: 3 * 126}) {
		t.Errorf("counters %+v", n)
	}
}
