package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus/pumpsim"
)

func TestPumpsAreWrittenAsANumberOrAList(t *testing.T) {
	for text, want := range map[string][]pumpsim.PumpConfig{
		"3":                      {{Address: 1, Model: "magna3"}, {Address: 2, Model: "epump"}, {Address: 3, Model: "magna3"}},
		"booster@7, epump:local": {{Address: 7, Model: "booster"}, {Address: 8, Model: "epump", Local: true}},
		"solar, magna3@33:local": {{Address: 1, Model: "solar"}, {Address: 33, Model: "magna3", Local: true}},
	} {
		if got, err := ParsePumps(text, pumpsim.Modbus); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "248", "epump@x"} {
		if got, err := ParsePumps(text, pumpsim.Modbus); err == nil {
			t.Errorf("%q is accepted as %+v", text, got)
		}
	}
}

func TestPumpsOnGENIbusBeginAtItsFirstAddress(t *testing.T) {
	want := []pumpsim.PumpConfig{{Address: 32, Model: "upe"}, {Address: 231, Model: "mp204"}}
	if got, err := ParsePumps("upe,mp204@231", pumpsim.GENIbus); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestFlagsReplaceAndAddToTheLineOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "line.yaml")
	text := "link: /tmp/a\nmode: 9600 8E1\npumps: [{address: 5, model: epump}]\nscenario: [{at: 1s, pump: 5, cause: stale}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := PumpsOptions{File: file, Link: "/tmp/b", Faults: "late=0.1", Seed: 4, Scenario: "5:dry_running:2s:3s"}.line()
	want := pumpsim.LineConfig{Link: "/tmp/b", Mode: "9600 8E1", Faults: "late=0.1", Seed: 4,
		Pumps: []pumpsim.PumpConfig{{Address: 5, Model: "epump"}},
		Scenario: []pumpsim.Step{
			{At: time.Second, Pump: 5, Cause: "stale"},
			{At: 2 * time.Second, Pump: 5, Cause: "dry_running", For: 3 * time.Second},
		}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	if _, err := (PumpsOptions{Pumps: "2"}).line(); err == nil || !strings.Contains(err.Error(), "-link") {
		t.Errorf("without a link: %v; the message shall name the flag", err)
	}
}
