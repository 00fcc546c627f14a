package poll

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/profile"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

// fences are the code blocks of a guide's section, by what they begin with.
func fences(t *testing.T, text string) func(prefix string) string {
	blocks := regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(text, -1)
	return func(prefix string) string {
		t.Helper()
		for _, b := range blocks {
			if strings.HasPrefix(b[1], prefix) {
				return b[1]
			}
		}
		t.Fatalf("docs/profiles.md has no code block that begins with %q", prefix)
		return ""
	}
}

// TestTheGuideToProfilesIsTrue follows docs/profiles.md: it writes the family
// that the guide writes, into a site's folder, has the bus read a device that
// holds what the guide says, and sees what the guide shows.
func TestTheGuideToProfilesIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := fences(t, string(text))
	file := fence("title: Well drive")

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "well-drive.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	library := profile.Builtin()
	if err := library.AddFolder(disk.OS, dir); err != nil {
		t.Fatal(err)
	}
	p, ok := library.Lookup("well-drive")
	if !ok {
		t.Fatal("the family is not there")
	}

	// The mistake that the guide shows.
	_, err = profile.Parse("well-drive.yaml", []byte(strings.Replace(file, "0.1 Hz", "0.1 bar", 1)))
	if want := strings.TrimSpace(fence("well-drive.yaml:")); err == nil || err.Error() != want {
		t.Errorf("the mistake is told as\n%v\nthe guide says\n%s", err, want)
	}

	holds := map[int]uint16{}
	for line := range strings.Lines(fence("100: ")) {
		first, values, _ := strings.Cut(strings.TrimSpace(line), ":")
		r, err := strconv.Atoi(first)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range strings.Fields(values) {
			n, err := strconv.Atoi(v)
			if err != nil {
				t.Fatal(err)
			}
			holds[r] = uint16(n)
			r++
		}
	}

	clk := linetest.NewClock()
	port := linetest.NewPort(clk)
	s := &slave{p: p, hold: func(r int) uint16 { return holds[r] }}
	port.OnWrite = func(q []byte, at time.Time) {
		if q[0] != 7 {
			t.Errorf("address %d was asked", q[0])
			return
		}
		a := s.answer(q)
		port.Deliver(at.Add(20*time.Millisecond+p.Line.Mode.Wire(len(q)+len(a))), a...)
	}
	bus, err := NewBus(Config{Name: "bus1", Port: "memory", Mode: p.Line.Mode,
		Devices: []Device{{Address: p.Line.Address, Profile: p}}}, Deps{Clock: clk, Log: discard, Open: port.Open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := bus.Run(ctx, func(telemetry.Reading) {
		if clk.Now().Sub(linetest.Epoch) > time.Minute {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, v := range bus.Status().Devices[0].Values {
		shown[v.Point] = telemetry.Text(v.Enum, v.Unit, v.Scale, v.Raw)
		if v.Quality != telemetry.Good {
			shown[v.Point] = v.Quality.String()
		}
	}
	lines := strings.Split(strings.TrimSpace(fence("frequency ")), "\n")
	for _, line := range lines {
		point, want, _ := strings.Cut(line, " ")
		if got := shown[point]; got != strings.TrimSpace(want) {
			t.Errorf("%s is %q, the guide says %q", point, got, strings.TrimSpace(want))
		}
	}
	if len(shown) != len(lines) {
		t.Errorf("%d points, the guide shows %d", len(shown), len(lines))
	}
	if p.Line.Mode != (fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}) {
		t.Errorf("the line is %v", p.Line.Mode)
	}
}
