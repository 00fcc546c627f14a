package trace

import (
	"context"
	"fmt"
	"time"

	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/physics"
	"penstock/internal/telemetry"
)

// simulated is a clock that only Make moves.
type simulated struct{ now time.Time }

func (c *simulated) Now() time.Time { return c.now }

func (c *simulated) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// plant is what is read of each pump: every second, and every ten seconds.
var plant = []struct {
	model, name string
	fast, slow  []string
}{
	{
		"epump", "Pressure pump",
		[]string{"head", "flow", "speed", "power", "alarm_code"},
		[]string{
			"running", "control_mode", "setpoint", "feedback", "frequency", "current", "voltage", "dc_link_voltage", "inlet_pressure",
			"motor_temperature", "electronics_temperature", "energy", "volume", "operating_time", "warning_code",
		},
	},
	{
		"magna3", "Circulator",
		[]string{"head", "flow", "speed", "power", "alarm_code"},
		[]string{
			"running", "control_mode", "setpoint", "performance", "frequency", "current", "liquid_temperature", "remote_temperature", "electronics_temperature",
			"heat_power", "heat_temperature_difference", "energy", "volume", "operating_time", "warning_code",
		},
	},
}

// The alarm of the hour.
const (
	dryFrom  = 20 * time.Minute
	dryUntil = dryFrom + 90*time.Second
)

// Make makes the trace anew from the virtual pumps.
func Make() (*Trace, error) {
	t := &Trace{Start: time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC), Length: time.Hour}
	clk := &simulated{now: t.Start.Add(-5 * time.Minute)}
	line, err := pumpsim.New(pumpsim.Options{Clock: clk, Seed: 1})
	if err != nil {
		return nil, err
	}
	defer line.Close()
	family, ok := profile.Builtin().Lookup("cim-epump")
	if !ok {
		return nil, fmt.Errorf("trace: there is no profile cim-epump")
	}
	periods := []time.Duration{time.Second, 10 * time.Second}
	t.Catalogue.Groups = []telemetry.Group{{Period: periods[0]}, {Period: periods[1]}}
	t.Values = make([][][]Value, 2)
	var pumps []*pumpsim.Pump
	type source struct {
		pump *pumpsim.Pump
		item profile.Item
	}
	var sources [2][]source
	for i, x := range plant {
		p, err := line.AddPump(pumpsim.PumpOptions{Address: i + 1, Model: x.model})
		if err != nil {
			return nil, err
		}
		pumps = append(pumps, p)
		id := fmt.Sprintf("bus1-%d", i+1)
		t.Catalogue.Pumps = append(t.Catalogue.Pumps, telemetry.Pump{ID: id, Name: x.name, Family: family.Name, Bus: "bus1", Address: i + 1})
		for g, points := range [][]string{x.fast, x.slow} {
			for _, point := range points {
				item, ok := family.Item(point)
				if !ok {
					return nil, fmt.Errorf("trace: %s has no point %s", family.Name, point)
				}
				t.Catalogue.Groups[g].Series = append(t.Catalogue.Groups[g].Series, item.Series(id))
				t.Values[g] = append(t.Values[g], nil)
				sources[g] = append(sources[g], source{p, item})
			}
		}
	}
	for at := time.Duration(0); at < t.Length; at += periods[0] {
		clk.now = t.Start.Add(at)
		pumps[0].SetCause(physics.DryRunning, at >= dryFrom && at < dryUntil)
		for g, period := range periods {
			if at%period != 0 {
				continue
			}
			for s, from := range sources[g] {
				var regs []uint16
				for r := from.item.Register; r <= from.item.Last(); r++ {
					v, err := from.pump.Register(int(family.Wire(r)))
					if err != nil {
						return nil, fmt.Errorf("trace: %s: %w", from.item.Point.Name, err)
					}
					regs = append(regs, v)
				}
				raw, quality := from.item.Decode(regs)
				if quality != telemetry.Good {
					raw, quality = 0, telemetry.NotAvailable
				}
				t.Values[g][s] = append(t.Values[g][s], Value{raw, quality})
			}
		}
	}
	return t, nil
}
