package telemetry

import "testing"

func TestTextIsExactAndKeepsItsWidth(t *testing.T) {
	for _, tc := range []struct {
		scale Scale
		unit  string
		enum  string
		raw   int64
		want  string
	}{
		{Scale{1, 0, 1000}, "bar", "", 3210, "3.210 bar"},
		{Scale{1, 0, 10}, "m3/h", "", 120, "12.0 m³/h"},
		{Scale{1, 0, 1}, "{rpm}", "", 2870, "2870 rpm"},
		{Scale{1, -27315, 100}, "Cel", "", 29815, "25.00 °C"},
		{Scale{1, -27315, 100}, "Cel", "", 27215, "-1.00 °C"},
		{Scale{10, 0, 1}, "W", "", 7, "70 W"},
		{Scale{2000, 0, 196133}, "m[H2O]", "", 3210, "32.73 m"},
		{Scale{}, "1", "", 5, "raw 5, scale not known"},
		{Unit, "1", "control_mode", 4, "constant pressure"},
		{Unit, "1", "control_mode", 77, "unknown code 77"},
		{Unit, "1", "no_such_enumeration", 1, "unknown code 1"},
	} {
		if got := Text(tc.enum, tc.unit, tc.scale, tc.raw); got != tc.want {
			t.Errorf("%+v: got %q", tc, got)
		}
	}
}
