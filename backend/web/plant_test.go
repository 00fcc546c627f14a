package web

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// shifted is a clock that can be set.
type shifted struct {
	clock.Clock
	mu  sync.Mutex
	off time.Duration
}

func (s *shifted) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Clock.Now().Add(s.off)
}

func (s *shifted) set(off time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

// plant is a real store into which a gateway of two pumps publishes real
// records, as its firmware and endpoint would.
type plant struct {
	store  *store.Store
	clock  *shifted
	serial string

	series    telemetry.Catalogue
	catalogue *wire.Catalogue
	packer    wire.Packer
	seq       uint64
}

// spec is a point of the plant: what its value is at a time, for a pump.
type spec struct {
	point string
	scale telemetry.Scale
	value func(pump int, t float64) float64 // in the unit of its scale
	na    bool
}

var tenth, hundredth = telemetry.Scale{Num: 1, Den: 10}, telemetry.Scale{Num: 1, Den: 100}
var kelvin = telemetry.Scale{Num: 1, Add: -27315, Den: 100}

// speedAt is how fast a pump of the plant turns: it follows a demand that goes
// up and down over half an hour, in steps, a little unsteadily.
func speedAt(pump int, t float64) float64 {
	demand := 0.76 + 0.12*math.Sin(t/290) + 0.03*math.Sin(t/47)
	if math.Mod(t, 1500) < 420 {
		demand += 0.08
	}
	return (2900 - 240*float64(pump)) * demand * (1 + 0.0015*math.Sin(t*1.7+float64(pump)))
}

func level(v float64) func(int, float64) float64 { return func(int, float64) float64 { return v } }

var fast = []spec{
	{"running", telemetry.Unit, level(1), false},
	{"access", telemetry.Unit, level(1), false},
	{"alarm", telemetry.Unit, level(0), false},
	{"warning", telemetry.Unit, level(0), false},
	{"alarm_code", telemetry.Unit, level(0), false},
	{"warning_code", telemetry.Unit, level(0), false},
	{"control_mode", telemetry.Unit, func(p int, _ float64) float64 { return []float64{4, 0}[p%2] }, false},
	{"operation_mode", telemetry.Unit, func(_ int, t float64) float64 {
		if math.Mod(t, 1500) < 420 {
			return 6
		}
		return 0
	}, false},
	{"at_max_speed", telemetry.Unit, level(0), false},
	{"head", telemetry.Scale{Num: 2000, Den: 196133}, func(p int, t float64) float64 { n := speedAt(p, t) / 2900; return 46*n*n + 0.3*math.Sin(t/600) }, false},
	{"flow", tenth, func(p int, t float64) float64 { return 34 * speedAt(p, t) / 2900 }, false},
	{"speed", telemetry.Unit, func(p int, t float64) float64 { return speedAt(p, t) }, false},
	{"power", telemetry.Unit, func(p int, t float64) float64 { n := speedAt(p, t) / 2900; return 260 + 5300*n*n*n }, false},
	{"frequency", tenth, func(p int, t float64) float64 { return speedAt(p, t) / 58 }, false},
	{"current", tenth, func(p int, t float64) float64 { n := speedAt(p, t) / 2900; return 1.1 + 10.4*n*n*n }, false},
	{"setpoint", hundredth, func(_ int, t float64) float64 {
		if math.Mod(t, 1500) < 420 {
			return 84
		}
		return 72.5
	}, false},
	{"performance", hundredth, func(p int, t float64) float64 { return speedAt(p, t) / 29 }, false},
}

var slow = []spec{
	{"motor_temperature", kelvin, func(p int, t float64) float64 { return 58 + 6*math.Sin(t/800) + float64(p) }, false},
	{"liquid_temperature", kelvin, func(_ int, t float64) float64 { return 11.4 + 0.4*math.Sin(t/2000) }, false},
	{"electronics_temperature", kelvin, func(_ int, t float64) float64 { return 43 + 3*math.Sin(t/900) }, false},
	{"energy", telemetry.Unit, func(p int, t float64) float64 {
		return 84211 + 9100*float64(p) + math.Floor(math.Mod(t, 1e6)*3.6/3600)
	}, false},
	{"volume", hundredth, func(p int, t float64) float64 { return 512400 + math.Mod(t, 1e6)*27/3600 }, false},
	{"operating_time", telemetry.Unit, level(18230), false},
	{"starts", telemetry.Unit, level(412), false},
	{"specific_energy", telemetry.Unit, func(_ int, t float64) float64 { return 131 + 6*math.Sin(t/290) }, false},
	{"dc_link_voltage", tenth, level(566.3), false},
	{"tank_level", hundredth, level(0), true},
	{"remote_flow", tenth, level(0), true},
	{"remote_temperature", kelvin, level(0), true},
	{"heat_energy", telemetry.Unit, level(0), true},
	{"heat_power", telemetry.Unit, level(0), true},
	{"bearing_temperature_drive_end", kelvin, level(0), true},
	{"digital_input", telemetry.Unit, level(5), false},
}

func groupsOf(pump string) []telemetry.Group {
	var groups []telemetry.Group
	for i, specs := range [][]spec{fast, slow} {
		g := telemetry.Group{Period: []time.Duration{time.Second, 10 * time.Second}[i]}
		for _, sp := range specs {
			p, ok := telemetry.LookupPoint(sp.point)
			if !ok {
				panic(sp.point)
			}
			g.Series = append(g.Series, telemetry.Series{Pump: pump, Point: sp.point, Unit: p.Unit, Scale: sp.scale, Enum: p.Enum})
		}
		groups = append(groups, g)
	}
	return groups
}

// newPlant makes a gateway of two pumps known; it has sent its catalogue.
func newPlant(t testing.TB, serial string, names ...string) *plant {
	t.Helper()
	c := &shifted{Clock: clock.System}
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "cloud.db"), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return plantIn(t, s, c, serial, names...)
}

func plantIn(t testing.TB, s *store.Store, c *shifted, serial string, names ...string) *plant {
	t.Helper()
	p := &plant{store: s, clock: c, serial: serial}
	for i, name := range names {
		id := "bus1-" + string(rune('1'+i))
		p.series.Pumps = append(p.series.Pumps, telemetry.Pump{ID: id, Name: name, Family: "cim-epump", Bus: "bus1", Address: i + 1})
		p.series.Groups = append(p.series.Groups, groupsOf(id)...)
	}
	known(t, s, serial)
	p.describe(t)
	return p
}

func known(t testing.TB, s *store.Store, serial string) {
	t.Helper()
	err := s.AddGateway(t.Context(), store.Gateway{Serial: serial, Model: "cim550", Board: "lab"}, store.Certificate{
		Number: serial, Gateway: serial, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
}

// describe publishes the catalogue as it is now.
func (p *plant) describe(t testing.TB) {
	t.Helper()
	c, err := wire.NewCatalogue(p.series)
	if err != nil {
		t.Fatal(err)
	}
	p.catalogue = c
	p.send(t, wire.KindCatalogue, c.Body)
}

func (p *plant) send(t testing.TB, kind wire.Kind, body []byte) {
	t.Helper()
	p.seq++
	publish := wire.AppendRecord(nil, wire.Epoch{1}, wire.History, p.seq, p.packer.AppendPayload(nil, kind, body))
	if err := p.store.Append(context.WithoutCancel(t.Context()), p.serial, publish); err != nil {
		t.Error(err)
	}
}

func (p *plant) presence(t testing.TB, online bool) {
	t.Helper()
	if err := p.store.SetPresence(t.Context(), p.serial, online, 1, []byte("{}")); err != nil {
		t.Fatal(err)
	}
}

// run publishes what the pumps do in [from, to), a block every half minute at
// most.
func (p *plant) run(t testing.TB, from, to time.Time, changes ...func(telemetry.Series, *telemetry.Reading)) {
	t.Helper()
	const most = 30 * time.Second
	for start := from; start.Before(to); start = start.Add(most) {
		end := start.Add(most)
		if end.After(to) {
			end = to
		}
		b := wire.NewBuilder(p.catalogue)
		b.Open(start)
		for g, group := range p.series.Groups {
			specs := [][]spec{fast, slow}[g%2]
			for slot := start.Truncate(group.Period); slot.Before(end); slot = slot.Add(group.Period) {
				if slot.Before(start) {
					continue
				}
				at := float64(slot.UnixMilli()) / 1000
				for i, s := range group.Series {
					r := telemetry.Reading{Group: g, Series: i, Slot: slot}
					if specs[i].na {
						r.Quality = telemetry.NotAvailable
					} else {
						v := specs[i].value(g/2, at)
						if s.Enum == "" && !steps(s) && s.Point != "setpoint" && s.Scale.Num == 1 && s.Unit != "kW.h" && s.Unit != "h" {
							v += v * 0.0008 * rand.NormFloat64()
						}
						r.Raw = int64(math.Round((v*float64(s.Scale.Den) - float64(s.Scale.Add)) / float64(s.Scale.Num)))
					}
					for _, f := range changes {
						f(s, &r)
					}
					b.Add(r)
				}
			}
		}
		if b.Len() > 0 {
			p.send(t, wire.KindBlock, b.Seal(end))
		}
	}
}
