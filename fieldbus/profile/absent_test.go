package profile

import (
	"fmt"
	"testing"

	"penstock/internal/telemetry"
)

// absentCheck checks whether registers are taken for "not available".
func absentCheck(t *testing.T, it Item, regs []uint16, want bool) {
	t.Helper()
	if raw, q := it.Decode(regs); (q == telemetry.NotAvailable) != want {
		t.Errorf("%s of %04X: %d, %v; not available: want %v", it.Point.Name, regs, raw, q, want)
	}
}

// TestNotAvailableInEachFamilyAndWidth holds every point of every Modbus family to
// its rule: one register of ones; of two, the high one, whatever the low one holds.
// A low register of ones is a value: a counter passes it.
func TestNotAvailableInEachFamilyAndWidth(t *testing.T) {
	none := map[string]bool{"rsi-drive": true, "generic": true} // absent: none
	for _, name := range Builtin().Names() {
		p, _ := Builtin().Lookup(name)
		if p.Speaks() != Modbus {
			continue
		}
		for _, it := range p.Items {
			switch {
			case it.Width == 16:
				absentCheck(t, it, []uint16{0xFFFF}, !none[name] && !it.Signed)
				absentCheck(t, it, []uint16{0xFF00}, false)
			case it.Width == 32 && !it.Signed:
				absentCheck(t, it, []uint16{0xFFFF, 0xFFFF}, !none[name])
				absentCheck(t, it, []uint16{0xFFFF, 0}, !none[name])
				absentCheck(t, it, []uint16{0xFFFF, 1234}, !none[name])
				absentCheck(t, it, []uint16{0, 0xFFFF}, false)
				absentCheck(t, it, []uint16{0xFFFE, 0xFFFF}, false)
			}
		}
	}
}

func TestNotAvailableAsTheFamilySays(t *testing.T) {
	for _, tc := range []struct {
		family, point string
		regs          []uint16
		want          int64 // -999: not available
	}{
		{"", "signed: true", []uint16{0xFFFF}, -1},
		{"", "signed: true, width: 32", []uint16{0xFFFF, 0xFFFF}, -1},
		{"", "signed: true, width: 32", []uint16{0xFFFF, 0xFFFE}, -2},
		{"absent: ones", "signed: true", []uint16{0xFFFF}, -999},
		{"absent: ones", "signed: true, width: 32", []uint16{0xFFFF, 0xFFFF}, -999},
		{"absent: ones", "signed: true, width: 32", []uint16{0xFFFF, 0xFFFE}, -2},
		{"absent: ones", "absent: none", []uint16{0xFFFF}, 65535},
		{"absent: none", "absent: ones", []uint16{0xFFFF}, -999},
		{"", "signed: true, absent: ones", []uint16{0xFFFF}, -999},
		{"", "signed: true, absent: [0x8000]", []uint16{0x8000}, -999},
		{"", "signed: true, absent: [-32768]", []uint16{0x8000}, -999},
		{"", "signed: true, absent: [0x8000]", []uint16{0xFFFF}, -1},
		{"", "signed: true, absent: [0x80000000], width: 32", []uint16{0x8000, 0}, -999},
		{"", "absent: [0x7FFF]", []uint16{0xFFFF}, -999},
	} {
		text := fmt.Sprintf("title: t\n%s\nblocks: [{name: b, registers: 1-9}]\npoints: [{point: register1, register: 1, %s}]\n", tc.family, tc.point)
		p, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", tc.point, err)
			continue
		}
		raw, q := p.Items[0].Decode(tc.regs)
		if q == telemetry.NotAvailable {
			raw = -999
		}
		if raw != tc.want {
			t.Errorf("%s; %s of %04X: %d, want %d", tc.family, tc.point, tc.regs, raw, tc.want)
		}
	}
}

// TestNotAvailableOnGenibus: the high byte says it in every width, unless the
// device says that 255 is a value.
func TestNotAvailableOnGenibus(t *testing.T) {
	for _, name := range Builtin().Names() {
		p, _ := Builtin().Lookup(name)
		if p.Speaks() != Genibus {
			continue
		}
		for _, it := range p.Items {
			b := make([]byte, it.Geni.Bytes())
			for i := range b {
				b[i] = 0xFF
			}
			if raw, q := it.DecodeGeni(b, false); q != telemetry.NotAvailable && !it.OnesValid {
				t.Errorf("%s %s of all ones: %d, %v", name, it.Point.Name, raw, q)
			}
			if it.Geni.Alarms != nil || len(b) < 2 {
				continue
			}
			for i := range b[1:] {
				b[1+i] = byte(i)
			}
			if raw, q := it.DecodeGeni(b, false); q != telemetry.NotAvailable && !it.OnesValid {
				t.Errorf("%s %s of % X: %d, %v", name, it.Point.Name, b, raw, q)
			}
			b[0], b[1] = 0, 0xFF
			if raw, q := it.DecodeGeni(b, false); q != telemetry.Good {
				t.Errorf("%s %s of % X: %d, %v", name, it.Point.Name, b, raw, q)
			}
		}
	}
}
