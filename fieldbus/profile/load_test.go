package profile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

const small = `title: a test
blocks:
  - {name: all, registers: 1-20}
points:
  - {point: running, register: 1, bits: 0}
  - {point: access, register: 1, bits: 1}
  - {point: setpoint, register: 2, scale: 0.01 %}
`

func TestMistakesNameLineAndKey(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(small, old, new, 1) }
	for _, tc := range []struct{ text, want string }{
		{"", "f.yaml: the file is empty"},
		{"title: [", "f.yaml:1: this is not YAML"},
		{small + "---\n" + small, "a second document"},
		{"- a\n- b\n", "f.yaml:1: keys are expected here: absent, alive, blocks"},
		{replace("title: a test", "title: a test\ncolour: red"), "f.yaml:2: colour: unknown key; allowed here: absent, alive, blocks"},
		{replace("title: a test", "title: a test\ntitle: b"), "already defined"},
		{replace("title: a test", "source: x"), "title: this key is required"},
		{replace("1-20", "20-1"), `f.yaml:3: blocks[0].registers: "20-1" is not allowed; allowed: a range of registers from 1 to 65535, such as 1-10`},
		{replace("1-20", "0-20"), "blocks[0].registers"},
		{replace("1-20", "1-70000"), "blocks[0].registers"},
		{replace("blocks:", "blocks:\n  - {name: other, registers: 5-6}"), `"all" (1-20) and "other" (5-6) overlap`},
		{replace("registers: 1-20", "registers: 1-20, functions: [5]"), "blocks[0].functions[0]: 5 is not allowed; allowed: 1 or 2 or 3 or 4"},
		{replace("register: 2", "register: 21"), "f.yaml:7: points[2].register: register 21 is in no block; blocks: 1-20"},
		{replace("register: 2", "register: 20, width: 32"), "registers 20 and 21 are in no block"},
		{replace("register: 2", "register: 2, width: 24"), "points[2].width: 24 is not allowed; allowed: 16 or 32 or 64"},
		{replace("point: setpoint", "point: setpiont"), `points[2].point: "setpiont" is not in the point vocabulary`},
		{replace("point: setpoint", "point: running"), "running stands twice"},
		{replace("0.01 %", "0.01 bar"), `unit "bar" is another quantity than "%"`},
		{replace("0.01 %", "0.01 parsec"), `unit "parsec" is not known; a value in "%" may be given in %, 1, [ppm]`},
		{replace("0.01 %", "much %"), `"much" is not a decimal number`},
		{replace("0.01 %", "1e9999999999 %"), "is not a decimal number"},
		{replace("0.01 %", "0 %"), "a step of 0"},
		{replace(", scale: 0.01 %", ""), `setpoint is in "%": say what a step of the register is`},
		{replace("scale: 0.01 %", "scale: 0.01 %, offset: 1 bar"), `the offset is in "bar" and the scale in "%"`},
		{replace("bits: 0", "bits: 16"), "bit 16 of a 16-bit value"},
		{replace("bits: 0", "bits: 7-3"), `"7-3" is not allowed`},
		{replace("bits: 0", "period: 1h30m"), "points[0].period: 1h30m is not allowed; allowed: a duration from 100ms to 1h0m0s"},
		{replace("bits: 0", "absent: some"), "allowed: none, ones, or a list of raw values"},
		{replace("bits: 0", "absent: [65536]"), "allowed: a whole number from 0 to 65535"},
		{replace("bits: 0", "bits: 0-7, absent: [256]"), "allowed: a whole number from 0 to 255"},
		{replace("bits: 0", "bits: 0, signed: true"), "f.yaml:5: points[0].signed: bits have no sign"},
		{replace("register: 2,", "register: 2, width: 32, format: float64,"), `points[2].format: "float64" is not allowed; allowed: integer or float32`},
		{replace("register: 2,", "register: 2, format: float32,"), "f.yaml:7: points[2].format: float32 needs width: 32"},
		{replace("register: 2, scale: 0.01 %", "register: 2, width: 32, format: float32"), "f.yaml:7: points[2].scale: say to what a float32 is rounded"},
		{replace("scale: 0.01 %", "width: 32, format: float32, scale: -1 %"), "rounded to steps greater than 0"},
		{replace("scale: 0.01 %", "width: 32, format: float32, absent: [7], scale: 1 %"), "what is no number is not available"},
		{replace("register: 2,", "register: 2, word_order: little,"), "a value of one register has no order of words"},
		{replace("register: 2,", "register: 2, width: 32, word_order: mixed,"), `points[2].word_order: "mixed" is not allowed; allowed: big (the high one first) or little`},
		{replace("register: 2,", "register: 18, width: 64,"), "registers 18 to 21 are in no block"},
		{replace("bits: 0", "map: 7"), "pairs are expected"},
		{replace("bits: 0", "map: {a: 7}"), `"a" is not a whole number`},
		{replace("title: a test", "title: a test\nline: {mode: 12345 8E1, address: 1}"), "f.yaml:2: line.mode: line speed 12345: use one of"},
		{replace("title: a test", "title: a test\ntiming: {reply_max: 1us}"), "timing.reply_max"},
		{replace("title: a test", "title: a test\ntiming: {pause: 2s}"), "timing.pause"},
		{replace("title: a test", "title: a test\ntiming: {reply_delay: 11s}"), "timing.reply_delay"},
		{replace("title: a test", "title: a test\nmatch: [{type: 3}]"), "match[0].family: this key is required"},
		{small + "alive: {register: 20, width: 32}\n", "alive.register: registers 20 and 21 are in no block"},
		{small + "identity: {family: 99}\n", "identity.family: register 99 is in no block"},
		{small + "commands: [{command: warp, register: 3}]\n", `commands[0].command: "warp" is not allowed; allowed: access, running`},
		{small + "commands: [{command: setpoint, register: 3, scale: 0.01 %, min: 0 %, max: 900 %}]\n", "commands[0].max: 900 % is 90000 steps"},
		{small + "commands: [{command: setpoint, register: 3, scale: 0.01 %, min: 50 %, max: 5 %}]\n", "50 % is not below max, 5 %"},
		{small + "commands: [{command: setpoint, register: 3, scale: 0.01 %, min: 0 bar, max: 5 %}]\n", "commands[0].min: the limit is a number with its unit"},
		{small + "commands: [{command: setpoint, register: 3, scale: 0.01 %, min: 0 %, max: 5 %, allowed: [1]}]\n", "takes a number; remove this key"},
		{small + "commands: [{command: control_mode, register: 3}]\n", "list the codes that the pump takes"},
		{small + "commands: [{command: control_mode, register: 3, allowed: [1], min: 1}]\n", "takes a word of an enumeration; remove this key"},
		{small + "commands: [{command: running, register: 3, bit: 0, read_back: speed}]\n", `commands[0].read_back: "speed" is not allowed; allowed: a point of this family`},
		{small + "commands: [{command: running, register: 3, bit: 0, pulse: true}]\n", "reset_alarm is a pulse"},
		{small + "commands: [{command: running, register: 3, keep: [0]}]\n", "need a bit"},
		{small + "commands: [{command: running, register: 3, bit: 0, copy: {1: access}}]\n", `"access" is not allowed; allowed: a flag of this family`},
		{small + "commands:\n  - {command: running, register: 3, bit: 0}\n  - {command: running, register: 4, bit: 0}\n", "running stands twice"},
		{strings.ReplaceAll(small, "access", "alarm") + "commands: [{command: running, register: 3, bit: 0, remote: true}]\n", `no point "access"`},
	} {
		_, err := Parse("f.yaml", []byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want %q, got: %v\n%s", tc.want, err, tc.text)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.File != "f.yaml" {
			t.Errorf("%v is no *Error with its file", err)
		}
	}
	if _, err := Parse("dir/Big Name.yaml", []byte(small)); err == nil {
		t.Error("a name with a blank was accepted")
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	text := strings.NewReplacer("bits: 0", "bits: 99", "bits: 1}", "bits: 99}").Replace(small)
	_, err := Parse("f.yaml", []byte(text))
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two mistakes, reported: %v", err)
	}
}

func TestEverythingAFileMaySayIsRead(t *testing.T) {
	p, err := Parse("site/x-1.yaml", []byte(`
title: everything
source: >
  a manual
numbering: 0
period: 2s
match: [{family: 2, type: 7}, {family: 3, type: 1, version: 0}]
line: {mode: 9600 8N1, address: 5}
timing: {reply_min: 30ms, reply_max: 400ms, quiet: 2s, pause: 50ms, reply_delay: 300ms}
identity: {family: 1, type: 2, version: 3, reply_delay: 0}
alive: {register: 4, width: 32, period: 3s, unchanged: 2}
blocks:
  - {name: "pump {n}", registers: 100-108, repeat: 3, step: 10, functions: [4]}
  - {name: status, registers: 0-20, functions: [3]}
points:
  - {point: "pump{n}_relative_speed", register: 104, scale: 0.01 %, repeat: 3, step: 10}
  - {point: motor_temperature, register: 10, signed: true, scale: 0.1 Cel, absent: none, period: 500ms}
  - {point: control_mode, register: 11, map: {0: 4, 1: 6}}
  - {point: inlet_pressure, register: 12, scale: 10 mbar, offset: -1000 mbar, uncertain: somebody said so}
  - {point: bearing_service_in, register: 13, bits: 8-15, absent: [0xFF, 0xFE], scale: 1 mo}
  - {point: energy, register: 14, width: 32, signed: true, scale: 1 MW.h, absent: ones}
`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "x-1" || p.Source != "a manual" || p.Numbering != 0 || len(p.Match) != 2 || *p.Match[1].Version != 0 ||
		p.Line.Mode.String() != "9600 8N1" || p.Line.Address != 5 || p.Timing.Quiet != 2*time.Second ||
		p.Timing.Pause != 50*time.Millisecond || p.Timing.ReplyDelay != 300*time.Millisecond ||
		p.Identity.Version != 3 || p.Alive.Unchanged != 2 || p.Alive.Period != 3*time.Second {
		t.Errorf("%+v", p)
	}
	if len(p.Blocks) != 4 || p.Blocks[0].Functions != Holding || p.Blocks[3].First != 120 || p.Blocks[3].Name != "pump 3" || p.Blocks[3].Functions != Input {
		t.Errorf("%+v", p.Blocks)
	}
	if got := p.Periods(); len(got) != 2 || got[0] != 500*time.Millisecond || got[1] != 2*time.Second {
		t.Errorf("periods %v", got)
	}
	for _, tc := range []struct {
		point string
		regs  []uint16
		text  string
		q     telemetry.Quality
	}{
		{"pump3_relative_speed", []uint16{5000}, "50.00 %", telemetry.Good},
		{"motor_temperature", []uint16{0xFFFF}, "-0.1 °C", telemetry.Good},
		{"control_mode", []uint16{1}, "proportional pressure", telemetry.Good},
		{"control_mode", []uint16{9}, "constant temperature difference", telemetry.Good},
		{"inlet_pressure", []uint16{150}, "0.50 bar", telemetry.Good},
		{"bearing_service_in", []uint16{0x0700}, "7 months", telemetry.Good},
		{"bearing_service_in", []uint16{0xFE00}, "", telemetry.NotAvailable},
		{"energy", []uint16{0xFFFF, 0xFFFE}, "-2000 kWh", telemetry.Good},
		{"energy", []uint16{0xFFFF, 0xFFFF}, "", telemetry.NotAvailable},
	} {
		it, _ := p.Item(tc.point)
		raw, q := it.Decode(tc.regs)
		if q != tc.q || q == telemetry.Good && telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw) != tc.text {
			t.Errorf("%s of %v: %d, %v, %s", tc.point, tc.regs, raw, q, telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw))
		}
	}
	if p.Wire(104) != 104 {
		t.Error("numbering 0 moves registers")
	}
}

func TestASiteAddsAndReplacesFamilies(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("my-pump.yaml", small)
	write("cim-epump.yaml", strings.Replace(small, "a test", "ours", 1))
	write("broken.yaml", "title: x\n")
	write("notes.txt", "not a profile")
	write("short.yml", small)
	write("twice.yaml", small)
	write("twice.yml", small)
	write("SHOUT.YML", small)
	l := Builtin()
	err := l.AddFolder(disk.OS, dir)
	if err == nil || !strings.Contains(err.Error(), "broken.yaml:1: blocks: this key is required") {
		t.Errorf("the broken file: %v", err)
	}
	for _, want := range []string{"twice.yml: twice.yaml has this name already", "SHOUT.YML: a pump family's file ends in .yaml"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, ok := l.Lookup("short"); !ok {
		t.Error("short.yml was passed over")
	}
	if p, ok := l.Lookup("my-pump"); !ok || p.Title != "a test" {
		t.Error("the site's family is missing")
	}
	if p, _ := l.Lookup("cim-epump"); p.Title != "ours" {
		t.Error("the site's file did not replace the built-in one")
	}
	if p, _ := Builtin().Lookup("cim-epump"); p.Title == "ours" {
		t.Error("a site's file changed the built-in library")
	}
	if err := l.AddFolder(disk.OS, filepath.Join(dir, "nothing")); err != nil {
		t.Errorf("a folder that does not exist: %v", err)
	}
}

func TestTheMostPreciseMatchIsChosen(t *testing.T) {
	l := &Library{byName: map[string]*Profile{}}
	for name, match := range map[string]string{
		"any": "[{family: 2}]", "type": "[{family: 2, type: 5}]",
		"version": "[{family: 2, type: 5, version: 0}]", "other": "[{family: 3}]",
	} {
		p, err := Parse(name+".yaml", []byte(small+"match: "+match+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		l.Add(p)
	}
	for _, tc := range []struct {
		family, kind, version int
		want                  string
	}{{2, 1, 1, "any"}, {2, 5, 3, "type"}, {2, 5, 0, "version"}, {3, 5, 0, "other"}} {
		if p, ok := l.Choose(Modbus, tc.family, tc.kind, tc.version); !ok || p.Name != tc.want {
			t.Errorf("%+v: %v", tc, p)
		}
	}
	if p, ok := l.Choose(Modbus, 9, 1, 1); ok {
		t.Errorf("a stranger was taken for %s", p.Name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	for _, p := range Builtin().Names() {
		text, err := families.ReadFile("families/" + p + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("fuzz.yaml", text)
		if err != nil {
			return
		}
		regs := []uint16{0x1234, 0x5678, 0xFFFF, 0x7FC0}
		for _, it := range p.Items {
			if it.Geni != nil {
				raw, _ := it.DecodeGeni(make([]byte, it.Geni.Bytes()), false)
				telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw)
				continue
			}
			if it.Block < 0 || it.Block >= len(p.Blocks) || !p.Blocks[it.Block].Contains(it.Register, it.Last()) {
				t.Fatalf("%s is not in its block", it.Point.Name)
			}
			raw, _ := it.Decode(regs[:it.Registers()])
			telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw)
		}
		for i := 1; i < len(p.Blocks); i++ {
			if p.Blocks[i].First <= p.Blocks[i-1].Last {
				t.Fatal("blocks overlap")
			}
		}
	})
}
