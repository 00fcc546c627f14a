package web

import (
	"encoding/json"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
)

// TestAChartIsDrawnByTheScaleOfItsTime: a rescale, a scale that is not known and another
// unit in the middle of one chart.
func TestAChartIsDrawnByTheScaleOfItsTime(t *testing.T) {
	series := func(unit string, scale telemetry.Scale) *telemetry.Series {
		return &telemetry.Series{Pump: "p", Point: "setpoint", Unit: unit, Scale: scale}
	}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	v := columns(*series("%", telemetry.Scale{Num: 1, Den: 10}), []store.Sample{
		{Time: at, Raw: 100, Series: series("%", telemetry.Scale{Num: 1, Den: 2})},
		{Time: at, Raw: 100, Series: series("%", telemetry.Scale{})},
		{Time: at, Raw: 6, Series: series("m[H2O]", telemetry.Unit)},
		{Time: at, Raw: 480, Series: series("%", telemetry.Scale{Num: 1, Den: 10})},
	})
	got, err := json.Marshal(v.V)
	if err != nil || string(got) != "[50.0,null,null,48.0]" || v.Unscaled != 2 {
		t.Errorf("drawn %s, %d without a scale, %v", got, v.Unscaled, err)
	}
}

// TestAValueIsShownByTheScaleOfItsOwnCatalogue: of today's the reading knows nothing.
func TestAValueIsShownByTheScaleOfItsOwnCatalogue(t *testing.T) {
	today := telemetry.Series{Pump: "p", Point: "setpoint", Unit: "%", Scale: telemetry.Scale{Num: 1, Den: 100}}
	before := today
	before.Scale = telemetry.Scale{Num: 1, Den: 2}
	if v := viewOf(today, store.Value{Series: before, Raw: 101}, true); v.Text != "50.5" || v.Value == nil || *v.Value != 50.5 {
		t.Errorf("shown as %q, %v", v.Text, v.Value)
	}
	before.Scale = telemetry.Scale{}
	if v := viewOf(today, store.Value{Series: before, Raw: 101}, true); v.Value != nil || v.Note != "scale not known (raw 101)" {
		t.Errorf("without a scale: %+v", v)
	}
}

// TestReadingsDatedAheadAreSaid: on the page, in the list and over the API.
func TestReadingsDatedAheadAreSaid(t *testing.T) {
	p := newPlant(t, "GW-1", "Well pump")
	h := &Handler{store: p.store, clock: p.clock}
	now := p.clock.Now()
	p.run(t, now.Add(-20*time.Second), now)
	p.run(t, now.Add(time.Hour), now.Add(time.Hour+10*time.Second))
	gw, err := p.store.Gateway(t.Context(), "GW-1")
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.view(t.Context(), gw)
	if err != nil || v.AheadText == "" || v.Attention != "readings dated ahead of the present" || v.LastReading.After(now) {
		t.Errorf("%q, attention %q, last reading %v, %v", v.AheadText, v.Attention, v.LastReading, err)
	}
	for _, value := range v.Pumps[0].Values {
		if value.Time.After(now) {
			t.Errorf("%s is of %v", value.Point, value.Time)
		}
	}
	p.clock.set(2 * time.Hour) // that date is past: it is the present no longer that is hidden
	if v, err = h.view(t.Context(), gw); err != nil || v.AheadText != "" {
		t.Errorf("two hours later: %q, %v", v.AheadText, err)
	}
}
