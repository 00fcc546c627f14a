package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"penstock/backend"
	"penstock/backend/store"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/config"
	"penstock/internal/gateway"
	"penstock/internal/status"
	"penstock/internal/telemetry"
)

// board is a machine without a battery: each time it is switched on, its clock
// begins where it is told, and it knows nothing of the boots before.
type board struct {
	clock.Clock           // sleeps in real time
	name        string    // of this boot
	booted      time.Time // really
	wall        time.Time // what its clock showed then
}

func switchOn(name string, wall time.Time) *board {
	return &board{Clock: clock.System, name: name, booted: time.Now(), wall: wall}
}

func (b *board) Boot() string          { return b.name }
func (b *board) Kept() bool            { return false }
func (b *board) Uptime() time.Duration { return time.Since(b.booted) }
func (b *board) Now() time.Time        { return b.wall.Add(b.Uptime()) }

// ahead is a clock that is ahead of this machine's.
type ahead struct {
	clock.Clock
	by time.Duration
}

func (a ahead) Now() time.Time { return a.Clock.Now().Add(a.by) }

// resident is a gateway that lives in this process, on a board of the test's.
type resident struct {
	*gateway.Gateway
	board *board
	stop  func() error // as a stop of the service does
	ended chan struct{}
	log   *os.File
}

// moveIn starts a gateway in this process with the site's folder, configuration and
// serial line.
func moveIn(t *testing.T, site *Site, b *board, servers ...string) *resident {
	t.Helper()
	file, err := site.configure()
	if err != nil {
		t.Fatal(err)
	}
	families := profile.Builtin()
	cfg, err := config.Load(file, true, families.Names())
	if err != nil {
		t.Fatal(err)
	}
	cfg.TimeServers = servers
	log, err := os.OpenFile(site.path("resident.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{State: site.path("gateway"), Config: cfg, Families: families, Version: "lab", Machine: b,
		Log: slog.New(slog.NewTextHandler(log, nil)).With("board", b.name)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &resident{Gateway: g, board: b, ended: make(chan struct{}), log: log}
	var ran error
	go func() {
		defer close(r.ended)
		ran = g.Run(ctx, site.Socket())
	}()
	r.stop = func() error {
		cancel()
		<-r.ended
		return ran
	}
	site.starts = append(site.starts, b.booted)
	t.Cleanup(func() {
		_ = r.stop()
		if log.Close(); t.Failed() {
			p := Process{Log: site.path("resident.log")}
			t.Logf("the gateway said last:\n%s", p.Tail())
		}
	})
	return r
}

// shows waits until the gateway's state is as it should be.
func (r *resident) shows(t *testing.T, what string, ok func(s status.Snapshot) bool) status.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var s status.Snapshot
	if err := await(ctx, what, nil, func() (bool, error) {
		s = r.Snapshot()
		return ok(s), fmt.Errorf("the cloud: %s, %s; identity: %s; clock: %+v; queue: %+v", s.Uplink.State, s.Uplink.LastError, s.Identity.LastError, s.Clock, s.Queue.Lanes)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("after %v: %s", time.Since(r.board.booted).Round(100*time.Millisecond), what)
	return s
}

// undelivered is how many records of history are in the gateway's queue.
func undelivered(s status.Snapshot) (n uint64) {
	for _, l := range s.Queue.Lanes {
		if l.Name == "history" {
			n = l.Records
		}
	}
	return n
}

// serveAhead brings the site's backend up in this process, where it was before, with
// a clock that is ahead by so much. It returns what stops it.
func serveAhead(t *testing.T, site *Site, by time.Duration) (stop func()) {
	t.Helper()
	at := site.Addresses()
	ready := site.ready()
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	// The backend was down for longer than it believes by itself.
	if err := backend.ConfirmTime(site.path("cloud"), clock.System.Now().Add(by)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- backend.Serve(ctx, backend.Config{State: site.path("cloud"), Hosts: []string{"localhost", "127.0.0.1"}, Auth: at.Auth,
			Endpoint: at.Endpoint, Web: at.Web, Ready: ready, Log: slog.New(slog.DiscardHandler), Clock: ahead{clock.System, by}})
	}()
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			if err := <-ended; err != nil {
				t.Errorf("the backend: %v", err)
			}
		}
		stopped = true
	}
	t.Cleanup(stop)
	if err := await(t.Context(), "the backend", nil, func() (bool, error) {
		select {
		case err := <-ended:
			stopped = true
			t.Fatalf("the backend has ended: %v", err)
		default:
		}
		_, err := os.Stat(ready)
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
	return stop
}

// bootTable is the gateway's own table of its boots.
func bootTable(t *testing.T, site *Site) (table []struct{ Began, Early, Late int64 }) {
	t.Helper()
	text, err := os.ReadFile(site.path("gateway", "queue", "boots.json"))
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestAGatewayComesBackFromAYearInADrawer is the whole story. A gateway works, loses
// its power, and lies in a drawer for a year: its operational certificate and those
// of all servers have long expired. It is switched on at a site without a network,
// believes in 1970, and reads its pumps. The power goes once more. Then the network
// comes, and with nobody's help the gateway learns the time, enrols anew with its
// factory identity, and delivers every reading under the time at which it was taken.
func TestAGatewayComesBackFromAYearInADrawer(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	site := up(t, func(s *Site) { s.Genibus, s.Period = 0, time.Second })
	if err := site.AwaitStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := site.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	site.GatewayProc.Kill() // the power
	if err := site.CloudProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// A year passes. What follows happens then: the backend's clock says so, and this
	// machine's plus a year is the truth.
	if !before.Identity.NotAfter.Before(time.Now().Add(year)) {
		t.Fatalf("the operational certificate is good until %v: it outlives the drawer", before.Identity.NotAfter)
	}
	first := moveIn(t, site, switchOn("first after the drawer", time.Unix(0, 0)))
	s := first.shows(t, "readings without a network", func(s status.Snapshot) bool { return undelivered(s) >= 3 })
	if s.Clock.Source != "system" || s.Uplink.State == "connected" {
		t.Errorf("without a network: clock %+v, %s", s.Clock, s.Uplink.State)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	second := moveIn(t, site, switchOn("second after the drawer", time.Unix(0, 0)))
	s = first.Snapshot()
	already := undelivered(s)
	second.shows(t, "more readings without a network", func(s status.Snapshot) bool { return undelivered(s) >= already+3 && s.Clock.Source == "system" })
	stopCloud := serveAhead(t, site, year)
	s = second.shows(t, "the gateway to be back", func(s status.Snapshot) bool {
		return connected(s) && s.Uplink.Acknowledged > already+3 && undelivered(s) == 0
	})
	now := time.Now().Add(year)
	if s.Clock.Source != "signed" || s.Time.Sub(now).Abs() > time.Second || s.Clock.Floor.After(now) || s.Clock.Floor.Before(now.Add(-time.Hour)) {
		t.Errorf("it is %v; the gateway says %v, its clock %+v", now, s.Time, s.Clock)
	}
	if s.Identity.NotAfter.Before(now.Add(24 * time.Hour)) {
		t.Errorf("its certificate is good until %v", s.Identity.NotAfter)
	}
	acknowledged := s.Uplink.Acknowledged
	second.shows(t, "readings of now", func(s status.Snapshot) bool { return s.Uplink.Acknowledged > acknowledged+3 })
	if err := site.PumpsProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	stopCloud()

	// Whenever they were taken, their times are right: of the boot in which it learned
	// the time to within 100 ms, of the one before within what it says.
	table := bootTable(t, site)
	if len(table) < 2 {
		t.Fatalf("the gateway knows of %d boots", len(table))
	}
	type era struct {
		began time.Time     // as the gateway has it
		off   time.Duration // by which that is wrong
	}
	var eras [2]era
	for i, r := range []*resident{first, second} {
		b := table[len(table)-2+i]
		eras[i].began = time.UnixMilli(b.Began)
		eras[i].off = eras[i].began.Sub(r.board.booted.Add(year))
		t.Logf("%s: dated %v off, said to be at most %v too late or %v too early", r.board.name, eras[i].off,
			time.Duration(b.Early)*time.Millisecond, time.Duration(b.Late)*time.Millisecond)
		const good = 100 * time.Millisecond
		if eras[i].off > time.Duration(b.Early)*time.Millisecond+good || eras[i].off < -time.Duration(b.Late)*time.Millisecond-good {
			t.Errorf("%s: it is off by more than it says", r.board.name)
		}
	}
	if away := second.board.booted.Sub(gone); eras[0].off < 0 || eras[0].off > away+2*drainAndSeal {
		t.Errorf("the boot before is dated %v off; the power was away for %v", eras[0].off, away)
	}
	judgeEras(t, site, func(at time.Time, unsure time.Duration) (time.Time, bool) {
		switch {
		case at.Before(eras[0].began):
			return at, false // of before the drawer
		case at.Before(eras[1].began):
			if unsure < eras[0].off {
				t.Errorf("a reading at %v says that it is at most %v off", at, unsure)
			}
			return at.Add(-year - eras[0].off), true
		}
		if unsure > 10*time.Second {
			t.Errorf("a reading at %v, of a time that was learned, is in doubt by %v", at, unsure)
		}
		return at.Add(-year - eras[1].off), true
	}, first.board.booted)
}

// TestKillsBeforeTheTimeIsKnownCostTheOpenBlock: a real process, which nobody tells the
// time, is killed again and again; what it had sealed is delivered once somebody does.
func TestKillsBeforeTheTimeIsKnownCostTheOpenBlock(t *testing.T) {
	t.Parallel()
	site := prepare(t, func(s *Site) { s.Genibus = 0 })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(site.StartCloud(t.Context(), anywhere))
	must(site.Provision(t.Context()))
	must(site.CloudProc.Stop(t.Context()))
	must(site.StartPumps(t.Context()))
	const kills = 3
	var perBlock, sealed uint64
	for range kills {
		must(site.StartGateway(t.Context()))
		must(site.AwaitReadings(t.Context()))
		shows(t, site, "two more sealed blocks", func(s status.Snapshot) bool {
			perBlock = 0
			for _, p := range s.Buses[0].Pumps {
				perBlock += uint64(len(p.Values))
			}
			return undelivered(s) >= sealed+2 && s.Clock.Source != "signed"
		})
		s, err := site.Status(t.Context())
		must(err)
		sealed = undelivered(s)
		site.GatewayProc.Kill()
	}
	must(site.StartCloud(t.Context(), anywhere))
	must(site.StartGateway(t.Context()))
	shows(t, site, "all of it delivered", func(s status.Snapshot) bool {
		return connected(s) && undelivered(s) == 0 && s.Uplink.Acknowledged > sealed
	})
	settle(t, site, int(kills*3*perBlock))
}

// drainAndSeal is how long a gateway may take from its last record to its end.
const drainAndSeal = 10 * time.Second

// judgeEras judges what was served since a moment. really turns the time of a stored
// reading into this machine's, or leaves it out.
func judgeEras(t *testing.T, site *Site, really func(at time.Time, unsure time.Duration) (time.Time, bool), since time.Time) {
	t.Helper()
	db, err := store.Open(t.Context(), site.Database(), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var stored []Stored
	if err := db.Readings(t.Context(), site.serial(), func(r store.Reading) {
		if at, ok := really(r.Time, r.Unsure); ok {
			stored = append(stored, Stored{SeriesKey{r.Pump, r.Point}, at, r.Raw, r.Quality})
		}
	}); err != nil {
		t.Fatal(err)
	}
	catalogue, err := db.Catalogue(t.Context(), site.serial())
	if err != nil {
		t.Fatal(err)
	}
	all, err := servedOf(site.ServedLog(), "bus1", catalogue, site.starts)
	if err != nil {
		t.Fatal(err)
	}
	var served []Served
	for _, s := range all {
		if !s.Asked.Before(since) {
			served = append(served, s)
		}
	}
	periods := map[SeriesKey]time.Duration{}
	for _, g := range catalogue.Groups {
		for _, s := range g.Series {
			periods[SeriesKey{s.Pump, s.Point}] = g.Period
		}
	}
	v := Judge(served, stored, []telemetry.Gap{}, periods)
	t.Logf("%d served, %d stored, %d wrong, %d missing, %d discarded", v.Served, v.Stored, v.Wrong, v.Missing, v.Discarded)
	for _, f := range v.Faults {
		t.Error(f)
	}
	if v.Wrong > 0 || v.Missing > 0 || v.Stored == 0 {
		t.Errorf("the store does not hold what the pumps served: %+v", v)
	}
	alarms, err := db.Alarms(t.Context(), site.serial())
	if err != nil || len(alarms) > 0 {
		t.Errorf("alarms %v, %v", alarms, err)
	}
}
