package profile

import (
	"testing"
	"time"

	"penstock/internal/telemetry"
)

func TestBuiltinFamiliesAreRead(t *testing.T) {
	for _, name := range Builtin().Names() {
		p, _ := Builtin().Lookup(name)
		t.Logf("%s: %d points, %d commands, periods %v", name, len(p.Items), len(p.Commands), p.Periods())
	}
	if _, ok := Builtin().Lookup("cim-epump"); !ok {
		t.Error("cim-epump is missing")
	}
}

func TestEPumpScales(t *testing.T) {
	p, _ := Builtin().Lookup("cim-epump")
	for _, tc := range []struct {
		point string
		regs  []uint16
		want  string
	}{
		{"head", []uint16{320}, "3.263 m"},
		{"flow", []uint16{123}, "12.3 m³/h"},
		{"power", []uint16{1, 2}, "65538 W"},
		{"liquid_temperature", []uint16{31315}, "40.00 °C"},
		{"inlet_pressure", []uint16{2500}, "1.500 bar"},
		{"running", []uint16{1 << 9}, "on"},
		{"access", []uint16{^uint16(1 << 8)}, "local"},
		{"alarm_code", []uint16{57}, "running dry"},
		{"alarm_code", []uint16{250}, "unknown code 250"},
		{"heat_temperature_difference", []uint16{500}, "5.00 K"},
		{"bearing_service_in", []uint16{0x0105}, "5 months"},
	} {
		it, ok := p.Item(tc.point)
		if !ok {
			t.Fatalf("no point %s", tc.point)
		}
		raw, q := it.Decode(tc.regs)
		if got := telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw); got != tc.want || q != telemetry.Good {
			t.Errorf("%s of %v: %q, %v; want %q", tc.point, tc.regs, got, q, tc.want)
		}
	}
	for _, tc := range []struct {
		point string
		regs  []uint16
	}{
		{"head", []uint16{0xFFFF}}, {"running", []uint16{0xFFFF}},
		{"power", []uint16{0xFFFF, 0xFFFF}}, {"bearing_service_in", []uint16{0x01FF}},
	} {
		it, _ := p.Item(tc.point)
		if raw, q := it.Decode(tc.regs); q != telemetry.NotAvailable || raw != 0 {
			t.Errorf("%s of %v: %d, %v", tc.point, tc.regs, raw, q)
		}
	}
	if it, _ := p.Item("head"); it.Period != time.Second {
		t.Errorf("head each %v", it.Period)
	}
}
