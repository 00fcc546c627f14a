package lab

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// built compiles the programs once for all tests of the package.
var built = sync.OnceValues(func() (Programs, error) {
	dir, err := os.MkdirTemp("", "penstock-e2e-")
	if err != nil {
		return Programs{}, err
	}
	cleanups = append(cleanups, dir)
	return Build(context.Background(), dir)
})

var cleanups []string

func TestMain(m *testing.M) {
	// Plants wait more than they work: more of them than processors stand side by side.
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue {
		_ = flag.Set("test.parallel", "6") // it is one of testing's own
	}
	code := m.Run()
	for _, dir := range cleanups {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var anywhere = Addresses{Auth: "127.0.0.1:0", Endpoint: "127.0.0.1:0", Web: "127.0.0.1:0"}

// up brings up a site whose first reading is stored.
func up(t *testing.T, change func(*Site)) *Site {
	t.Helper()
	site := prepare(t, change)
	if err := site.Up(t.Context(), anywhere, testPassword, t.Logf); err != nil {
		t.Fatal(err)
	}
	return site
}

// prepare makes a site of which nothing runs yet. What runs at the end of the test
// is killed.
func prepare(t *testing.T, change func(*Site)) *Site {
	t.Helper()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a socket's path may not be long.
	dir, err := os.MkdirTemp("", "penstock-site-")
	if err != nil {
		t.Fatal(err)
	}
	site := &Site{Dir: dir, Programs: programs, Period: 2 * time.Second, Pumps: 2, Genibus: 1}
	if change != nil {
		change(site)
	}
	t.Cleanup(func() {
		site.Abandon()
		if t.Failed() {
			for _, p := range []*Process{site.GatewayProc, site.CloudProc, site.PumpsProc} {
				if p != nil {
					t.Logf("%s said last:\n%s", p.Name, p.Tail())
				}
			}
		}
		os.RemoveAll(dir)
	})
	return site
}

const testPassword = "correct horse battery staple"

// run lets the plant work, looking at the gateway's sockets all the while.
func run(t *testing.T, site *Site, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	listening, err := watch(ctx, site, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	if listening > 0 {
		t.Errorf("the gateway listens on %d network sockets", listening)
	}
}

// settle ends the run and judges it. excused bounds the values that gap records
// may name.
func settle(t *testing.T, site *Site, excused int) Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := site.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	v, err := site.Verdict(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d served, %d stored, %d wrong, %d missing, %d discarded, %d in gaps", v.Served, v.Stored, v.Wrong, v.Missing, v.Discarded, v.Excused)
	for _, f := range v.Faults {
		t.Error(f)
	}
	if v.Wrong > 0 || v.Missing > 0 || v.Served == 0 || v.Stored == 0 {
		t.Errorf("the store does not hold what the pumps served: %+v", v)
	}
	if v.Excused > excused {
		t.Errorf("%d values are lost in gaps, more than the %d of one open block", v.Excused, excused)
	}
	return v
}

func TestWhatThePumpsServeIsWhatIsStored(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	run(t, site, 10*time.Second)
	if v := settle(t, site, 0); v.Stored < 200 {
		t.Errorf("only %d readings in ten seconds", v.Stored)
	}
}

func TestTheARMFirmwareDoesTheSame(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	dir := t.TempDir()
	binary, err := BuildARM(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	argv, err := Emulated(binary)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	site := up(t, func(s *Site) { s.Programs.Gateway = argv })
	run(t, site, 10*time.Second)
	settle(t, site, 0)
}

func TestAKilledBackendLosesNothing(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	for range 3 {
		run(t, site, 2*time.Second)
		site.CloudProc.Kill()
		if err := await(t.Context(), "the gateway to notice", site.GatewayProc, func() (bool, error) {
			s, err := site.Status(t.Context())
			return err == nil && s.Uplink.State != "connected", err
		}); err != nil {
			t.Fatal(err)
		}
		if err := await(t.Context(), "readings to pile up", site.GatewayProc, func() (bool, error) {
			s, err := site.Status(t.Context())
			if err != nil {
				return false, err
			}
			for _, l := range s.Queue.Lanes {
				if l.Name == "history" && l.Records >= 2 {
					return true, nil
				}
			}
			return false, fmt.Errorf("queue %+v", s.Queue)
		}); err != nil {
			t.Fatal(err)
		}
		if err := site.StartCloud(t.Context(), anywhere); err != nil {
			t.Fatal(err)
		}
		if err := await(t.Context(), "the gateway to come back", site.GatewayProc, func() (bool, error) {
			s, err := site.Status(t.Context())
			return err == nil && s.Uplink.State == "connected", err
		}); err != nil {
			t.Fatal(err)
		}
	}
	run(t, site, 2*time.Second)
	settle(t, site, 0)
}

func TestAKilledGatewayLosesNoMoreThanItsOpenBlock(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	const kills = 3
	perBlock := 0
	for range kills {
		run(t, site, 5*time.Second)
		s, err := site.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		perBlock = 0
		for _, b := range s.Buses {
			for _, p := range b.Pumps {
				perBlock += len(p.Values)
			}
		}
		site.GatewayProc.Kill()
		if err := site.StartGateway(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := site.AwaitReadings(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(t, site, 4*time.Second)
	// A block of two seconds holds each value of 1 s twice, and the slower ones
	// at most once; one more second is on its way when the block is sealed.
	v := settle(t, site, kills*3*perBlock)
	if v.Excused == 0 {
		t.Log("every kill found the open block empty")
	}
}

func TestTheDemoRunsUnattended(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "summary.json")
	p, err := Start("the demo", out, programs.Lab, "demo", "-exit-after", "12s", "-json")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
	}
	if p.err != nil {
		t.Fatalf("%v\n%s", p.err, p.Tail())
	}
	checkSummary(t, out)
}
