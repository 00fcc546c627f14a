package lab

import (
	"strings"
	"testing"
	"time"
)

// TestPlugAndPlay: a gateway that was told of no pump listens, finds them, keeps
// what it found and polls; after a restart it polls at once.
func TestPlugAndPlay(t *testing.T) {
	t.Parallel()
	site := up(t, func(s *Site) { s.Discover = true })
	run(t, site, 4*time.Second)
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := site.AwaitReadings(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A search listens for ten seconds before it says anything.
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("after a restart the pumps were read after %v: they were searched for again", took)
	}
	out, _ := penstock(t, site.Programs, "status", "-socket", site.Socket())
	if !strings.Contains(out, "address 1") || !strings.Contains(out, "address 2") || strings.Contains(out, "Search") {
		t.Errorf("the status says\n%s", out)
	}
	settle(t, site, 0)
}
