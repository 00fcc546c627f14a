package profile

import (
	"strings"
	"testing"

	"penstock/internal/telemetry"
)

const withCoils = `title: t
numbering: 0
blocks:
  - {name: values, registers: 0-9}
  - {name: switches, registers: 0-15, functions: [1]}
  - {name: inputs, registers: 0-7, functions: [2]}
points:
  - {point: power, register: 3, scale: 1 W}
  - {point: running, coil: 3}
  - {point: access, discrete: 3, map: {0: 1, 1: 0}}
commands:
  - {command: running, coil: 5, read_back: running}
`

func TestCoilsAndInputsHaveNumbersOfTheirOwn(t *testing.T) {
	p, err := Parse("f.yaml", []byte(withCoils))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		point     string
		functions Functions
		bit       uint16
		want      int64
	}{{"running", Coils, 1, 1}, {"running", Coils, 0, 0}, {"access", Discretes, 0, 1}, {"access", Discretes, 1, 0}, {"power", Either, 7, 7}} {
		it, _ := p.Item(tc.point)
		if f := p.Blocks[it.Block].Functions; f != tc.functions || p.Wire(it.Register) != 3 || it.Registers() != 1 {
			t.Errorf("%s: function %v, number %d, %d of them", tc.point, f, p.Wire(it.Register), it.Registers())
		}
		if raw, q := it.Decode([]uint16{tc.bit}); raw != tc.want || q != telemetry.Good {
			t.Errorf("%s of %d: %d, %v", tc.point, tc.bit, raw, q)
		}
	}
	c, _ := p.Command("running")
	if !IsCoil(c.Register) || p.Wire(c.Register) != 5 || c.Bit != -1 || len(c.Value.Allowed) != 2 {
		t.Errorf("%+v", c)
	}
}

func TestMistakesWithCoilsNameLineAndKey(t *testing.T) {
	for _, tc := range []struct{ old, new, want string }{
		{"[1]", "[1, 3]", "f.yaml:5: blocks[1].functions: coils (1) and discrete inputs (2) have numbers of their own"},
		{"coil: 3", "coil: 16", "f.yaml:9: points[1].register: coil 16 is in no block; blocks: 0-9, coils 0-15, discrete inputs 0-7"},
		{"coil: 3", "coil: 3, register: 3", "f.yaml:9: points[1]: give the number of one register, coil or discrete input"},
		{"coil: 3", "bits: 3", "f.yaml:9: points[1]: give the number of one register, coil or discrete input"},
		{"coil: 3", "coil: 3, width: 32", "f.yaml:9: points[1]: a coil is one bit"},
		{"discrete: 3", "discrete: 3, absent: [1]", "f.yaml:10: points[2]: a discrete input is one bit"},
		{"coil: 5", "coil: 5, bit: 2", "f.yaml:12: commands[0].coil: a coil takes off and on"},
		{"coil: 5", "coil: 55", "f.yaml:12: commands[0].coil: coil 55 is in no block"},
		{"coil: 5, ", "", "f.yaml:12: commands[0]: give the number of one register or coil"},
		{"{name: inputs, registers: 0-7", "{name: inputs, registers: 0-7, repeat: 2, step: 4", `"inputs" (discrete inputs 0-7) and "inputs" (discrete inputs 4-11) overlap`},
	} {
		_, err := Parse("f.yaml", []byte(strings.Replace(withCoils, tc.old, tc.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want %q, got: %v", tc.want, err)
		}
	}
}
