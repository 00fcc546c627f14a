package profile

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"penstock/internal/telemetry"
)

const smallGeni = "title: t\nsource: s\nprotocol: genibus\nconfidence: A\npoints: [{point: head, id: 37}]\n"

func TestGenibusSchemaAndReaderAgree(t *testing.T) {
	text, err := os.ReadFile("schema-genibus.json")
	if err != nil {
		t.Fatal(err)
	}
	var root object
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		schema object
		file   string
	}{
		"file":     {root, smallGeni + "xyz: 1\n"},
		"points":   {*root.Properties["points"].Items, strings.Replace(smallGeni, "{point: head, id: 37}", "{xyz: 1}", 1)},
		"commands": {*root.Properties["commands"].Items, smallGeni + "commands: [{xyz: 1}]\n"},
	} {
		_, err := Parse("f.yaml", []byte(tc.file))
		if err == nil {
			t.Fatalf("%s: the unknown key was accepted", name)
		}
		m := regexp.MustCompile(`unknown key; allowed here: (.*)`).FindStringSubmatch(err.Error())
		if m == nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := slices.Sorted(maps.Keys(tc.schema.Properties)), strings.Split(m[1], ", "); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the reader %v", name, got, want)
		}
		for _, key := range tc.schema.Required {
			if name != "file" && !strings.Contains(err.Error(), "."+key+": this key is required") {
				t.Errorf("%s: the schema requires %s, the reader does not: %v", name, key, err)
			}
		}
	}
}

func TestGenibusFamiliesAreChosenByWhatAUnitSays(t *testing.T) {
	for _, tc := range []struct {
		family, kind, version int
		want                  string
	}{
		{1, 1, 1, "geni-upe"}, {1, 6, 1, "geni-upe-mk3"}, {1, 7, 1, "geni-magna"}, {1, 10, 2, "geni-magna3"},
		{1, 99, 1, "geni-upe"}, {2, 3, 1, "geni-mge"}, {2, 5, 1, "geni-cue"}, {7, 1, 0, "geni-mp204"},
		{17, 1, 1, "geni-booster"}, {39, 1, 1, "geni-booster"},
	} {
		if p, ok := Builtin().Choose(Genibus, tc.family, tc.kind, tc.version); !ok || p.Name != tc.want {
			t.Errorf("%+v: %+v", tc, p)
		}
	}
	if p, ok := Builtin().Choose(Genibus, 99, 1, 1); ok {
		t.Errorf("a stranger was taken for %s", p.Name)
	}
	if p, ok := Builtin().Choose(Modbus, 17, 1, 1); !ok || p.Name != "cim-booster" {
		t.Errorf("a Modbus module of family 17: %+v", p)
	}
}

// Every fact of a family says how it is known, and where from.
func TestGenibusFactsSayHowTheyAreKnown(t *testing.T) {
	for _, name := range Builtin().Names() {
		p, _ := Builtin().Lookup(name)
		if p.Speaks() != Genibus {
			continue
		}
		for _, it := range p.Items {
			if it.Geni.Confidence.Text() == "of unknown origin" {
				t.Errorf("%s: %s", name, it.Point.Name)
			}
		}
		for _, c := range p.Commands {
			if c.Geni.Confidence == "" || c.ReadBack == "" {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

func TestGenibusBytesBecomeTheVocabulary(t *testing.T) {
	for _, tc := range []struct {
		family, point string
		bytes         []byte
		want          string
	}{
		{"geni-upe", "running", []byte{0x01}, "off"},
		{"geni-upe", "running", []byte{0x02}, "on"},
		{"geni-upe", "operation_mode", []byte{0x03}, "maximum"},
		{"geni-upe", "control_mode", []byte{0x08}, "proportional pressure"},
		{"geni-upe", "control_mode", []byte{0x18}, "unknown code 1003"},
		{"geni-upe", "access", []byte{0x10}, "local"},
		{"geni-upe", "access", []byte{0x00}, "remote"},
		{"geni-upe", "alarm_code", []byte{0, 0, 0, 2, 0, 0}, "motor or pump is blocked"},
		{"geni-upe", "alarm_code", []byte{0, 0, 0, 0, 0, 4}, "running dry"},
		{"geni-upe", "alarm_code", []byte{0, 0, 0, 0, 4, 0}, "other fault"},
		{"geni-upe", "alarm_code", []byte{0xFF, 0, 0, 0, 0, 0}, "none"},
		{"geni-upe", "user_setpoint", []byte{127}, "50 %"},
		{"geni-upe", "operating_time", []byte{1, 0}, "512 h"},
		{"geni-magna3", "control_mode", []byte{8}, "constant flow"},
		{"geni-mp204", "warning_code", []byte{0, 1, 0}, "insulation resistance too low"},
	} {
		p, _ := Builtin().Lookup(tc.family)
		it, ok := p.Item(tc.point)
		if !ok {
			t.Fatalf("%s has no %s", tc.family, tc.point)
		}
		raw, q := it.DecodeGeni(tc.bytes, false)
		if got := telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw); got != tc.want || q != telemetry.Good {
			t.Errorf("%s %s of % X: %q, %v; want %q", tc.family, tc.point, tc.bytes, got, q, tc.want)
		}
	}
	p, _ := Builtin().Lookup("geni-upe")
	it, _ := p.Item("head")
	if _, q := it.DecodeGeni([]byte{0xFF}, false); q != telemetry.NotAvailable {
		t.Errorf("0xFF is %v", q)
	}
	if raw, q := it.DecodeGeni([]byte{0xFF}, true); q != telemetry.Good || raw != 255 {
		t.Errorf("0xFF of an item whose values are all valid is %d, %v", raw, q)
	}
}

func TestMistakesInAGenibusFamilyAreNamed(t *testing.T) {
	with := func(point string) string {
		return strings.Replace(smallGeni, "{point: head, id: 37}", point, 1)
	}
	for _, tc := range []struct{ file, want string }{
		{with("{point: hed, id: 37}"), "not in the point vocabulary"},
		{with("{point: head, id: 256}"), "from 0 to 255"},
		{with("{point: head}"), "give either an id or alarm_bits"},
		{with("{point: head, id: 255, bytes: 2}"), "items end at 255"},
		{with("{point: head, class: 11, id: 1, bytes: 2}"), "one ID a value"},
		{with("{point: head, id: 37, confidence: E}"), "A, B, C, D"},
		{with("{point: head, id: 37, scale: 1 A}"), "another quantity"},
		{with("{point: head, id: 37, scale: \"1 m[H2O]\", factor: 2}"), "whose scale the device tells"},
		{with("{point: head, id: 37, follows: control_mode}"), "no point of this family"},
		{with("{point: head, alarm_bits: {64: [1]}}"), "alarm bits give an alarm"},
		{with("{point: alarm_code, alarm_bits: {64: [1,2,3,4,5,6,7,8,9]}}"), "eight bits"},
		{with("{point: alarm_code, alarm_bits: {x: [1]}}"), "from 0 to 255"},
		{with("{point: running, id: 81, bits: 8}"), "bit 8 of 8"},
		{smallGeni + "commands: [{command: running, send: {1: 6}, read_back: running}]\n", "no point of this family"},
		{smallGeni + "commands: [{command: setpoint, reference: 1, read_back: head}]\n", "cannot be sent this way"},
		{smallGeni + "commands: [{command: running, read_back: head}]\n", "either send"},
		{"protocol: genibus\ntitle: t\n", "this key is required"},
	} {
		_, err := Parse("f.yaml", []byte(tc.file))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "f.yaml:") {
			t.Errorf("%q: %v; want %q", tc.file, err, tc.want)
		}
	}
}
