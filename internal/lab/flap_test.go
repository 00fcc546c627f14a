package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"penstock/backend/store"
)

// standing is the number of the session that stands; it fails the test when none
// does.
func standing(t *testing.T, site *Site) uint64 {
	t.Helper()
	s, err := site.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Uplink.State != "connected" {
		t.Errorf("the session is %s: %s", s.Uplink.State, s.Uplink.LastError)
	}
	return s.Uplink.Session
}

// TestALinkThatFlapsIsNotFollowed: the plug of the better link goes in and out. The
// session leaves it once and stays where it is well; when every plug is out the
// gateway waits, takes the first link that is back, and goes back to the better one
// only when that has proven itself.
func TestALinkThatFlapsIsNotFollowed(t *testing.T) {
	t.Parallel()
	w := newWAN(t)
	site := w.site(bothLinks)
	over(t, site, "ethernet", 10*time.Second)
	random := rand.New(rand.NewPCG(5, 5))
	flap := func() {
		w.ip(w.router, "link set re down")
		run(t, site, time.Duration(300+random.IntN(1500))*time.Millisecond)
		w.ip(w.router, "link set re up")
		run(t, site, time.Duration(300+random.IntN(2500))*time.Millisecond)
	}
	flap() // so short that it may have gone unseen
	w.ip(w.router, "link set re down")
	over(t, site, "modem", 20*time.Second)
	w.ip(w.router, "link set re up")
	first := standing(t, site)
	for range 12 {
		flap()
		if n := standing(t, site); n != first {
			t.Fatalf("session %d became %d: the flapping was followed", first, n)
		}
	}
	over(t, site, "modem", time.Second)

	w.ip(w.router, "link set re down")
	w.ip(w.router, "link set rl down")
	noticed(t, site, 34*time.Second)
	run(t, site, 3*time.Second)
	w.ip(w.router, "link set rl up")
	over(t, site, "modem", time.Minute)

	w.ip(w.router, "link set re up")
	if took := over(t, site, "ethernet", 100*time.Second); took < 15*time.Second {
		t.Errorf("back over ethernet after %v, before it could have proven itself", took)
	}
	if log, err := os.ReadFile(site.GatewayProc.Log); err != nil || !strings.Contains(string(log), `msg="a link is back" part=links link=ethernet`) {
		t.Errorf("the log does not say why (%v)", err)
	}
	settle(t, site, 0)
}

// TestADataBudgetIsToldAndKept: somebody else's traffic uses the modem's data up.
// The cloud is told at 80 and at 100 %, over the link that carries nothing else any
// more, and what waited goes when there is data again.
func TestADataBudgetIsToldAndKept(t *testing.T) {
	t.Parallel()
	w := newWAN(t)
	const link = "links:\n  - {name: modem, device: lte0, metered: true, budget: %s}\n"
	site := w.site(fmt.Sprintf(link, "1MB"))
	use := func(bytes int) {
		t.Helper()
		c, err := w.gateway.Dial(t.Context(), "udp4", "10.2.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for datagram := make([]byte, 1400); bytes > 0; bytes -= len(datagram) {
			_, _ = c.Write(datagram) // nobody listens there, which it may be told
		}
	}
	alarm := func(words string) {
		t.Helper()
		withStore(t, site, func(db *store.Store) {
			if err := await(t.Context(), "the alarm "+words, site.GatewayProc, func() (bool, error) {
				alarms, err := db.Alarms(t.Context(), Serial)
				if len(alarms) > 1 {
					t.Fatalf("%v", alarms)
				}
				return told(alarms, words), err
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
	use(860 << 10)
	alarm("80 % of the data of link modem")
	recovered(t, site, time.Minute)
	use(200 << 10)
	alarm("all data of link modem")
	seenOnThePage(t, w.page(), "#alarms:not([hidden])", "all data of link modem")
	if err := await(t.Context(), "readings to wait", site.GatewayProc, func() (bool, error) {
		s, err := site.Status(t.Context())
		return err == nil && s.Uplink.State == "connected" && waiting(s.Queue) >= 2, errors.Join(err, fmt.Errorf("%+v", s.Queue))
	}); err != nil {
		t.Fatal(err)
	}
	site.Links = fmt.Sprintf(link, "100MB")
	again(t, site)
	recovered(t, site, time.Minute)
	settle(t, site, 0)
}
