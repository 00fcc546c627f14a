package gateway

import (
	"bytes"
	"log/slog"
	"slices"
	"testing"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// TestANewScaleBeginsANewBlockBehindItsCatalogue: a raw value is never read by
// another scale than the one that it was measured by.
func TestANewScaleBeginsANewBlockBehindItsCatalogue(t *testing.T) {
	c, w := testCatalogue(t)
	c2 := c
	c2.Groups = slices.Clone(c.Groups)
	c2.Groups[0].Series = slices.Clone(c.Groups[0].Series)
	c2.Groups[0].Series[0].Scale = telemetry.Scale{Num: 6, Add: -127, Den: 127}
	w2, err := wire.NewCatalogue(c2)
	if err != nil {
		t.Fatal(err)
	}
	q := &fakeQueue{}
	now := time.Unix(1e9, 0)
	r := newRecorder(q, w, time.Minute, func() time.Time { return now }, fixed{now}, slog.New(slog.DiscardHandler))
	r.add(telemetry.Reading{Slot: now, Raw: 1})
	r.turn(w2)
	r.add(telemetry.Reading{Slot: now.Add(time.Second), Raw: 2})
	r.turn(w2)
	r.add(telemetry.Reading{Slot: now.Add(2 * time.Second), Raw: 3})
	r.seal(now.Add(time.Minute))
	kinds, raws := q.kinds(t, c)
	want := []wire.Kind{wire.KindCatalogue, wire.KindBlock, wire.KindCatalogue, wire.KindBlock, wire.KindBlock}
	if !slices.Equal(kinds, want) || !slices.Equal(raws, []int64{1, 2, 3}) {
		t.Errorf("records %v with %v; want %v", kinds, raws, want)
	}
	for i, body := range map[int][]byte{0: w.Body, 2: w2.Body} {
		if !bytes.Contains(q.records[i].Payload, body) {
			t.Errorf("record %d is not the catalogue that its blocks need", i)
		}
	}
}
