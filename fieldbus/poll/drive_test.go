package poll

import (
	"context"
	"math"
	"os"
	"testing"

	"penstock/fieldbus/linetest"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/internal/telemetry"
)

// TestAMapOfAnotherMakeIsPolledAndSwitched polls the virtual drive, which has floats,
// 64 bits with the low register first, swapped bytes, coils and discrete inputs, by
// the made-up family of the documents, and stops it by its coil.
func TestAMapOfAnotherMakeIsPolledAndSwitched(t *testing.T) {
	text, err := os.ReadFile("../../docs/families/example-ksb-like.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse("example-ksb-like.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	clk := linetest.NewClock()
	sim, err := pumpsim.New(pumpsim.Options{Clock: clk, Seed: 4, Mode: p.Line.Mode})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.AddPump(pumpsim.PumpOptions{Address: 2, Model: "drive"}); err != nil {
		t.Fatal(err)
	}
	bus, err := NewBus(Config{Name: "bus1", Port: "memory", Mode: p.Line.Mode, Devices: []Device{{Address: 2, Profile: p}}},
		Deps{Clock: clk, Log: discard, Open: sim.Open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	latest := map[string]float64{}
	count, missing := 0, 0
	told := make(chan error, 1)
	stopped := false
	err = bus.Run(ctx, func(x telemetry.Reading) {
		s := bus.groups[x.Group].Series[x.Series]
		if count++; x.Quality != telemetry.Good {
			missing++
		} else {
			latest[s.Point], _ = s.Scale.Exact(x.Raw).Float64()
		}
		if count == 400 {
			for point, between := range map[string][2]float64{
				"outlet_pressure": {0.1, 60}, "flow": {0.1, 500}, "power": {50, 500000}, "energy": {0, 1e7},
				"motor_temperature": {-20, 120}, "running": {1, 1}, "warning": {0, 0}, "alarm_code": {0, 0}, "alarm": {0, 0}, "access": {1, 1},
			} {
				if v, ok := latest[point]; !ok || v < between[0] || v > between[1] || math.IsNaN(v) {
					t.Errorf("%s: %v, %v; want %v", point, v, ok, between)
				}
			}
			go func() {
				_, err := bus.Write(ctx, Command{bus.devices[0].ID, "running", "off"})
				told <- err
			}()
		}
		if !stopped && count > 400 {
			select {
			case err := <-told:
				if err != nil {
					t.Error(err)
				}
				stopped = true
				cancel()
			default:
			}
		}
	})
	if err != nil || !stopped || missing > 0 {
		t.Errorf("%v; stopped %v; %d of %d readings missing", err, stopped, missing, count)
	}
}
