package lab

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/status"
)

// timeServer answers NTP questions (RFC 5905) with a clock that is off.
type timeServer struct {
	conn net.PacketConn
	off  atomic.Int64 // a time.Duration
}

func serveNTP(t *testing.T) *timeServer {
	t.Helper()
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &timeServer{conn: conn}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.answer()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return s
}

func (s *timeServer) answer() {
	b := make([]byte, 1024)
	for {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 48 {
			continue
		}
		// Era 0 began in 1900; the number wraps in 2036, and all know which is meant.
		now := time.Now().Add(time.Duration(s.off.Load()))
		stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
		var a [48]byte
		a[0], a[1], a[3] = 4<<3|4, 1, 0xec // version 4, a server; stratum 1; precise to a microsecond
		binary.BigEndian.PutUint64(a[16:], stamp-1<<32)
		copy(a[24:32], b[40:48]) // the question's own stamp
		binary.BigEndian.PutUint64(a[32:], stamp)
		binary.BigEndian.PutUint64(a[40:], stamp)
		if _, err := s.conn.WriteTo(a[:], from); err != nil {
			return
		}
	}
}

// hasty sleeps through waits of minutes: half an hour takes three seconds. Half a day,
// after which signed time is asked for again, does not pass.
type hasty struct{ clock.Clock }

func (h hasty) Sleep(ctx context.Context, d time.Duration) error {
	if d >= time.Minute && d < 2*time.Hour {
		d /= 600
	}
	return h.Clock.Sleep(ctx, d)
}

// TestATimeServerThatLiesLocksNobodyOut: the site's NTP server begins to say that it
// is 2099. While it lasts, no new session comes up, since every certificate has expired by then;
// readings are taken and dated by what our own service has signed. Then it tells the
// truth, and the gateway is back by itself; the floor has never moved.
func TestATimeServerThatLiesLocksNobodyOut(t *testing.T) {
	t.Parallel()
	site := prepare(t, func(s *Site) { s.Genibus, s.Period = 0, time.Second })
	for _, step := range []func() error{
		func() error { return site.StartCloud(t.Context(), anywhere) },
		func() error { return site.Provision(t.Context()) },
		func() error { return site.StartPumps(t.Context()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	ntp := serveNTP(t)
	b := switchOn("at a site that lies", time.Unix(0, 0))
	b.Clock = hasty{clock.System}
	r := moveIn(t, site, b, ntp.conn.LocalAddr().String())

	r.shows(t, "a session", func(s status.Snapshot) bool {
		return connected(s) && s.Uplink.Acknowledged > 3 && s.Clock.Floor.After(time.Now().Add(-time.Hour))
	})
	ntp.off.Store(int64(time.Until(time.Date(2099, 7, 1, 0, 0, 0, 0, time.UTC))))
	r.shows(t, "the lie", func(s status.Snapshot) bool { return s.Clock.Source == "ntp" && s.Time.Year() == 2099 })
	site.CloudProc.Kill()
	r.shows(t, "the session's end", func(s status.Snapshot) bool { return !connected(s) })
	if err := site.StartCloud(t.Context(), anywhere); err != nil {
		t.Fatal(err)
	}
	s := r.shows(t, "a refusal by the date", func(s status.Snapshot) bool {
		return s.Time.Year() == 2099 && !connected(s) && strings.Contains(s.Uplink.LastError+s.Identity.LastError, "expired") && undelivered(s) > 3
	})
	if now := time.Now(); s.Clock.Floor.After(now) || s.Clock.Floor.Before(now.Add(-time.Hour)) {
		t.Errorf("the lie has moved the floor to %v", s.Clock.Floor)
	}
	ntp.off.Store(0)
	s = r.shows(t, "the gateway to be back", func(s status.Snapshot) bool { return connected(s) && undelivered(s) == 0 })
	if now := time.Now(); s.Time.Sub(now).Abs() > time.Second || s.Clock.Floor.After(now) {
		t.Errorf("it is %v; the gateway says %v, its clock %+v", now, s.Time, s.Clock)
	}
	if err := site.PumpsProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(site.path("gateway"), "state", "clock.json"))
	if err != nil || strings.Contains(string(kept), "2099") {
		t.Errorf("the lie has survived on disk: %s, %v", kept, err)
	}
	if err := site.CloudProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// What was read meanwhile has its own time, not the liar's.
	table := bootTable(t, site)
	off := time.UnixMilli(table[len(table)-1].Began).Sub(b.booted)
	if off.Abs() > 100*time.Millisecond+time.Duration(table[len(table)-1].Early)*time.Millisecond {
		t.Errorf("readings are dated %v off", off)
	}
	judgeEras(t, site, func(at time.Time, _ time.Duration) (time.Time, bool) { return at.Add(-off), true }, b.booted)
}
