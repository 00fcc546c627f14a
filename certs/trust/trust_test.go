package trust

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

const (
	first = "Penstock Root"
	both  = "Penstock Root, Penstock Root 2"
)

func TestARunningGatewayTakesNewRootsIntoUse(t *testing.T) {
	s, g := site(t)
	changed := 0
	g.Changed = func() { changed++ }
	s.must(g.Look(t.Context()))
	if g.names() != first || g.Roots.Status().Version != 1 || changed != 0 {
		t.Errorf("before the rotation: %+v", g.Roots.Status())
	}
	s.must(g.Look(t.Context()))
	if changed != 0 {
		t.Error("what it has is news")
	}
	s.must(s.ca.Rotate("root"))
	s.must(g.meets(t)) // by the cross-certificate
	s.must(g.Look(t.Context()))
	if g.names() != both || changed != 1 {
		t.Errorf("after the rotation: %+v", g.Roots.Status())
	}
	s.must(g.meets(t))
	s.must(s.ca.Rotate("signing"))
	s.must(s.ca.Withdraw("root"))
	if err := g.Look(t.Context()); err == nil {
		t.Error("an identity of a withdrawn root is let in")
	}
	g.cert = s.gateway(faultdisk.New()).cert // it has enrolled under the second
	s.must(g.Look(t.Context()))
	if g.names() != "Penstock Root 2" {
		t.Errorf("after the first root was withdrawn: %+v", g.Roots.Status())
	}
	s.must(g.meets(t))
	before := g.Roots.Status()
	g.restart(t)
	if now := g.Roots.Status(); now.Version != before.Version || g.names() != "Penstock Root 2" || now.Trouble != "" {
		t.Errorf("after a restart: %+v, before: %+v", now, before)
	}
	s.must(g.meets(t))
	if text, err := disk.ReadFile(g.fsys, dir+"/roots.pem"); err != nil || bytes.Contains(text, []byte("Root 2")) || len(text) == 0 {
		t.Errorf("the roots of the bench were touched: %v", err)
	}
}

// TestAWithdrawnRootIsHeardOf: the factory identity comes from it, and is refused; the
// operational certificate does not.
func TestAWithdrawnRootIsHeardOf(t *testing.T) {
	s, g := site(t)
	s.must(s.ca.Rotate("root"))
	s.must(g.Look(t.Context()))
	enrolled := s.gateway(faultdisk.New()).cert
	s.must(s.ca.Withdraw("root"))
	if err := g.Look(t.Context()); err == nil || g.names() != both {
		t.Errorf("with the factory identity alone: %v, %s", err, g.names())
	}
	none := func() (*tls.Certificate, error) { return nil, errors.New("not enrolled") }
	g.Certs = append([]Cert{none}, append(g.Certs, func() (*tls.Certificate, error) { return &enrolled, nil })...)
	s.must(g.Look(t.Context()))
	if g.names() != "Penstock Root 2" {
		t.Errorf("with both: %s", g.names())
	}
	g.Certs = []Cert{none}
	if err := g.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "no certificate to show") {
		t.Errorf("with none: %v", err)
	}
}

func TestAGatewayWithoutPinnedKeysKeepsItsRoots(t *testing.T) {
	s, g := site(t)
	s.must(g.fsys.Remove(dir + "/" + PinnedFile))
	g.restart(t)
	s.must(s.ca.Rotate("root"))
	s.must(g.Look(t.Context()))
	if st := g.Roots.Status(); !st.Fixed || st.Version != 0 || g.names() != first || s.requests() != 0 {
		t.Errorf("%+v, after %d requests", st, s.requests())
	}
	s.must(g.meets(t))
	g.Keep(t.Context()) // has nothing to do, and returns
}

// TestAGatewayComesBackFromADrawer lets one lie across a rotation for ever longer,
// with a clock that stands at 1970 and with one that is right.
func TestAGatewayComesBackFromADrawer(t *testing.T) {
	for name, c := range map[string]struct {
		rotated, back time.Duration
		meets         bool // the servers' certificates lead to its root, by the cross-certificate
	}{
		"while its root is valid":          {year, 2 * year, true},
		"after its root has expired":       {29 * year, 31 * year, false},
		"long after":                       {29 * year, 50 * year, false},
		"after the rotation of an old age": {15 * year, 31 * year, false},
	} {
		for _, known := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", with a clock", false: ", without one"}[known], func(t *testing.T) {
				s, g := site(t)
				s.clock.set(beginning.Add(c.rotated), true)
				s.must(s.ca.Rotate("root"))
				s.must(s.ca.Rotate("signing"))
				today := beginning.Add(c.back)
				s.clock.set(today, true)
				for _, renew := range []string{"servers", "factory", "operational"} {
					s.must(s.ca.Rotate(renew)) // they live ten years
				}
				// The gateway's own certificate is of twenty years: what it shows today it has
				// enrolled for, or was never older; the roots are what is tried here.
				g.cert = s.gateway(faultdisk.New()).cert
				g.clock.set(today, true)
				if err := g.meets(t); (err == nil) != c.meets {
					t.Errorf("before: %v", err)
				}
				if !known {
					g.clock.set(time.Unix(0, 0), false)
				}
				s.must(g.Look(t.Context()))
				g.clock.set(today, true) // signed time comes by the new roots
				if err := g.meets(t); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if !strings.HasSuffix(g.names(), "Penstock Root 2") {
					t.Errorf("the roots are %s", g.names())
				}
				g.restart(t)
				s.must(g.meets(t))
			})
		}
	}
}

// TestRootsThatDoNotWorkAreNotTaken: the file is signed, and no server is under its
// roots yet.
func TestRootsThatDoNotWorkAreNotTaken(t *testing.T) {
	s, g := site(t)
	s.must(g.Look(t.Context()))
	server, err := s.ca.Server("auth", []string{"localhost"})
	s.must(err)
	old, err := server.Certificate()
	s.must(err)
	s.show(old) // a node of the service that lags behind
	s.must(s.ca.Rotate("root"))
	s.must(s.ca.Withdraw("root"))
	g.cert = s.gateway(faultdisk.New()).cert
	for range 2 {
		err = g.Look(t.Context())
		if err == nil || !strings.Contains(err.Error(), "version 3 of the roots is signed, and does not work yet") {
			t.Fatalf("looking: %v", err)
		}
		if st := g.Roots.Status(); st.Version != 1 || st.Next != 3 || g.names() != first {
			t.Errorf("in force: %+v", st)
		}
		s.must(g.meets(t))
		g.restart(t)
	}
	s.show(nil) // the node follows
	s.must(g.Look(t.Context()))
	if st := g.Roots.Status(); st.Version != 3 || st.Next != 0 || g.names() != "Penstock Root 2" {
		t.Errorf("in force: %+v", st)
	}
	s.must(g.meets(t))
}

// TestWhatWasTriedInVainIsTheWayBack: the roots in force fail, and those that were
// signed earlier and did not work then do now.
func TestWhatWasTriedInVainIsTheWayBack(t *testing.T) {
	s, g := site(t)
	server, err := s.ca.Server("auth", []string{"localhost"})
	s.must(err)
	old, err := server.Certificate()
	s.must(err)
	s.show(old)
	s.must(s.ca.Rotate("root"))
	s.must(s.ca.Withdraw("root"))
	g.cert = s.gateway(faultdisk.New()).cert
	if err := g.Look(t.Context()); err == nil {
		t.Fatal("it works")
	}
	// Now the servers' chain leads to the new root alone, and the service has nothing to
	// say that is newer.
	s.show(nil)
	fresh, err := server.Certificate()
	s.must(err)
	alone := *fresh
	alone.Certificate = alone.Certificate[:2] // without the cross-certificate
	s.show(&alone)
	if err := g.meets(t); !unverified(err) {
		t.Fatalf("the old root still works: %v", err)
	}
	s.must(g.Look(t.Context()))
	s.must(g.meets(t))
}

func TestAFileThatCannotBeReadIsSaidAndNeverFatal(t *testing.T) {
	for name, file := range map[string]string{"the pinned keys": PinnedFile, "the roots": File, "the roots to try": NextFile} {
		t.Run(name, func(t *testing.T) {
			s, g := site(t)
			s.must(s.ca.Rotate("root"))
			s.must(g.Look(t.Context()))
			s.must(disk.WriteFile(g.fsys, dir+"/"+file, []byte("{"), 0o644))
			g.restart(t)
			if st := g.Roots.Status(); !strings.Contains(st.Trouble, file) || !strings.Contains(st.Trouble, "unexpected EOF") {
				t.Errorf("the trouble is %q", st.Trouble)
			}
			s.must(g.meets(t))
			if file == PinnedFile {
				return
			}
			s.must(g.Look(t.Context()))
			if g.names() != both {
				t.Errorf("it does not get over it: %s", g.names())
			}
		})
	}
}

// TestThePowerMayGoAtEveryWriteOfTakingRoots: after each cut there is a set of roots
// with which the gateway meets its servers, and it takes the new ones when it looks
// again.
func TestThePowerMayGoAtEveryWriteOfTakingRoots(t *testing.T) {
	s, _ := site(t)
	bench := faultdisk.New()
	made := s.gateway(bench)
	s.must(s.ca.Rotate("root"))
	s.must(s.ca.Rotate("signing"))
	fresh := func() (*faultdisk.Disk, *gateway) {
		d := faultdisk.New()
		s.must(disk.MkdirAll(d, dir, 0o700))
		for _, name := range []string{PinnedFile, "roots.pem"} {
			text, err := disk.ReadFile(bench, dir+"/"+name)
			s.must(err)
			s.must(disk.WriteFile(d, dir+"/"+name, text, 0o644))
		}
		g := *made
		k := &Keeper{URL: s.url, Certs: made.Certs, Clock: made.clock, Floor: made.Floor, Rand: made.Rand, Log: made.Log}
		g.fsys, g.Keeper = d, k
		g.restart(t)
		return d, &g
	}
	d, g := fresh()
	before := d.Operations()
	s.must(g.Look(t.Context()))
	total := d.Operations()
	if total-before < 6 {
		t.Fatalf("taking roots writes %d times only", total-before)
	}
	cuts := 0
	for n := before + 1; n <= total; n++ {
		for seed := range uint64(6) {
			d, g := fresh()
			d.CutAt(n)
			if err := g.Look(t.Context()); err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
				t.Fatal(err)
			}
			g.fsys = d.AfterCut(seed)
			g.restart(t)
			if st := g.Roots.Status(); st.Fixed || st.Trouble != "" || g.names() != first && g.names() != both {
				t.Fatalf("cut at %d, seed %d: %+v", n, seed, st)
			}
			if err := g.meets(t); err != nil {
				t.Fatalf("cut at %d, seed %d: the gateway is alone: %v", n, seed, err)
			}
			if err := g.Look(t.Context()); err != nil || g.names() != both {
				t.Fatalf("cut at %d, seed %d: looking again: %v, %s", n, seed, err, g.names())
			}
			g.restart(t)
			if err := g.meets(t); err != nil || g.names() != both {
				t.Fatalf("cut at %d, seed %d: at last: %v, %s", n, seed, err, g.names())
			}
			cuts++
		}
	}
	t.Logf("%d cuts", cuts)
}

// TestADiskThatIsFullChangesNothing: new roots wait until there is room.
func TestADiskThatIsFullChangesNothing(t *testing.T) {
	d := faultdisk.New()
	s := newService(t, faultdisk.New(), at(beginning))
	g := s.gateway(d)
	s.must(s.ca.Rotate("root"))
	d.SetSpace(0)
	if err := g.Look(t.Context()); err == nil {
		t.Error("there was room")
	}
	if g.names() != first {
		t.Errorf("in force: %s", g.names())
	}
	s.must(g.meets(t))
	d.SetSpace(1 << 20)
	s.must(g.Look(t.Context()))
	if g.names() != both {
		t.Errorf("with room: %s", g.names())
	}
}

// TestExpiredKeysNameTheirSuccessors: expiry of metadata costs new roots until there
// are other keys, and never what is in force.
func TestExpiredKeysNameTheirSuccessors(t *testing.T) {
	s, g := site(t)
	s.must(g.Look(t.Context()))
	s.clock.set(beginning.Add(29*year), true)
	s.must(s.ca.Rotate("root")) // lives beyond the first keys
	s.clock.set(beginning.Add(31*year), true)
	s.must(s.ca.Rotate("servers"))
	g.cert = s.gateway(faultdisk.New()).cert
	g.clock.set(s.clock.Now(), true)

	g.floor = g.clock.Now()
	var expired *ExpiredError
	if err := g.Look(t.Context()); !errors.As(err, &expired) {
		t.Errorf("with expired keys, for certain: %v", err)
	}
	if g.names() != first {
		t.Errorf("in force: %s", g.names())
	}
	s.must(s.ca.Rotate("signing"))
	s.must(g.Look(t.Context()))
	if !strings.HasSuffix(g.names(), "Penstock Root 2") || g.meets(t) != nil {
		t.Errorf("with their successors: %s, %v", g.names(), g.meets(t))
	}
}

// TestAClockThatNobodyVouchesForExpiresNothing: only the floor counts.
func TestAClockThatNobodyVouchesForExpiresNothing(t *testing.T) {
	s, g := site(t)
	s.must(s.ca.Rotate("root"))
	g.clock.set(beginning.Add(73*year), false) // somebody says that it is 2099
	s.must(g.Look(t.Context()))
	if g.names() != both {
		t.Errorf("in force: %s", g.names())
	}
}
