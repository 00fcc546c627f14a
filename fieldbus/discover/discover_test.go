package discover

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/profile"
	"penstock/internal/disk"
)

// module answers the identity registers 30 to 32 and the delay in register 1.
type module struct {
	family, kind, version uint16
	delay                 time.Duration
	foreign               bool // of another make: refuses what it does not have
	only                  byte // the one function that it knows; 0: any
}

func sealed(b ...byte) []byte {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return append(b, byte(c), byte(c>>8))
}

// plant is a line of modules at far, on a simulated clock.
type plant struct {
	clk   *linetest.Clock
	port  *linetest.Port
	line  *fieldbus.Line
	asked []byte // addresses, in order
	first time.Time
}

func newPlant(t *testing.T, far fieldbus.Mode, modules map[byte]module) *plant {
	t.Helper()
	p := &plant{clk: linetest.NewClock()}
	p.port = linetest.NewPort(p.clk)
	p.port.Far = far
	p.line = fieldbus.NewLine("fake", fieldbus.Default, p.port.Open, p.clk)
	p.port.OnWrite = func(q []byte, at time.Time) {
		if p.first.IsZero() {
			p.first = at
		}
		p.asked = append(p.asked, q[0])
		m, ok := modules[q[0]]
		if !ok || p.line.Mode() != far {
			return
		}
		start, count := binary.BigEndian.Uint16(q[2:]), binary.BigEndian.Uint16(q[4:])
		a := []byte{q[0], q[1] | 0x80, 2}
		if !m.foreign {
			a = []byte{q[0], q[1], byte(2 * count)}
			for r := start + 1; r <= start+count; r++ {
				v := map[uint16]uint16{1: uint16(m.delay.Milliseconds()), 30: m.family, 31: m.kind, 32: m.version}[r]
				a = binary.BigEndian.AppendUint16(a, v)
			}
		}
		if m.only != 0 && q[1] != m.only {
			a = []byte{q[0], q[1] | 0x80, 1}
		}
		p.port.Deliver(at.Add(far.Wire(len(q))+5*time.Millisecond+m.delay), sealed(a...)...)
	}
	return p
}

func (p *plant) search(t *testing.T) (Result, error) {
	t.Helper()
	return Run(t.Context(), Config{Line: p.line, Library: profile.Builtin()})
}

func TestFactoryDefaultsAreFoundWithin30Seconds(t *testing.T) {
	p := newPlant(t, fieldbus.Default, map[byte]module{
		231: {family: 1, kind: 10, version: 3}, 1: {family: 2, kind: 7, version: 2}, 247: {family: 17, kind: 1, version: 1}})
	r, err := p.search(t)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{231: "cim-epump", 1: "cim-epump", 247: "cim-booster"}
	if len(r.Devices) != len(want) {
		t.Fatalf("found %+v", r.Devices)
	}
	for _, d := range r.Devices {
		if d.Profile != want[d.Address] || !d.Identified {
			t.Errorf("address %d is %q, want %q", d.Address, d.Profile, want[d.Address])
		}
	}
	if r.Took > 30*time.Second {
		t.Errorf("it took %v", r.Took)
	}
	if r.Trouble != fieldbus.NoTrouble {
		t.Errorf("trouble: %v", r.Trouble)
	}
	if quiet := p.first.Sub(linetest.Epoch); quiet < ListenTime {
		t.Errorf("it talked after %v", quiet)
	}
	if p.asked[0] != 231 || p.asked[1] != 1 && p.asked[2] != 1 && p.asked[3] != 1 {
		t.Errorf("asked first: %v", p.asked[:4])
	}
}

func TestEverythingIsTriedWithinTenMinutes(t *testing.T) {
	p := newPlant(t, fieldbus.Default, nil)
	var last time.Duration
	r, err := Run(t.Context(), Config{Line: p.line, Library: profile.Builtin(), Progress: func(g Progress) { last = g.Left }})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Devices) > 0 || r.Trouble != fieldbus.NothingThere {
		t.Errorf("found %v, trouble %q", r.Devices, r.Trouble)
	}
	t.Logf("took %v, %d requests", r.Took, len(p.asked))
	if r.Took > 10*time.Minute {
		t.Errorf("it took %v", r.Took)
	}
	if last > 2*time.Second {
		t.Errorf("at the end %v were said to be left", last)
	}
}

func TestADeviceAtAnyModeIsFound(t *testing.T) {
	for _, m := range Modes {
		for _, address := range []byte{7, 200} {
			p := newPlant(t, m, map[byte]module{address: {family: 1, kind: 10, version: 3}})
			r, err := p.search(t)
			if err != nil || len(r.Devices) != 1 || r.Devices[0].Mode != m || r.Devices[0].Address != int(address) {
				t.Errorf("%v, address %d: %+v, %v", m, address, r.Devices, err)
			}
			if r.Took > 10*time.Minute {
				t.Errorf("%v, address %d: it took %v", m, address, r.Took)
			}
		}
	}
}

func TestADeviceThatWaitsBeforeItAnswersIsFoundAndItsDelayKept(t *testing.T) {
	for _, delay := range []time.Duration{55 * time.Millisecond, 80 * time.Millisecond, 700 * time.Millisecond, 3 * time.Second, 10 * time.Second} {
		p := newPlant(t, fieldbus.Default, map[byte]module{5: {family: 1, kind: 10, version: 3, delay: delay}})
		r, err := p.search(t)
		if err != nil || len(r.Devices) != 1 {
			t.Fatalf("delay %v: %+v, %v", delay, r, err)
		}
		if d := r.Devices[0]; d.Address != 5 || d.ReplyDelay < delay || d.ReplyDelay > delay+10*time.Millisecond || d.Profile != "cim-epump" {
			t.Errorf("delay %v: %+v", delay, d)
		}
	}
}

func TestADeviceThatKnowsOneFunctionIsIdentified(t *testing.T) {
	for _, only := range []byte{3, 4} {
		p := newPlant(t, fieldbus.Default, map[byte]module{3: {family: 1, kind: 10, version: 3, only: only}})
		r, err := p.search(t)
		if err != nil || len(r.Devices) != 1 || r.Devices[0].Profile != "cim-epump" {
			t.Errorf("function %d only: %+v, %v", only, r.Devices, err)
		}
	}
}

func TestADeviceOfAnotherMakeIsFoundWithoutAFamily(t *testing.T) {
	p := newPlant(t, fieldbus.Default, map[byte]module{3: {foreign: true}, 4: {family: 99}})
	r, err := p.search(t)
	if err != nil || len(r.Devices) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, d := range r.Devices {
		if d.Profile != "" || d.Remark == "" {
			t.Errorf("%+v", d)
		}
	}
}

func TestALineWithAnotherMasterIsLeftAlone(t *testing.T) {
	for _, tc := range []struct {
		name string
		far  fieldbus.Mode
		say  []byte
		want string
	}{
		{"as we listen", fieldbus.Default, sealed(9, 3, 0, 0, 0, 10), "device 9, function 3, was heard at 19200 8E1"},
		{"at another speed", Modes[2], sealed(9, 3, 0, 0, 0, 10), "device 9, function 3, was heard at 9600 8N1"},
		{"in another language", fieldbus.Default, []byte{0x27, 7, 0x20, 4, 2, 3, 2, 3, 4, 5, 6, 7, 8}, "no Modbus frames at any speed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPlant(t, tc.far, nil)
			for s := range 90 {
				p.port.Deliver(linetest.Epoch.Add(time.Duration(s)*time.Second+300*time.Millisecond), tc.say...)
			}
			r, err := p.search(t)
			if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if len(p.asked) > 0 {
				t.Errorf("it talked: %v", p.asked)
			}
			if r.Trouble == fieldbus.NoTrouble {
				t.Error("no trouble told")
			}
		})
	}
}

func TestAMasterThatComesLaterStopsTheSearch(t *testing.T) {
	p := newPlant(t, fieldbus.Default, nil)
	p.port.Deliver(linetest.Epoch.Add(14*time.Second), sealed(9, 3, 0, 0, 0, 10)...)
	r, err := p.search(t)
	if !errors.Is(err, ErrInUse) || r.Took > 15*time.Second || r.Trouble != fieldbus.OtherMaster {
		t.Errorf("%v after %v, trouble %q", err, r.Took, r.Trouble)
	}
}

func TestWiringTroubleIsToldApart(t *testing.T) {
	for _, tc := range []struct {
		want  fieldbus.Trouble
		reply func(q []byte) []byte
	}{
		{fieldbus.NothingThere, func([]byte) []byte { return nil }},
		{fieldbus.EchoOnly, func(q []byte) []byte { return q }},
		{fieldbus.OnlyNoise, func(q []byte) []byte { return []byte{0xF7, 0x81, 0x3C} }},
		{fieldbus.CutOff, func(q []byte) []byte { return []byte{q[0], q[1], 6, 0} }},
	} {
		p := newPlant(t, fieldbus.Default, nil)
		p.port.OnWrite = func(q []byte, at time.Time) {
			if b := tc.reply(q); b != nil {
				p.port.Deliver(at.Add(p.line.Mode().Wire(len(q))+time.Millisecond), append([]byte(nil), b...)...)
			}
		}
		r, err := Run(t.Context(), Config{Line: p.line, Library: profile.Builtin(), Modes: Modes[:1]})
		if err != nil || r.Trouble != tc.want || r.Trouble.Text() == "" {
			t.Errorf("%q, %v; want %q", r.Trouble, err, tc.want)
		}
	}
}

func TestASearchCanBeGivenUp(t *testing.T) {
	p := newPlant(t, fieldbus.Default, map[byte]module{231: {family: 1, kind: 10, version: 3}})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Run(ctx, Config{Line: p.line, Library: profile.Builtin(), Progress: func(g Progress) {
		if g.Address == 40 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(r.Devices) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatWasFoundIsKept(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state", "found.json")
	k, err := Load(disk.OS, name)
	if err != nil || len(k.Lines()) != 0 {
		t.Fatal(k, err)
	}
	if _, err := k.Keep("/dev/a", "", []Device{{Address: 3, Mode: Modes[2], Family: 1, Type: 10, Version: 3, Profile: "cim-epump", ReplyDelay: time.Second}}, linetest.Epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Keep("/dev/b", "", []Device{{Address: 9, Mode: Modes[0]}}, linetest.Epoch); err != nil {
		t.Fatal(err)
	}
	k, err = Load(disk.OS, name)
	if err != nil {
		t.Fatal(err)
	}
	l, ok := k.Line("/dev/a", "")
	if !ok || l.Mode != Modes[2] || len(l.Devices) != 1 || l.Devices[0].ReplyDelay != 1000 || l.Devices[0].Profile != "cim-epump" {
		t.Errorf("%+v", l)
	}
	if _, err := k.Keep("/dev/a", "", nil, linetest.Epoch); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Line("/dev/a", ""); ok || len(k.Lines()) != 1 {
		t.Error("a line on which nothing is left is forgotten")
	}
}

func TestAFileOfFoundPumpsThatIsWrongSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":1,"lines":[{"port":"/dev/a","mode":"19200 8E1","devices":[{"address":0}]}]}`: "lines[0]: devices[0].address: 0",
		`{"version":1,"lines":[{"port":"/dev/a","mode":"77 8E1"}]}`:                              "line speed 77",
		`{"version":1,"lines":[{"mode":"19200 8E1"}]}`:                                           "port",
		`{"version":9}`: "version 9",
		`{"vers`:        "unexpected end",
	} {
		name := filepath.Join(t.TempDir(), "found.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := Load(disk.OS, name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "found.json") || len(k.Lines()) != 0 {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzKeptFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"lines":[{"port":"/dev/a","mode":"19200 8E1","devices":[{"address":3}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(t.TempDir(), "found.json")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := Load(disk.OS, name)
		for _, l := range k.Lines() {
			if err != nil || l.check() != nil {
				t.Errorf("%+v was taken, %v", l, err)
			}
		}
	})
}

func TestALineIsKnownByItsAdapterNotItsNumber(t *testing.T) {
	name := filepath.Join(t.TempDir(), "found.json")
	old := `{"version":1,"lines":[{"port":"/dev/ttyUSB0","mode":"19200 8E1","devices":[{"address":3}]},
		{"port":"/dev/ttyUSB1","mode":"19200 8E1","devices":[{"address":4}]}]}`
	if err := os.WriteFile(name, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{"/dev/ttyUSB0": "A", "/dev/ttyUSB1": "B"}
	adapter := func(port string) string { return at[port] }
	port := func(adapter string) string {
		for p, a := range at {
			if a == adapter {
				return p
			}
		}
		return ""
	}
	for range 2 { // before the swap, and after it
		k, err := Load(disk.OS, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Adopt(adapter, port); err != nil {
			t.Fatal(err)
		}
		for i, a := range []string{"A", "B"} {
			if l := k.Lines()[i]; l.Adapter != a || l.Port != port(a) || l.Devices[0].Address != 3+i {
				t.Errorf("line %d: %+v", i, l)
			}
		}
		// A line that is searched again keeps its place.
		if _, err := k.Keep(port("A"), "A", []Device{{Address: 3, Mode: Modes[0]}}, linetest.Epoch); err != nil {
			t.Fatal(err)
		}
		if l, ok := k.Line(port("B"), "B"); !ok || l.Devices[0].Address != 4 {
			t.Errorf("B: %+v", l)
		}
		at["/dev/ttyUSB0"], at["/dev/ttyUSB1"] = at["/dev/ttyUSB1"], at["/dev/ttyUSB0"]
	}
}
