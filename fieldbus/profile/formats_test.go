package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"penstock/internal/telemetry"
)

// The patterns of float32 are those of IEEE 754: 0x42F6E979 is 123.456, 0x3F800000
// is 1, 0xC1480000 is -12.5, 0x7FC00000 is no number.
func TestFormatsOfOtherMakes(t *testing.T) {
	for _, tc := range []struct {
		point string
		regs  []uint16
		want  string
	}{
		{"width: 32, scale: 1 W", []uint16{0x0001, 0x0002}, "65538 W"},
		{"width: 32, scale: 1 W, word_order: little", []uint16{0x0002, 0x0001}, "65538 W"},
		{"width: 32, scale: 1 W, byte_order: little", []uint16{0x0100, 0x0200}, "65538 W"},
		{"width: 32, scale: 1 W, word_order: little, byte_order: little", []uint16{0x0200, 0x0100}, "65538 W"},
		{"scale: 1 W, byte_order: little", []uint16{0x3412}, "4660 W"},
		{"width: 32, signed: true, scale: 1 W, word_order: little", []uint16{0xFFFB, 0xFFFF}, "-5 W"},
		{"width: 32, scale: 1 W, word_order: little", []uint16{0x1234, 0xFFFF}, "not available"},
		{"width: 32, scale: 1 W, word_order: little", []uint16{0xFFFF, 0x0000}, "65535 W"},
		{"width: 64, scale: 1 W", []uint16{0, 1, 0, 2}, "4294967298 W"},
		{"width: 64, scale: 1 W, word_order: little", []uint16{2, 0, 1, 0}, "4294967298 W"},
		{"width: 64, scale: 1 W", []uint16{0xFFFF, 0, 0, 1}, "not available"},
		{"width: 64, scale: 1 W", []uint16{0x8000, 0, 0, 0}, "not available"},
		{"width: 64, scale: 1 W", []uint16{0, 0, 0xFFFF, 0xFFFF}, "4294967295 W"},
		{"width: 64, signed: true, scale: 1 W", []uint16{0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF}, "-1 W"},
		{"width: 64, signed: true, scale: 1 W, absent: ones", []uint16{0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF}, "not available"},
		{"width: 32, format: float32, scale: 0.01 W", []uint16{0x42F6, 0xE979}, "123.46 W"},
		{"width: 32, format: float32, scale: 0.1 W, word_order: little", []uint16{0xE979, 0x42F6}, "123.5 W"},
		{"width: 32, format: float32, scale: 0.1 kW", []uint16{0x3F80, 0x0000}, "1000 W"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0xC148, 0x0000}, "-13 W"},
		{"width: 32, format: float32, scale: 1 W, offset: 10 W", []uint16{0x3F80, 0x0000}, "11 W"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0x7FC0, 0x0000}, "not available"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0xFFFF, 0xFFFF}, "not available"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0x7F80, 0x0000}, "not available"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0x7F7F, 0xFFFF}, "not available"},
		{"width: 32, format: float32, scale: 1 W", []uint16{0x8000, 0x0000}, "0 W"},
		{"bits: 4-7, scale: 1 kW", []uint16{0x12A3}, "10000 W"},
		{"bits: 20-23, width: 32, word_order: little, scale: 1 W", []uint16{0, 0x00A0}, "10 W"},
		{"signed: true, scale: 0.5 W, offset: -100 W", []uint16{0xFFFF}, "-100.5 W"},
	} {
		text := fmt.Sprintf("title: t\nblocks: [{name: b, registers: 1-9}]\npoints: [{point: power, register: 1, %s}]\n", tc.point)
		p, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", tc.point, err)
			continue
		}
		it := p.Items[0]
		raw, q := it.Decode(tc.regs)
		got := telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw)
		if q == telemetry.NotAvailable {
			got = "not available"
		}
		if got != tc.want {
			t.Errorf("%s of %04X: %s, want %s", tc.point, tc.regs, got, tc.want)
		}
	}
}

// TestTheExamplesOfOtherMakesAreRead: they are made up, so they are no families of
// the program.
func TestTheExamplesOfOtherMakesAreRead(t *testing.T) {
	files, err := filepath.Glob("../../docs/families/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(file, text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if _, taken := Builtin().Lookup(p.Name); taken {
			t.Errorf("%s is built in", p.Name)
		}
	}
}
