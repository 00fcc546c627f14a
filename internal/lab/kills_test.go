package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// moment is when in its life a process is killed.
type moment string

const (
	starting   moment = "starting"   // it loads, recovers its queue, says that it runs
	sealing    moment = "sealing"    // a block has just reached the disk, and is being synced and published
	draining   moment = "draining"   // the backend is back, and gets what has piled up
	stopping   moment = "stopping"   // it was asked to end, seals and delivers
	anytime    moment = "any time"   // whatever it was doing
	together   moment = "together"   // gateways and backend in one instant
	receiving  moment = "receiving"  // the backend, while records arrive
	recovering moment = "recovering" // the backend, while it opens its store and begins to listen
)

// slaughter kills the processes of a plant, and brings them up again.
type slaughter struct {
	t       *testing.T
	cloud   *Site
	plants  []*victim
	returns chan struct{} // closed when the backend is up again, and made anew

	mu    sync.Mutex
	kills map[string]int // guarded by mu, by process and moment
}

// victim is a gateway with its pumps.
type victim struct {
	*Site
	mu     sync.Mutex // held while GatewayProc changes
	spared bool       // guarded by mu: it has been killed often enough
}

func (s *slaughter) count(who string, m moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills[fmt.Sprintf("%s, %s", who, m)]++
}

// back is closed when the backend is up the next time.
func (s *slaughter) back() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.returns
}

func (s *slaughter) isBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.returns)
	s.returns = make(chan struct{})
}

func (v *victim) process() *Process {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.GatewayProc
}

func (v *victim) launch(spared bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.spared = spared
	return v.LaunchGateway()
}

// live lets a process live for d, or until it is killed by somebody else. It
// tells whether it still lives.
func live(p *Process, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.Done():
		return false
	}
}

func uniform(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(most)))
}

// sprawling is anything between two times, as often short as long.
func sprawling(r *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), r.Float64()))
}

// appended waits until the gateway's queue has grown.
func (v *victim) appended(p *Process) {
	newest := func() (all string) {
		names, _ := filepath.Glob(v.path("gateway", "queue", "history-*.log")) // its one error is a bad pattern
		if len(names) == 0 {
			return ""
		}
		st, err := os.Stat(slices.Max(names))
		if err != nil {
			return ""
		}
		return fmt.Sprint(st.Name(), st.Size())
	}
	before := newest()
	for tick := time.NewTicker(time.Millisecond); newest() == before; {
		select {
		case <-tick.C:
		case <-p.Done():
			return
		}
	}
}

// awaitDrained waits until nothing waits in the queue but what is still being
// recorded.
func (v *victim) awaitDrained(ctx context.Context) error {
	return await(ctx, "the queue to be empty", v.GatewayProc, func() (bool, error) {
		snap, err := v.Status(ctx)
		waiting := uint64(0)
		for _, l := range snap.Queue.Lanes {
			waiting += l.Records
		}
		return err == nil && snap.Uplink.State == "connected" && waiting == 0, errors.Join(err, fmt.Errorf("%d records wait, %s", waiting, snap.Uplink.State))
	})
}

// run kills a gateway so many times.
func (s *slaughter) run(v *victim, r *rand.Rand, kills int) error {
	for killed := 0; killed < kills; {
		p, back := v.process(), s.back()
		// A reading counts as delivered by the bus 3 s after it was asked for
		// at the latest, so what lives shorter than that never vouches for anything.
		m := []moment{starting, starting, sealing, sealing, draining, stopping, anytime, anytime}[r.IntN(8)]
		switch m {
		case starting:
			live(p, uniform(r, 250*time.Millisecond))
		case anytime:
			live(p, sprawling(r, 100*time.Millisecond, 12*time.Second))
		case sealing:
			if live(p, 3500*time.Millisecond+uniform(r, 4*time.Second)) {
				v.appended(p)
				live(p, sprawling(r, 50*time.Microsecond, 60*time.Millisecond))
			}
		case draining:
			select {
			case <-back:
				live(p, uniform(r, 2*time.Second))
			case <-p.Done():
			}
		case stopping:
			if live(p, 3500*time.Millisecond+uniform(r, 4*time.Second)) {
				p.terminate()
				live(p, sprawling(r, time.Millisecond, 400*time.Millisecond))
			}
		}
		v.mu.Lock()
		select {
		case <-p.Done():
			if m == stopping && p.err == nil {
				s.count("gateway, no kill", "stopped in order")
			}
		default:
			p.Kill()
			s.count("gateway", m)
			killed++
		}
		v.mu.Unlock()
		if r.IntN(4) == 0 {
			pause(uniform(r, 2*time.Second))
		}
		if err := v.launch(killed == kills); err != nil {
			return err
		}
	}
	return nil
}

func pause(d time.Duration) { <-time.NewTimer(d).C }

// besiege kills the backend until done is closed, and leaves it up.
func (s *slaughter) besiege(r *rand.Rand, done <-chan struct{}) error {
	for {
		p := s.cloud.CloudProc
		m := []moment{recovering, receiving, receiving, receiving, together}[r.IntN(5)]
		life := sprawling(r, 200*time.Millisecond, 8*time.Second)
		if m == recovering {
			life = uniform(r, 400*time.Millisecond)
		}
		ready := make(chan struct{})
		go func() {
			defer close(ready)
			if s.cloud.awaitCloud(s.t.Context()) == nil {
				s.isBack()
			}
		}()
		end := time.NewTimer(life)
		select {
		case <-end.C:
		case <-done:
			<-ready
			return nil
		case <-p.Done():
			return fmt.Errorf("the backend ended by itself; its last words:\n%s", p.Tail())
		}
		if m == together {
			s.massacre(p)
		} else {
			p.Kill()
			s.count("backend", m)
		}
		<-ready
		if r.IntN(3) == 0 {
			pause(sprawling(r, 100*time.Millisecond, 6*time.Second))
		}
		if err := s.cloud.LaunchCloud(anywhere); err != nil {
			return err
		}
	}
}

// massacre kills everything at once. Each gateway's own loop brings it up again.
func (s *slaughter) massacre(cloud *Process) {
	var wg sync.WaitGroup
	for _, v := range s.plants {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.spared {
			continue
		}
		select {
		case <-v.GatewayProc.Done(): // and is about to be started
		default:
			wg.Go(v.GatewayProc.Kill)
			s.count("gateway", together)
		}
	}
	wg.Go(cloud.Kill)
	s.count("backend", together)
	wg.Wait()
}

// TestKillsOfRealProcessesLoseNothing kills gateways and their backend with
// SIGKILL, hundreds of times at random, while the pumps go on serving. Then every
// value that they served is in the store once or lies in a gap, the store has all
// records of each lane by name, and no gap takes more than what was open.
func TestKillsOfRealProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	gateways, kills := 6, 45
	if testing.Short() {
		gateways, kills = 1, 3
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "penstock-kills-") // not t.TempDir: a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &slaughter{t: t, cloud: &Site{Dir: dir, Programs: programs}, returns: make(chan struct{}), kills: map[string]int{}}
	t.Cleanup(func() {
		s.cloud.Abandon()
		for _, v := range s.plants {
			v.Abandon()
			if t.Failed() {
				t.Logf("%s said last:\n%s", v.Number, v.GatewayProc.Tail())
			}
		}
		if t.Failed() {
			t.Logf("the backend said last:\n%s", s.cloud.CloudProc.Tail())
		}
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 12*time.Minute, errors.New("the kills take too long"))
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.cloud.StartCloud(ctx, anywhere))
	for i := range gateways {
		v := &victim{Site: &Site{Dir: filepath.Join(dir, fmt.Sprint(i)), Programs: programs, Period: time.Second, Pumps: 2,
			Genibus: (i + 1) % 2, Beside: s.cloud, Number: fmt.Sprintf("LAB-1%03d", i)}}
		must(os.Mkdir(v.Dir, 0o755))
		must(v.Provision(ctx))
		must(v.StartPumps(ctx))
		must(v.StartGateway(ctx))
		s.plants = append(s.plants, v)
	}
	for _, v := range s.plants {
		must(v.AwaitStored(ctx)) // from the first durable record on everything counts
	}

	const seed = 20261125
	done, ends := make(chan struct{}), make(chan error)
	go func() { ends <- s.besiege(rand.New(rand.NewPCG(seed, 0)), done) }()
	var loops sync.WaitGroup
	for i, v := range s.plants {
		loops.Go(func() {
			if err := s.run(v, rand.New(rand.NewPCG(seed, uint64(i)+1)), kills); err != nil {
				t.Error(err)
			}
		})
	}
	loops.Wait()
	close(done)
	must(<-ends)

	for _, v := range s.plants {
		must(v.AwaitReadings(ctx))
	}
	for _, v := range s.plants {
		must(v.PumpsProc.Stop(ctx))
		if v.GenibusProc != nil {
			must(v.GenibusProc.Stop(ctx))
		}
	}
	for _, v := range s.plants {
		must(v.awaitDrained(ctx))
		must(v.GatewayProc.Stop(ctx))
	}
	must(s.cloud.CloudProc.Stop(ctx))

	total := 0
	for _, k := range slices.Sorted(maps.Keys(s.kills)) {
		t.Logf("%4d × %s", s.kills[k], k)
		if !strings.Contains(k, "no kill") {
			total += s.kills[k]
		}
	}
	var all Verdict
	records, gaps := 0, 0
	for _, v := range s.plants {
		verdict, err := v.Verdict(ctx)
		must(err)
		t.Logf("%s: %d served, %d stored, %d wrong, %d missing, %d discarded, %d in gaps", v.Number,
			verdict.Served, verdict.Stored, verdict.Wrong, verdict.Missing, verdict.Discarded, verdict.Excused)
		for _, f := range verdict.Faults {
			t.Errorf("%s: %s", v.Number, f)
		}
		if verdict.Stored == 0 {
			t.Errorf("%s: nothing is stored", v.Number)
		}
		all.Served, all.Stored, all.Excused, all.Discarded = all.Served+verdict.Served, all.Stored+verdict.Stored, all.Excused+verdict.Excused, all.Discarded+verdict.Discarded
		r, g := v.judgeNames(t)
		records, gaps = records+r, gaps+g
	}
	t.Logf("%d kills; %d readings judged, %d stored, %d in %d gaps, %d discarded; %d records", total, all.Served, all.Stored, all.Excused, gaps, all.Discarded, records)
}

// judgeNames looks at the records of a gateway: their numbers have no hole and no
// number came twice, the last is the last that the queue gave, and a gap begins no
// earlier than what the block before it vouches for.
func (v *victim) judgeNames(t *testing.T) (records, unclean int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+v.Database()+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT publish FROM records WHERE gateway = ? ORDER BY lane, seq`, v.Number)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	last := map[wire.Lane]uint64{}
	var gaps []telemetry.Gap
	var vouched []time.Time
	for rows.Next() {
		var publish []byte
		if err := rows.Scan(&publish); err != nil {
			t.Fatal(err)
		}
		rec, err := decode.ParseRecord(publish)
		if err != nil {
			t.Fatalf("%s: %v", v.Number, err)
		}
		if rec.Seq != last[rec.Lane]+1 {
			t.Errorf("%s: %v %d comes after %d", v.Number, rec.Lane, rec.Seq, last[rec.Lane])
		}
		last[rec.Lane] = rec.Seq
		records++
		switch rec.Kind {
		case wire.KindGap:
			g, err := decode.ParseGap(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			if g.Reason != telemetry.UncleanStop {
				t.Errorf("%s: a gap of another kind: %+v", v.Number, g)
			}
			gaps = append(gaps, g)
		case wire.KindBlock:
			b, err := decode.ParseBlock(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			vouched = append(vouched, b.To)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, g := range gaps {
		for _, to := range vouched {
			if to.After(g.From) && to.Before(g.To) {
				t.Errorf("%s: a block vouches for what comes before %v, and yet the gap begins at %v", v.Number, to, g.From)
			}
		}
	}
	q, found, err := queue.Open(disk.OS, v.path("gateway", "queue"), queue.Options{Limit: 256 << 20, Clock: clock.System,
		EncodeGap: wire.GapPayload, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	st := q.Status()
	if !found.Clean || st.History.Waiting+st.Urgent.Waiting > 0 || st.History.Next != last[wire.Lane(queue.History)]+1 || st.Urgent.Next != last[wire.Lane(queue.Urgent)]+1 {
		t.Errorf("%s: the queue ends as %+v (%+v), the store's last numbers are %v", v.Number, st, found, last)
	}
	return records, len(gaps)
}
