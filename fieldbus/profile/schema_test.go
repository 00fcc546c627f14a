package profile

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// object is what the test reads of a JSON schema.
type object struct {
	Properties map[string]object `json:"properties"`
	Items      *object           `json:"items"`
	Required   []string          `json:"required"`
	Enum       []any             `json:"enum"`
}

// TestSchemaAndReaderAgree holds the schema, which editors use, to the reader,
// which decides: the same keys, and the same ones required.
func TestSchemaAndReaderAgree(t *testing.T) {
	text, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root object
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	base := "title: t\nblocks: [{name: b, registers: 1-9}]\npoints: [{point: running, register: 1}]\n"
	for _, tc := range []struct {
		name   string
		schema object
		file   string // with an unknown key in the place
	}{
		{"file", root, base + "xyz: 1\n"},
		{"match", *root.Properties["match"].Items, base + "match: [{xyz: 1}]\n"},
		{"line", root.Properties["line"], base + "line: {xyz: 1}\n"},
		{"timing", root.Properties["timing"], base + "timing: {xyz: 1}\n"},
		{"identity", root.Properties["identity"], base + "identity: {xyz: 1}\n"},
		{"alive", root.Properties["alive"], base + "alive: {xyz: 1}\n"},
		{"blocks", *root.Properties["blocks"].Items, strings.Replace(base, "{name: b, registers: 1-9}", "{xyz: 1}", 1)},
		{"points", *root.Properties["points"].Items, strings.Replace(base, "{point: running, register: 1}", "{xyz: 1}", 1)},
		{"commands", *root.Properties["commands"].Items, base + "commands: [{xyz: 1}]\n"},
	} {
		_, err := Parse("f.yaml", []byte(tc.file))
		if err == nil {
			t.Fatalf("%s: the unknown key was accepted", tc.name)
		}
		m := regexp.MustCompile(`unknown key; allowed here: (.*)`).FindStringSubmatch(err.Error())
		if m == nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got, want := slices.Sorted(maps.Keys(tc.schema.Properties)), strings.Split(m[1], ", ")
		if !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the reader %v", tc.name, got, want)
		}
		if tc.name == "file" {
			continue
		}
		for _, key := range tc.schema.Required {
			if !strings.Contains(err.Error(), "."+key+": this key is required") {
				t.Errorf("%s: the schema requires %s, the reader does not: %v", tc.name, key, err)
			}
		}
		if n := strings.Count(err.Error(), "this key is required"); n != len(tc.schema.Required) {
			t.Errorf("%s: the reader requires %d keys, the schema %d", tc.name, n, len(tc.schema.Required))
		}
	}
	var names []string
	for _, v := range root.Properties["commands"].Items.Properties["command"].Enum {
		names = append(names, v.(string))
	}
	if !slices.Equal(names, CommandNames) {
		t.Errorf("the schema has the commands %v, the reader %v", names, CommandNames)
	}
}
