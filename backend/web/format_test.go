package web

import (
	"testing"
	"time"

	"penstock/internal/telemetry"
)

func TestAValueKeepsItsWidthAndItsExactness(t *testing.T) {
	for _, tc := range []struct {
		unit  string
		scale telemetry.Scale
		raw   int64
		want  string
	}{
		{"m[H2O]", telemetry.Scale{Num: 2000, Den: 196133}, 3210, "32.73"},
		{"m[H2O]", telemetry.Scale{Num: 2000, Den: 196133}, 0, "0.00"},
		{"m3/h", telemetry.Scale{Num: 1, Den: 10}, 120, "12.0"},
		{"Cel", telemetry.Scale{Num: 1, Add: -27315, Den: 100}, 31445, "41.3"},
		{"Cel", telemetry.Scale{Num: 1, Add: -27315, Den: 100}, 27311, "0.0"}, // -0.04 is no minus zero
		{"Cel", telemetry.Scale{Num: 1, Add: -27315, Den: 100}, 26315, "\u221210.0"},
		{"/min", telemetry.Unit, 2870, "2870"},
		{"W", telemetry.Unit, 12450, "12\u202f450"},
		{"kW.h", telemetry.Unit, 1234567, "1\u202f234\u202f567"},
		{"W", telemetry.Scale{Num: 10, Den: 1}, 7, "70"},
		{"bar", telemetry.Scale{Num: 1, Den: 1000}, -1, "\u22120.001"},
		{"bar", telemetry.Scale{Num: 0, Den: 0}, 5, "0"},
		{"%", telemetry.Scale{Num: 3, Den: 2}, 1, "1.5"},
	} {
		s := telemetry.Series{Unit: tc.unit, Scale: tc.scale}
		if got := number(tc.scale, tc.raw, decimals(s)); got != tc.want {
			t.Errorf("%d in %s by %v: got %q, want %q", tc.raw, tc.unit, tc.scale, got, tc.want)
		}
	}
}

func TestLabelsAreWordsOfPeople(t *testing.T) {
	for point, want := range map[string]string{
		"head": "Head", "motor_temperature": "Motor temperature", "pump3_speed": "Pump 3 speed", "pumps_present": "Pumps present", "": "",
		"dc_link_voltage": "DC link voltage", "mpp_voltage": "MPP voltage",
	} {
		if got := label(point); got != want {
			t.Errorf("%q: got %q, want %q", point, got, want)
		}
	}
}

func TestEveryPointOfTheVocabularyHasASection(t *testing.T) {
	for point, want := range map[string]string{
		"flow": sectionMeasured, "motor_temperature": sectionTemperature, "energy": sectionCounted,
		"control_mode": sectionState, "digital_input": sectionState, "setpoint": sectionState, "not_in_the_vocabulary": sectionMeasured,
	} {
		p, _ := telemetry.LookupPoint(point)
		if got := section(point, p.Unit, p.Enum); got != want {
			t.Errorf("%s is in %q, not %q", point, got, want)
		}
	}
}

func TestTimeThatLiesInSeveralGapsCountsOnce(t *testing.T) {
	now := time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)
	gap := func(reason telemetry.GapReason, from, to time.Duration) telemetry.Gap {
		return telemetry.Gap{Reason: reason, From: now.Add(from), To: now.Add(to)}
	}
	for want, gaps := range map[string][]telemetry.Gap{
		"none":                           nil,
		"1, 4 min in all (unclean stop)": {gap(telemetry.UncleanStop, -21*time.Minute, -17*time.Minute)},
		"2, 20 min in all (queue full)":  {gap(telemetry.QueueFull, -60*time.Minute, -50*time.Minute), gap(telemetry.QueueFull, -50*time.Minute, -40*time.Minute)},
		"3, 30 min in all (queue full, damaged on disk)": {gap(telemetry.QueueFull, -60*time.Minute, -30*time.Minute),
			gap(telemetry.Damaged, -50*time.Minute, -40*time.Minute), gap(telemetry.QueueFull, -40*time.Minute, -30*time.Minute)},
		"1, 24.0 h in all (queue full)": {gap(telemetry.QueueFull, -100*time.Hour, time.Hour)},
	} {
		if got := gapText(gaps, now.Add(-recent), now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
