package store_test

import (
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// TestReadingsBeyondTheEndOfABlockAreFound: a gateway seals what it has read up to
// now, and vouches only for the time up to a few seconds ago, in which nothing is on
// its way any more. Who asks for the latest moments sees them all the same.
func TestReadingsBeyondTheEndOfABlockAreFound(t *testing.T) {
	s, g := temporary(t), newGateway(t)
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, store.Certificate{Gateway: "GW-1", Number: "1"}); err != nil {
		t.Fatal(err)
	}
	keep(t, s, g.catalogueRecord())
	updates, cancel := s.Subscribe("GW-1")
	defer cancel()
	b := wire.NewBuilder(g.catalogue)
	b.Open(t0)
	for i := range 10 { // every second of group 0; one late reading of group 1
		b.Add(telemetry.Reading{Slot: t0.Add(time.Duration(i) * time.Second), Raw: int64(i)})
	}
	late := t0.Add(9300 * time.Millisecond)
	b.Add(telemetry.Reading{Group: 1, Slot: t0, Off: 9300 * time.Millisecond, Raw: 7})
	keep(t, s, g.publish(wire.KindBlock, b.Seal(t0.Add(6*time.Second))))

	last := t0.Add(9 * time.Second)
	if got, err := s.Range(t.Context(), "GW-1", "bus1-1", "speed", last, last.Add(time.Second)); err != nil || len(got) != 1 || got[0].Raw != 9 {
		t.Errorf("the last second: %+v, %v", got, err)
	}
	if got, err := s.Range(t.Context(), "GW-1", "bus1-1", "power", late, late); err != nil || len(got) != 1 || got[0].Raw != 7 {
		t.Errorf("a late reading: %+v, %v", got, err)
	}
	if u := <-updates; u.From.After(t0) || u.To.Before(late) {
		t.Errorf("told of readings from %v to %v; there are some from %v to %v", u.From, u.To, t0, late)
	}
	if gw, err := s.Gateway(t.Context(), "GW-1"); err != nil || !gw.LastReading.Equal(late) {
		t.Errorf("the last reading is of %v, not %v; %v", gw.LastReading, late, err)
	}
}
