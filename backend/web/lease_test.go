package web

import (
	"log/slog"
	"testing"
	"time"
)

func TestAnOpenPageAsksTheGatewayToReportOften(t *testing.T) {
	p := newPlant(t, "G-0001", "Pump")
	h := site(t, p, slog.New(slog.DiscardHandler))
	watched := func() time.Duration {
		t.Helper()
		down, err := p.store.Downlinks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if down["G-0001"] == nil {
			return 0
		}
		return down["G-0001"].Watch.Sub(p.clock.Now())
	}
	if watched() != 0 {
		t.Fatal("watched although no page is open")
	}
	stirred := p.store.Stirred()
	_, leave, err := h.live.join("G-0001")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-stirred:
	case <-time.After(10 * time.Second):
		t.Fatal("the endpoint was not told")
	}
	if d := watched(); d <= lease/2 || d > lease {
		t.Errorf("a lease of %v", d)
	}
	leave()
	p.clock.set(lease) // nobody renews it
	if d := watched(); d > 0 {
		t.Errorf("still watched for %v", d)
	}
}
