package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// fake is a link in a test's hands.
type fake struct {
	name   string
	traits Traits

	mu     sync.Mutex
	good   bool
	ready  error
	bytes  uint64
	probes int
}

var errDead = errors.New("nobody answers")

func (f *fake) Name() string { return f.name }
func (f *fake) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errDead
}
func (f *fake) Traits() Traits     { return f.traits }
func (f *fake) Problems() []string { return nil }
func (f *fake) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}
func (f *fake) Bytes() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes, nil
}
func (f *fake) set(good bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good = good
}
func (f *fake) answers() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good && f.ready == nil
}
func (f *fake) probed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.probes
}
func (f *fake) probe(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probes++
	if f.good {
		return nil
	}
	return errDead
}

// scene is a group of links with something like a session on top.
type scene struct {
	g      *Group
	disk   *faultdisk.Disk
	links  []*fake
	log    bytes.Buffer
	warned []Warning
	full   bool // the disk takes no warning
	cancel context.CancelFunc
	ended  chan struct{}
}

func newScene(t *testing.T, d *faultdisk.Disk, links ...*fake) *scene {
	t.Helper()
	s := &scene{disk: d, links: links, ended: make(chan struct{})}
	if err := disk.MkdirAll(d, "/state", 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Probe: func(ctx context.Context, l Link) error { return l.(*fake).probe(ctx) }, Warn: s.warn, FS: d, Dir: "/state", Clock: clock.System,
		Rand: rand.New(rand.NewPCG(1, 1)).Float64, Log: slog.New(slog.NewTextHandler(&s.log, nil))}
	for _, l := range links {
		cfg.Links = append(cfg.Links, l)
	}
	g, err := NewGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.g = g
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { g.Run(ctx); close(s.ended) }()
	synctest.Wait()
	return s
}

func (s *scene) warn(w Warning) error {
	if s.full {
		return errors.New("the disk is full")
	}
	s.warned = append(s.warned, w)
	return nil
}

func (s *scene) stop() { s.cancel(); <-s.ended }

// session behaves as the uplink's session does, for a while: it connects, stays
// while the link answers, notices within 20 s when it does not, and waits
// between attempts. used counts the seconds that each link carried.
func (s *scene) session(d time.Duration, used map[string]int) (switches int) {
	end := time.Now().Add(d)
	last := ""
	for time.Now().Before(end) {
		p := s.g.Next()
		f := p.(*choice).Link.(*fake)
		if !f.answers() {
			time.Sleep(10 * time.Second)
			p.Failed(errDead)
			continue
		}
		if last != "" && f.name != last {
			switches++
		}
		last = f.name
		for left := false; f.answers() && !left && time.Now().Before(end); {
			p.Answered()
			used[f.name]++
			select {
			case <-p.Left():
				left = true
			case <-time.After(time.Second):
			}
		}
		if !f.answers() {
			time.Sleep(20 * time.Second)
			p.Failed(errDead)
		}
	}
	return switches
}

func TestThreeFailuresMakeAnotherLinkAndOneDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth, lte := &fake{name: "ethernet", good: true}, &fake{name: "modem", good: true}
		s := newScene(t, faultdisk.New(), eth, lte)
		defer s.stop()
		for i, want := range []string{"ethernet", "ethernet", "ethernet", "modem"} {
			p := s.g.Next()
			if p.Name() != want {
				t.Errorf("after %d failures: %s", i, p.Name())
			}
			p.Failed(errDead)
		}
	})
}

func TestALinkThatIsDownIsLeftForOneThatIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, faultdisk.New(), &fake{name: "ethernet"}, &fake{name: "modem"})
		defer s.stop()
		for i, want := range []bool{false, false, true, false, false, false, false} { // the modem is down, too: nothing is better
			p := s.g.Next()
			p.Failed(errDead)
			left := false
			select {
			case <-p.Left():
				left = true
			default:
			}
			if left != want {
				t.Errorf("after failure %d of %s: left %v", i+1, p.Name(), left)
			}
		}
	})
}

func TestABetterLinkIsTakenAgainOnceItHasHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth, lte := &fake{name: "ethernet"}, &fake{name: "modem", good: true}
		s := newScene(t, faultdisk.New(), eth, lte)
		defer s.stop()
		used := map[string]int{}
		s.session(2*time.Hour, used)
		if used["ethernet"] != 0 || used["modem"] < 7100 {
			t.Errorf("used %v s", used)
		}
		if eth.probed() < 20 || eth.probed() > 60 {
			t.Errorf("%d probes of a dead link in two hours", eth.probed())
		}
		if lte.probed() != 0 {
			t.Error("a lesser link was probed, which is paid for and changes nothing")
		}
		eth.set(true)
		used = map[string]int{}
		if n := s.session(time.Hour, used); n != 1 || used["modem"] > 400 {
			t.Errorf("%d switches, %v s", n, used)
		}
	})
}

func TestALoosePlugDoesNotDragTheSessionToAndFro(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth, lte := &fake{name: "ethernet", good: true}, &fake{name: "modem", good: true}
		s := newScene(t, faultdisk.New(), eth, lte)
		defer s.stop()
		go func() { // good for two minutes, gone for two
			for range 360 {
				time.Sleep(2 * time.Minute)
				eth.set(!eth.answers())
			}
		}()
		used := map[string]int{}
		n := s.session(12*time.Hour, used)
		if n > 30 {
			t.Errorf("%d switches in half a day", n)
		}
		if up := used["ethernet"] + used["modem"]; up < 11*3600 {
			t.Errorf("connected for %d s of 43200", up)
		}
		t.Logf("%d switches, used %v s", n, used)
	})
}

// TestALinkThatFlapsHasNotHeld: between the moments without carrier the better link
// answers every probe.
func TestALinkThatFlapsHasNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth, lte := &fake{name: "ethernet", good: true}, &fake{name: "modem", good: true}
		s := newScene(t, faultdisk.New(), eth, lte)
		defer s.stop()
		plug := func(in bool) {
			eth.mu.Lock()
			defer eth.mu.Unlock()
			if eth.ready = nil; !in {
				eth.ready = errors.New("no carrier")
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range 100 {
				plug(false)
				time.Sleep(1500 * time.Millisecond)
				plug(true)
				time.Sleep(10500 * time.Millisecond)
			}
		}()
		used := map[string]int{}
		if n := s.session(15*time.Minute, used); n > 1 || eth.probed() < 10 {
			t.Errorf("%d switches, %v s, %d probes", n, used, eth.probed())
		}
		<-ended
		if n := s.session(10*time.Minute, used); n != 1 {
			t.Errorf("%d switches once the plug is in", n)
		}
	})
}

func TestWithoutCarrierALinkIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth, lte := &fake{name: "ethernet", good: true}, &fake{name: "modem", good: true}
		s := newScene(t, faultdisk.New(), eth, lte)
		defer s.stop()
		p := s.g.Next()
		eth.mu.Lock()
		eth.ready = errors.New("no carrier")
		eth.mu.Unlock()
		began := time.Now()
		<-p.Left()
		if took := time.Since(began); took > 2*look {
			t.Errorf("left after %v", took)
		}
		if got := s.g.Next().Name(); got != "modem" {
			t.Error(got)
		}
		if st := s.g.Status()[0]; st.Up || st.Problem != "no carrier" {
			t.Errorf("%+v", st)
		}
	})
}

func TestALinkAloneIsNeverGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eth := &fake{name: "ethernet", ready: errors.New("no carrier")}
		s := newScene(t, faultdisk.New(), eth)
		defer s.stop()
		for range 100 {
			p := s.g.Next()
			p.Failed(errDead)
			time.Sleep(time.Minute)
		}
		eth.mu.Lock()
		eth.ready, eth.good = nil, true
		eth.mu.Unlock()
		p := s.g.Next()
		p.Answered()
		if st := s.g.Status()[0]; !st.Current || !st.Up {
			t.Errorf("%+v", st)
		}
	})
}

// TestWhateverTheLinksDoAGoodOneIsFound lets links come and go at random. Whenever
// one of them has been good for a while, the session is on a good one.
func TestWhateverTheLinksDoAGoodOneIsFound(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			links := []*fake{{name: "a"}, {name: "b"}, {name: "c"}}[:1+r.IntN(3)]
			s := newScene(t, faultdisk.New(), links...)
			defer s.stop()
			for round := range 30 {
				some := false
				for _, l := range links {
					l.mu.Lock()
					l.good, l.ready = r.IntN(2) == 0, nil
					if r.IntN(4) == 0 {
						l.ready = errors.New("no carrier")
					}
					some = some || l.good && l.ready == nil
					l.mu.Unlock()
				}
				s.session(time.Duration(3+r.IntN(4))*time.Minute, map[string]int{})
				used := map[string]int{}
				s.session(time.Minute, used)
				if some && len(used) == 0 {
					t.Fatalf("seed %d, round %d: a link is good, and none is used: %+v", seed, round, s.g.Status())
				}
			}
		})
	}
}

func TestTheBudgetIsKeptOverRestartsAndMonths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := faultdisk.New()
		lte := &fake{name: "modem", good: true, bytes: 500 << 20, traits: Traits{Metered: true, Budget: 100 << 20}}
		s := newScene(t, d, lte)
		add := func(mb uint64) {
			lte.mu.Lock()
			lte.bytes += mb << 20
			lte.mu.Unlock()
			time.Sleep(2 * countEvery * look)
		}
		history := func() bool { return s.g.Next().History() }
		add(79)
		if !history() || strings.Contains(s.log.String(), "data") {
			t.Errorf("at 79 %%: %s", s.log.String())
		}
		add(2)
		if !history() || strings.Count(s.log.String(), "most of the month's data is used") != 1 {
			t.Errorf("at 81 %%: %s", s.log.String())
		}
		s.stop()
		lte.bytes = 0 // the device began anew
		s = newScene(t, d, lte)
		add(18)
		if !history() {
			t.Error("at 99 %")
		}
		add(2)
		if history() || !strings.Contains(s.log.String(), "used up") || strings.Contains(s.log.String(), "most of") {
			t.Errorf("at 101 %%: %s", s.log.String())
		}
		if st := s.g.Status()[0]; st.Bytes != 101<<20 || len(st.Advice) != 1 || !strings.Contains(st.Advice[0], "used up") {
			t.Errorf("%+v", st)
		}
		s.stop()
		// The power fails: what is forgotten is little.
		s = newScene(t, d.AfterCut(0), lte)
		if history() {
			t.Error("a power cut gave the budget back")
		}
		s.stop()
		time.Sleep(32 * 24 * time.Hour)
		s = newScene(t, d, lte)
		time.Sleep(2 * countEvery * look)
		if !history() {
			t.Error("another month, and nothing may pass")
		}
		s.stop()
	})
}

// TestAMonthEndsByATimeThatIsCertain: what a gateway uses before it knows the time
// counts for the month that it then turns out to be.
func TestAMonthEndsByATimeThatIsCertain(t *testing.T) {
	m := openMeter(faultdisk.New(), "/state", func(Warning) error { return nil }, slog.New(slog.DiscardHandler))
	traits := Traits{Budget: 100}
	used := func(counter uint64, now time.Time, want uint64, month string) {
		t.Helper()
		m.count("modem", counter, traits, now)
		if u := m.of("modem"); u.Bytes != want || u.Month != month {
			t.Errorf("at %v: %d bytes in %q, want %d in %q", now, u.Bytes, u.Month, want, month)
		}
	}
	november := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	used(0, time.Time{}, 0, "")
	used(60, time.Time{}, 60, "")
	used(70, november, 70, "2026-11")
	used(75, time.Time{}, 75, "2026-11") // booted again
	used(80, november.Add(2*time.Hour), 5, "2026-12")
}

func TestTheCloudIsWarnedOnceForEachShareAndMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := faultdisk.New()
		lte := &fake{name: "modem", good: true, traits: Traits{Metered: true, Budget: 100 << 20}}
		s := newScene(t, d, lte)
		add := func(mb uint64) {
			lte.mu.Lock()
			lte.bytes += mb << 20
			lte.mu.Unlock()
			time.Sleep(2 * countEvery * look)
			synctest.Wait()
		}
		again := func() {
			s.stop()
			was := s.warned
			s = newScene(t, d, lte)
			s.warned = was
		}
		s.full = true
		add(85)
		if strings.Contains(s.log.String(), "most of the month's data is used") || len(s.warned) != 0 {
			t.Errorf("warned although the disk took it not: %+v", s.warned)
		}
		s.full = false
		add(1)
		add(1)
		again()
		add(20)
		again()
		add(20)
		time.Sleep(32 * 24 * time.Hour)
		add(101)
		want := []Warning{{"modem", time.Time{}, 80, 0}, {"modem", time.Time{}, 100, 80}, {"modem", time.Time{}, 100, 0}}
		if len(s.warned) != len(want) {
			t.Fatalf("%+v", s.warned)
		}
		for i, w := range s.warned {
			if w.Time.IsZero() {
				t.Errorf("%+v has no time", w)
			}
			if w.Time = (time.Time{}); w != want[i] {
				t.Errorf("%+v, want %+v", w, want[i])
			}
		}
		s.stop()
	})
}

func TestAClockThatHasLostItsTimeGrantsNothing(t *testing.T) {
	m := openMeter(faultdisk.New(), "/state", func(Warning) error { return nil }, slog.New(slog.DiscardHandler))
	budget := Traits{Budget: 1000}
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	m.count("modem", 0, budget, now)
	m.count("modem", 1500, budget, now)
	m.count("modem", 1500, budget, time.Unix(0, 0))
	if !m.spent("modem", budget) {
		t.Error("1970 gave the budget back")
	}
	m.count("modem", 1500, budget, now.AddDate(0, 1, 0))
	if m.spent("modem", budget) {
		t.Error("December did not")
	}
}

func ExampleGroup() {
	g, err := NewGroup(Config{
		Links: []Link{
			NewDevice(DeviceConfig{Name: "ethernet", Device: "eth0", First: true}),
			NewDevice(DeviceConfig{Name: "modem", Device: "ppp0", PointToPoint: true, Metered: true, Budget: 100 << 20}),
		},
		Probe: func(context.Context, Link) error { return nil },
		Warn:  func(Warning) error { return nil },
		FS:    faultdisk.New(), Dir: "/state", Clock: clock.System, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range g.Status() {
		fmt.Println(s.Name, s.Metered, s.Budget)
	}
	// Output:
	// ethernet false 0
	// modem true 104857600
}
