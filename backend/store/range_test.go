package store

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// TestALookAtARangeIsBounded: beyond its cells it ends and says so.
func TestALookAtARangeIsBounded(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer func(before int) { rangeCells = before }(rangeCells)
	c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}, Groups: []telemetry.Group{
		{Period: time.Second, Series: []telemetry.Series{{Pump: "p", Point: "speed", Scale: telemetry.Unit}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var packer wire.Packer
	from := time.Unix(1.7e9, 0)
	b := wire.NewBuilder(c)
	b.Open(from)
	for i := range 50 {
		b.Add(telemetry.Reading{Slot: from.Add(time.Duration(i) * time.Second)})
	}
	for i, body := range [][]byte{c.Body, b.Seal(from.Add(time.Minute))} {
		kind := []wire.Kind{wire.KindCatalogue, wire.KindBlock}[i]
		if err := s.Append(t.Context(), "GW-1", wire.AppendRecord(nil, wire.Epoch{1}, wire.History, uint64(i+1), packer.AppendPayload(nil, kind, body))); err != nil {
			t.Fatal(err)
		}
	}
	for _, most := range []int{50, 49} {
		rangeCells = most
		samples, err := s.Range(t.Context(), "GW-1", "p", "speed", from, from.Add(time.Hour))
		if most == 50 && (err != nil || len(samples) != 50) || most == 49 && !errors.Is(err, ErrTooMuch) {
			t.Errorf("at most %d: %d samples, %v", most, len(samples), err)
		}
	}
}
