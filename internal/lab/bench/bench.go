// Package bench holds Penstock's measurements.
//
// A number in a document is a measurement that anyone can repeat: `penstock-lab
// bench NAME` runs one in real time on real ptys, sockets and disks. Figures
// about other programs come from the same run, on the same machine, so that
// they can be set side by side. A benchmark never fails because a figure is
// poor; it fails only when it could not measure.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Metric is one figure. Keys are the conditions that it was measured under,
// such as baud, regs, clients or peer.
type Metric struct {
	Metric string
	Value  float64
	Unit   string // UCUM; "1" for a ratio or a count
	Keys   map[string]any
}

// Func measures and emits its figures as they come.
type Func func(ctx context.Context, emit func(Metric)) error

// Bench is a registered measurement.
type Bench struct {
	Name, Summary string
	Run           Func
}

var benches = map[string]Bench{}

// Register adds a measurement; it is called from init functions.
func Register(name, summary string, f Func) {
	if _, dup := benches[name]; dup {
		panic("bench " + name + " is registered twice")
	}
	benches[name] = Bench{name, summary, f}
}

// List is every measurement, by name.
func List() []Bench {
	return slices.SortedFunc(maps.Values(benches), func(a, b Bench) int { return strings.Compare(a.Name, b.Name) })
}

// Find is the measurement of that name.
func Find(name string) (Bench, bool) {
	b, ok := benches[name]
	return b, ok
}

// MarshalJSON puts the keys beside metric, value and unit.
func (m Metric) MarshalJSON() ([]byte, error) {
	all := maps.Clone(m.Keys)
	if all == nil {
		all = map[string]any{}
	}
	all["metric"], all["value"], all["unit"] = m.Metric, m.Value, m.Unit
	return json.Marshal(all)
}

// Write measures and writes: one JSON object a line, or a table for people.
func (b Bench) Write(ctx context.Context, w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		var broken error
		err := b.Run(ctx, func(m Metric) {
			if broken == nil {
				broken = enc.Encode(m)
			}
		})
		if err != nil {
			return err
		}
		return broken
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	defer t.Flush()
	return b.Run(ctx, func(m Metric) {
		var keys []string
		for _, k := range slices.Sorted(maps.Keys(m.Keys)) {
			keys = append(keys, fmt.Sprintf("%s=%v", k, m.Keys[k]))
		}
		unit := m.Unit
		if unit == "1" {
			unit = ""
		}
		fmt.Fprintf(t, "%s\t%.6g %s\t%s\n", m.Metric, m.Value, unit, strings.Join(keys, " "))
	})
}
