package config

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var profiles = []string{"cim-epump", "generic"}

func TestAWholeFile(t *testing.T) {
	got, err := Parse("c.yaml", []byte(`
report_every: 2s
queue_limit: 64MB
time_servers: [ntp.example.com, 192.0.2.1]
buses:
  - port: /dev/ttyUSB0
    pumps:
      - {address: 1, profile: cim-epump, name: "Boiler pump, left"}
      - address: 2
        profile: generic
  - name: cellar
    port: /dev/ttyS1
    speed: 9600
    parity: none
    stop_bits: 2
  - port: /dev/ttyS2
    protocol: genibus
    pumps: [{address: 32, profile: generic}]
`), profiles)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{ReportEvery: 2 * time.Second, QueueLimit: 64 << 20, TimeServers: []string{"ntp.example.com", "192.0.2.1"}, Buses: []Bus{
		{Name: "bus1", Port: "/dev/ttyUSB0", Protocol: "modbus", Speed: 19200, Parity: "even", StopBits: 1, Pumps: []Pump{
			{Address: 1, Profile: "cim-epump", Name: "Boiler pump, left"},
			{Address: 2, Profile: "generic"},
		}},
		{Name: "cellar", Port: "/dev/ttyS1", Protocol: "modbus", Speed: 9600, Parity: "none", StopBits: 2},
		{Name: "bus3", Port: "/dev/ttyS2", Protocol: "genibus", Speed: 9600, Parity: "none", StopBits: 1, Pumps: []Pump{{Address: 32, Profile: "generic"}}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAnEmptyOrMissingFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "---\n"} {
		if got, err := Parse("c.yaml", []byte(text), nil); err != nil || !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if got, err := Load(missing, false, nil); err != nil || !reflect.DeepEqual(got, Default()) {
		t.Errorf("missing: %+v, %v", got, err)
	}
	if _, err := Load(missing, true, nil); err == nil {
		t.Error("a missing file that was named with -config is accepted")
	}
}

func TestAMistakeNamesFileLineKeyAndWhatIsAllowed(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"buses:\n  - prot: /dev/x\n", "c.yaml:2: buses[0].prot: unknown key; allowed here: name, parity, port, protocol, pumps, speed, stop_bits"},
		{"buses:\n  - speed: 9600\n", "buses[0].port: this key is required"},
		{"buses:\n  - port: /dev/x\n    protocol: genibus\n    speed: 19200\n", "buses[0].protocol: GENIbus always runs at 9600"},
		{"buses:\n  - port: /dev/x\n    protocol: genibus\n    pumps: [{address: 2, profile: generic}]\n", "address 2 on a GENIbus; allowed: 32 to 231"},
		{"buses:\n  - port: /dev/x\n    protocol: canbus\n", "allowed: modbus, genibus"},
		{"report_every: soon\n", `c.yaml:1: report_every: "soon" is not allowed; allowed: a duration from 1s to 1h0m0s`},
		{"report_every: [1]\n", "c.yaml:1: report_every: allowed: a duration"},
		{"\nreport_every: 0s\n", `c.yaml:2: report_every: "0s" is not allowed`},
		{"queue_limit: 5\n", `c.yaml:1: queue_limit: "5" is not allowed; allowed: a size`},
		{"\nqueue_limit: 1MB\n", `c.yaml:2: queue_limit: "1MB" is not allowed; allowed: a size from 2MB`},
		{"queue_limit: 99999999999GB\n", "queue_limit"},
		{"buses: /dev/x\n", "c.yaml:1: buses: a list is expected"},
		{"buses:\n  - port: /dev/x\n    speed: 19201\n", "c.yaml:3: buses[0].speed: 19201 is not allowed; allowed: 1200, 2400"},
		{"buses:\n  - port: /dev/x\n    speed: fast\n", `c.yaml:3: buses[0].speed: "fast" is not allowed`},
		{"buses:\n  - port: /dev/x\n    parity: mark\n", `c.yaml:3: buses[0].parity: "mark" is not allowed; allowed: none, even, odd`},
		{"buses:\n  - port: /dev/x\n    pumps:\n      - address: 248\n        profile: generic\n", "c.yaml:4: buses[0].pumps[0].address: 248 is not allowed; allowed: a whole number from 1 to 247"},
		{"buses:\n  - port: /dev/x\n    pumps:\n      - address: 2\n        profile: gneric\n", `c.yaml:5: buses[0].pumps[0].profile: "gneric" is not allowed; allowed: cim-epump, generic`},
		{"buses:\n  - port: /dev/x\n    pumps: [{address: 2, profile: generic, pause: 2s}]\n", "buses[0].pumps[0].pause"},
		{"buses:\n  - port: /dev/x\n    pumps: [{address: 2, profile: generic, reply_delay: 11s}]\n", "buses[0].pumps[0].reply_delay"},
		{"buses:\n  - port: /dev/x\n    pumps: [{address: 2, profile: generic}, {address: 2, profile: generic}]\n", "buses[0].pumps[1].address: 2 is taken"},
		{"buses:\n  - port: /dev/x\n  - port: /dev/x\n", "buses[1].port: /dev/x is taken by bus1"},
		{"report_every: 5s\nreport_every: 6s\n", "report_every"},
		{"buses: [\n", "this is not YAML"},
		{"just text\n", "c.yaml:1: keys are expected here: buses, links, queue_limit, report_every"},
		{"report_every: 5s\n---\nreport_every: 6s\n", "a second document"},
	} {
		_, err := Parse("c.yaml", []byte(tc.text), profiles)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q:\n got %v\nwant %s", tc.text, err, tc.want)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%q: %T is no *Error", tc.text, err)
		}
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := Parse("c.yaml", []byte("report_every: soon\nqueue_limit: big\n"), nil)
	if err == nil || strings.Count(err.Error(), "c.yaml:") != 2 {
		t.Errorf("got %v, want two mistakes", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("buses:\n  - port: /dev/x\n    pumps: [{address: 2, profile: generic}]\n")
	f.Add("a: &a [*a]\n? b\n: c\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("c.yaml", []byte(text), profiles)
		if err == nil && c.ReportEvery < time.Second {
			t.Errorf("impossible value accepted: %+v", c)
		}
	})
}
