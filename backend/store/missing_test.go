package store_test

import (
	"testing"
	"time"
)

// TestABackendThatLostACatalogueAsksForIt: a gateway goes on with its blocks into an
// empty store, and they become readable once it has told its catalogue again.
func TestABackendThatLostACatalogueAsksForIt(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	wanted := func() bool {
		t.Helper()
		all, err := s.Downlinks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all["GW-1"] != nil && all["GW-1"].Catalogue
	}
	keep(t, s, g.catalogueRecord(), g.block(t0))
	if wanted() {
		t.Error("a gateway is asked for what has come")
	}
	s = temporary(t) // restored into an empty folder
	stirred := s.Stirred()
	keep(t, s, g.block(t0), g.block(t0.Add(time.Minute)))
	if !wanted() {
		t.Fatal("the gateway is not asked")
	}
	select {
	case <-stirred:
	default:
		t.Error("no bell was rung")
	}
	keep(t, s, g.catalogueRecord())
	if wanted() {
		t.Error("it is asked again")
	}
	v, err := s.Range(t.Context(), "GW-1", "bus1-1", "speed", t0, t0.Add(time.Hour))
	if err != nil || len(v) != 120 {
		t.Errorf("%d samples, %v", len(v), err)
	}
	latest, err := s.Latest(t.Context(), "GW-1")
	if err != nil || len(latest) == 0 || latest[0].Raw != 59 {
		t.Errorf("latest %+v, %v", latest, err)
	}
}
