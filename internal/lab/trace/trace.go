package trace

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"penstock/internal/telemetry"
)

// File is where the trace lies in the repository.
const File = "testdata/trace/plant-1h.json.gz"

// Trace is readings of a plant, all on the time grid of their group.
type Trace struct {
	Catalogue telemetry.Catalogue
	Start     time.Time // slot 0 of every group
	Length    time.Duration
	Values    [][][]Value // by group, series and slot
}

// Value is what was read in one slot.
type Value struct {
	Raw     int64
	Quality telemetry.Quality // Good or NotAvailable
}

// stored is the file: JSON, so that anybody can read it.
type stored struct {
	About   string           `json:"about"`
	Start   time.Time        `json:"start"`
	Seconds int64            `json:"seconds"`
	Pumps   []telemetry.Pump `json:"pumps"`
	Groups  []storedGroup    `json:"groups"`
}

type storedGroup struct {
	PeriodMS int64          `json:"period_ms"`
	Series   []storedSeries `json:"series"`
}

type storedSeries struct {
	Pump  string `json:"pump"`
	Point string `json:"point"`
	Unit  string `json:"unit"`
	Num   int64  `json:"num"`
	Add   int64  `json:"add"`
	Den   int64  `json:"den"`
	Enum  string `json:"enum,omitempty"`
	// Steps are the differences from one value to the next, the first from 0;
	// null: there was none.
	Steps []*int64 `json:"steps"`
}

// Read reads a trace.
func Read(r io.Reader) (*Trace, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	var s stored
	d := json.NewDecoder(z)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	t := &Trace{Start: s.Start, Length: time.Duration(s.Seconds) * time.Second}
	t.Catalogue.Pumps = s.Pumps
	for i, g := range s.Groups {
		if g.PeriodMS <= 0 {
			return nil, fmt.Errorf("trace: group %d has a period of %d ms", i, g.PeriodMS)
		}
		group := telemetry.Group{Period: time.Duration(g.PeriodMS) * time.Millisecond}
		var rows [][]Value
		for _, x := range g.Series {
			if want := int(t.Length / group.Period); len(x.Steps) != want {
				return nil, fmt.Errorf("trace: %s of %s has %d values where %d fit", x.Point, x.Pump, len(x.Steps), want)
			}
			group.Series = append(group.Series, telemetry.Series{Pump: x.Pump, Point: x.Point, Unit: x.Unit, Scale: telemetry.Scale{Num: x.Num, Add: x.Add, Den: x.Den}, Enum: x.Enum})
			row, last := make([]Value, 0, len(x.Steps)), int64(0)
			for _, step := range x.Steps {
				if step == nil {
					row = append(row, Value{Quality: telemetry.NotAvailable})
					continue
				}
				last += *step
				row = append(row, Value{Raw: last})
			}
			rows = append(rows, row)
		}
		t.Catalogue.Groups = append(t.Catalogue.Groups, group)
		t.Values = append(t.Values, rows)
	}
	return t, nil
}

// Write writes the trace as Read reads it.
func (t *Trace) Write(w io.Writer, about string) error {
	s := stored{About: about, Start: t.Start, Seconds: int64(t.Length / time.Second), Pumps: t.Catalogue.Pumps}
	for i, g := range t.Catalogue.Groups {
		sg := storedGroup{PeriodMS: g.Period.Milliseconds()}
		for j, x := range g.Series {
			ss := storedSeries{Pump: x.Pump, Point: x.Point, Unit: x.Unit, Num: x.Scale.Num, Add: x.Scale.Add, Den: x.Scale.Den, Enum: x.Enum}
			last := int64(0)
			for _, v := range t.Values[i][j] {
				if v.Quality != telemetry.Good {
					ss.Steps = append(ss.Steps, nil)
					continue
				}
				step := v.Raw - last
				ss.Steps = append(ss.Steps, &step)
				last = v.Raw
			}
			sg.Series = append(sg.Series, ss)
		}
		s.Groups = append(s.Groups, sg)
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(z).Encode(s), z.Close())
}

// Readings calls f for each reading, in order of time.
func (t *Trace) Readings(f func(telemetry.Reading)) {
	step := t.Catalogue.Groups[0].Period
	for _, g := range t.Catalogue.Groups {
		step = gcd(step, g.Period)
	}
	for at := time.Duration(0); at < t.Length; at += step {
		for i, g := range t.Catalogue.Groups {
			if at%g.Period != 0 {
				continue
			}
			for j, row := range t.Values[i] {
				v := row[at/g.Period]
				f(telemetry.Reading{Group: i, Series: j, Slot: t.Start.Add(at), Raw: v.Raw, Quality: v.Quality})
			}
		}
	}
}

func gcd(a, b time.Duration) time.Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Count is the number of readings.
func (t *Trace) Count() (n int) {
	for _, rows := range t.Values {
		for _, row := range rows {
			n += len(row)
		}
	}
	return n
}

// DeltaEntropy is the order-0 entropy of the differences of consecutive values,
// each series with a distribution of its own, in bytes a reading over all.
func (t *Trace) DeltaEntropy() float64 {
	bits := 0.0
	for _, rows := range t.Values {
		for _, row := range rows {
			counts, total, last := map[int64]int{}, 0, int64(0)
			for i, v := range row {
				if v.Quality != telemetry.Good {
					continue
				}
				if i > 0 {
					counts[v.Raw-last]++
					total++
				}
				last = v.Raw
			}
			for _, c := range counts {
				bits -= float64(c) * math.Log2(float64(c)/float64(total))
			}
		}
	}
	return bits / 8 / float64(t.Count())
}
