package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

var t0 = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func temporary(t *testing.T) *store.Store {
	s := open(t, filepath.Join(t.TempDir(), "cloud #1?.db")) // a name that a URL would trip over
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var catalogue = telemetry.Catalogue{
	Pumps: []telemetry.Pump{{ID: "bus1-1", Name: "Boiler pump", Family: "cim-epump", Bus: "bus1", Address: 1}},
	Groups: []telemetry.Group{
		{Period: time.Second, Series: []telemetry.Series{
			{Pump: "bus1-1", Point: "speed", Unit: "/min", Scale: telemetry.Unit},
			{Pump: "bus1-1", Point: "head", Unit: "bar", Scale: telemetry.Scale{Num: 1, Den: 1000}}}},
		{Period: 10 * time.Second, Series: []telemetry.Series{{Pump: "bus1-1", Point: "power", Unit: "W", Scale: telemetry.Unit}}},
	},
}

// gateway makes publishes as a gateway does.
type gateway struct {
	epoch     wire.Epoch
	seq       uint64
	packer    wire.Packer
	catalogue *wire.Catalogue
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	c, err := wire.NewCatalogue(catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{epoch: wire.Epoch{1, 2, 3}, catalogue: c}
}

func (g *gateway) publish(kind wire.Kind, body []byte) []byte {
	g.seq++
	return wire.AppendRecord(nil, g.epoch, wire.History, g.seq, g.packer.AppendPayload(nil, kind, body))
}

func (g *gateway) catalogueRecord() []byte { return g.publish(wire.KindCatalogue, g.catalogue.Body) }

// block is a minute from t: speed is the second, head twice that.
func (g *gateway) block(t time.Time) []byte {
	b := wire.NewBuilder(g.catalogue)
	b.Open(t)
	for i := range 60 {
		slot := t.Add(time.Duration(i) * time.Second)
		b.Add(telemetry.Reading{Group: 0, Series: 0, Slot: slot, Raw: int64(i)})
		b.Add(telemetry.Reading{Group: 0, Series: 1, Slot: slot, Raw: int64(2 * i)})
		if i%10 == 0 {
			b.Add(telemetry.Reading{Group: 1, Slot: slot, Raw: int64(100 + i), Quality: telemetry.NotAvailable})
		}
	}
	return g.publish(wire.KindBlock, b.Seal(t.Add(time.Minute)))
}

func keep(t *testing.T, s *store.Store, publishes ...[]byte) {
	t.Helper()
	for _, p := range publishes {
		if err := s.Append(t.Context(), "GW-1", p); err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, s *store.Store) store.Counters {
	t.Helper()
	c, err := s.Counters(t.Context(), "GW-1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsStoredIsWhatWasSent(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	first := g.block(t0) // ahead of its catalogue: it becomes readable later
	keep(t, s, first)
	if v, err := s.Range(t.Context(), "GW-1", "bus1-1", "speed", t0, t0.Add(time.Hour)); err != nil || len(v) != 0 {
		t.Errorf("without its catalogue: %v, %v", v, err)
	}
	keep(t, s, g.catalogueRecord(), g.block(t0.Add(time.Minute)))

	c, err := s.Catalogue(t.Context(), "GW-1")
	if err != nil || len(c.Pumps) != 1 || c.Pumps[0] != catalogue.Pumps[0] {
		t.Fatalf("catalogue %+v, %v", c, err)
	}
	samples, err := s.Range(t.Context(), "GW-1", "bus1-1", "head", t0.Add(30*time.Second), t0.Add(89*time.Second))
	if err != nil || len(samples) != 60 {
		t.Fatalf("%d samples, %v; want 60", len(samples), err)
	}
	for i, v := range samples {
		want := store.Sample{Time: t0.Add(time.Duration(30+i) * time.Second), Raw: int64(2 * ((30 + i) % 60))}
		if !v.Time.Equal(want.Time) || v.Raw != want.Raw || v.Quality != telemetry.Good {
			t.Errorf("sample %d is %+v, want %+v", i, v, want)
		}
	}
	latest, err := s.Latest(t.Context(), "GW-1")
	if err != nil || len(latest) != 3 {
		t.Fatalf("latest %+v, %v", latest, err)
	}
	if v := latest[0]; v.Point != "speed" || v.Raw != 59 || !v.Time.Equal(t0.Add(119*time.Second)) {
		t.Errorf("latest speed %+v", v)
	}
	if v := latest[2]; v.Point != "power" || v.Quality != telemetry.NotAvailable {
		t.Errorf("latest power %+v", v)
	}
	n := 0
	if err := s.Readings(t.Context(), "GW-1", func(store.Reading) { n++ }); err != nil || n != 252 {
		t.Errorf("%d readings, %v; want 252", n, err)
	}
	if c := count(t, s); c != (store.Counters{Records: 3, Readings: 252}) {
		t.Errorf("counters %+v", c)
	}
}

func TestARepetitionIsDroppedByItsExactName(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	a, b := g.catalogueRecord(), g.block(t0)
	keep(t, s, a, b, b, a, b)
	if c := count(t, s); c != (store.Counters{Records: 2, Readings: 126}) {
		t.Errorf("after repetitions: %+v", c)
	}
	// The same sequence number in another epoch, and an older one that was
	// never seen, are records like any other: no high-water mark.
	g.epoch, g.seq = wire.Epoch{9}, 1
	keep(t, s, g.block(t0.Add(time.Hour)))
	g.epoch, g.seq = wire.Epoch{1, 2, 3}, 700
	keep(t, s, g.block(t0.Add(2*time.Hour)))
	g.seq = 300
	keep(t, s, g.block(t0.Add(3*time.Hour)))
	if c := count(t, s); c.Records != 5 || c.Conflicts != 0 {
		t.Errorf("after another epoch: %+v", c)
	}
}

func TestTheSameNameWithOtherContentIsKeptAndRaisesAnAlarm(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	keep(t, s, g.catalogueRecord(), g.block(t0))
	g.seq = 1
	other := g.block(t0.Add(time.Hour))
	keep(t, s, other, other)
	if c := count(t, s); c.Records != 3 || c.Conflicts != 1 {
		t.Errorf("counters %+v", c)
	}
	alarms, err := s.Alarms(t.Context(), "GW-1")
	if err != nil || len(alarms) != 1 {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
}

func TestALinkThatHasUsedItsDataIsAnAlarmOfThatMonth(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	now := time.Now().UTC()
	month := now.Format("2006-01")
	used := func(at time.Time, link string, percent int64) []byte {
		return g.publish(wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: at, Link: link, Point: telemetry.DataUsed, Raw: percent}))
	}
	first := used(now, "modem", 80)
	keep(t, s, first, used(now.AddDate(0, -1, 0), "spare", 100), // of a month that is over
		used(now.Add(time.Millisecond), "modem", 80), first, // the power failed just then, and a repetition
		g.publish(wire.KindEvent, wire.AppendEvent(nil, telemetry.Event{Time: now, Pump: "bus1-1", Point: "alarm_code", Raw: 57})))
	alarms, err := s.Alarms(t.Context(), "GW-1")
	if err != nil || len(alarms) != 1 || alarms[0].Text != "80 % of the data of link modem for "+month+" are used" || !alarms[0].Time.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", alarms, err)
	}
	keep(t, s, used(now.Add(time.Second), "modem", 100), used(now, "ethernet", 80))
	alarms, err = s.Alarms(t.Context(), "GW-1")
	if err != nil || len(alarms) != 2 || !strings.HasPrefix(alarms[1].Text, "all data of link modem for "+month+" are used: only alarms") {
		t.Errorf("%+v, %v", alarms, err)
	}
}

func TestWhatCannotBeDecodedIsKeptMarkedAndCounted(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	garbage := g.publish(wire.KindBlock, []byte{0xFF, 0xFF, 0xFF})
	unknown := g.publish(wire.Kind(77), []byte("from the future"))
	keep(t, s, []byte("no record at all"), []byte("no record at all"), garbage, garbage, unknown)
	if c := count(t, s); c.Records != 2 || c.Unreadable != 2 || c.Conflicts != 0 {
		t.Errorf("counters %+v; want 2 records, 2 unreadable (one of them nameless)", c)
	}
}

// TestAGapOfAGatewayThatDoesNotKnowTheTimeEndsWhenItArrives: and one that knows
// neither end began at the beginning.
func TestAGapOfAGatewayThatDoesNotKnowTheTimeEndsWhenItArrives(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	before := time.Now().Add(-time.Second)
	keep(t, s, g.publish(wire.KindGap, wire.AppendGap(nil, telemetry.Gap{Reason: telemetry.UncleanStop, From: t0})))
	keep(t, s, g.publish(wire.KindGap, wire.AppendGap(nil, telemetry.Gap{Reason: telemetry.UncleanStop})))
	gaps, err := s.Gaps(t.Context(), "GW-1", before, time.Now().Add(time.Hour))
	if err != nil || len(gaps) != 2 {
		t.Fatal(gaps, err)
	}
	for i, from := range []time.Time{time.UnixMilli(0), t0} {
		if !gaps[i].From.Equal(from) || gaps[i].To.Before(before) || gaps[i].To.After(time.Now()) {
			t.Errorf("%v; want it from %v to its arrival", gaps[i], from)
		}
	}
}

func TestGapsAreFoundByTheTimeTheyTouch(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	want := telemetry.Gap{Reason: telemetry.UncleanStop, From: t0, To: t0.Add(time.Minute)}
	keep(t, s, g.publish(wire.KindGap, wire.AppendGap(nil, want)))
	for _, tc := range []struct {
		from, to time.Duration
		n        int
	}{{-time.Hour, -time.Second, 0}, {-time.Hour, time.Second, 1}, {30 * time.Second, time.Hour, 1}, {2 * time.Minute, time.Hour, 0}} {
		gaps, err := s.Gaps(t.Context(), "GW-1", t0.Add(tc.from), t0.Add(tc.to))
		if err != nil || len(gaps) != tc.n {
			t.Errorf("from %v to %v: %v, %v", tc.from, tc.to, gaps, err)
		}
		if len(gaps) == 1 && (!gaps[0].From.Equal(want.From) || gaps[0].Reason != want.Reason) {
			t.Errorf("gap %+v", gaps[0])
		}
	}
}

func TestConcurrentAppendsShareCommitsAndSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s, g := open(t, path), newGateway(t)
	var publishes [][]byte
	for i := range 200 {
		publishes = append(publishes, g.block(t0.Add(time.Duration(i)*time.Minute)))
	}
	var wg sync.WaitGroup
	for _, p := range publishes {
		wg.Go(func() {
			if err := s.Append(context.Background(), "GW-1", p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "GW-1", publishes[0]); !errors.Is(err, store.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	s = open(t, path)
	defer s.Close()
	if c := count(t, s); c.Records != 200 {
		t.Errorf("%d records after reopening", c.Records)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT publish FROM records ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		var got []byte
		if err := rows.Scan(&got); err != nil || !bytes.Equal(got, publishes[i]) {
			t.Fatalf("record %d is not what was sent (%v)", i+1, err)
		}
	}
}

func TestPresenceFollowsTheNewestSession(t *testing.T) {
	s := temporary(t)
	if _, err := s.Gateway(t.Context(), "GW-1"); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("unknown gateway: %v", err)
	}
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1", Model: "cim550", Board: "lab"}, store.Certificate{Number: "1", NotAfter: t0}); err != nil {
		t.Fatal(err)
	}
	check := func(want bool, when string) {
		t.Helper()
		gw, err := s.Gateway(t.Context(), "GW-1")
		if err != nil || gw.Online != want {
			t.Errorf("%s: online %v, %v", when, gw.Online, err)
		}
	}
	set := func(online bool, session uint64) {
		t.Helper()
		if err := s.SetPresence(t.Context(), "GW-1", online, session, []byte(fmt.Sprintf(`{"session":%d}`, session))); err != nil {
			t.Fatal(err)
		}
	}
	check(false, "never seen")
	set(true, 4)
	check(true, "connected")
	set(true, 5)
	set(false, 4)
	check(true, "after the will of the session before")
	if err := s.SetOffline(t.Context(), "GW-1", 4); err != nil {
		t.Fatal(err)
	}
	check(true, "after the end of the session before")
	set(false, 5)
	check(false, "after its own will")
	set(true, 1)
	check(true, "after a replaced disk began to count anew")
}

func TestASlowSubscriberIsLetGo(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	updates, cancel := s.Subscribe("GW-1")
	defer cancel()
	keep(t, s, g.block(t0))
	if u := <-updates; !u.From.Equal(t0) || u.To.Before(t0.Add(59*time.Second)) {
		t.Errorf("update %+v", u)
	}
	for i := range 100 {
		keep(t, s, g.block(t0.Add(time.Duration(i)*time.Minute)))
	}
	n := 0
	for range updates {
		n++
	}
	if n == 0 || n >= 100 {
		t.Errorf("%d updates before the channel was closed", n)
	}
}

func TestARevokedGatewayStaysRevoked(t *testing.T) {
	s := temporary(t)
	if err := s.Revoke(t.Context(), "GW-1", "lost"); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("revoking an unknown gateway: %v", err)
	}
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, store.Certificate{Number: "1"}); err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"stolen", "again"} {
		if err := s.Revoke(t.Context(), "GW-1", reason); err != nil {
			t.Fatal(err)
		}
	}
	if gw, err := s.Gateway(t.Context(), "GW-1"); err != nil || gw.Revoked.IsZero() || gw.Reason != "stolen" {
		t.Errorf("%+v, %v", gw, err)
	}
}
