package lab

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"penstock/backend/store"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// Verdict judges the site: everything that the pumps served against everything
// that the store holds.
func (s *Site) Verdict(ctx context.Context) (Verdict, error) {
	db, err := store.Open(ctx, s.Database(), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		return Verdict{}, err
	}
	defer db.Close()
	var stored []Stored
	if err := db.Readings(ctx, Serial, func(r store.Reading) {
		stored = append(stored, Stored{SeriesKey{r.Pump, r.Point}, r.Time, r.Raw, r.Quality})
	}); err != nil {
		return Verdict{}, err
	}
	gaps, err := db.Gaps(ctx, Serial, time.Unix(0, 0), time.Now().Add(24*time.Hour))
	if err != nil {
		return Verdict{}, err
	}
	catalogue, err := db.Catalogue(ctx, Serial)
	if err != nil {
		return Verdict{}, err
	}
	served, err := servedOf(s.ServedLog(), catalogue, s.starts)
	if err != nil {
		return Verdict{}, err
	}
	periods := map[SeriesKey]time.Duration{}
	for _, g := range catalogue.Groups {
		for _, s := range g.Series {
			periods[SeriesKey{s.Pump, s.Point}] = g.Period
		}
	}
	return Judge(served, stored, gaps, periods), nil
}

// servedOf reads the pumps' log and finds, in each answer, the values of the
// points that the gateway reads. Answers that were damaged or not sent cannot
// have been understood and count as not served. starts are the times at which the
// gateway was started: what it asks first may be what it asked last before it was
// killed, and is no repetition.
func servedOf(file string, c telemetry.Catalogue, starts []time.Time) ([]Served, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	families := profile.Builtin()
	var served []Served
	before := map[int]time.Time{} // when each address was asked last
	err = pumpsim.ReadServed(f, func(a pumpsim.Served) error {
		repeated := a.Repeat && !slices.ContainsFunc(starts, func(t time.Time) bool { return t.After(before[a.Address]) && t.Before(a.Asked) })
		before[a.Address] = a.Asked
		const readHolding, readInput = 3, 4
		if !a.Sent || a.Altered() || a.Exception != 0 || a.Function != readHolding && a.Function != readInput {
			return nil
		}
		for _, p := range c.Pumps {
			family, ok := families.Lookup(p.Family)
			if p.Address != a.Address || !ok {
				continue
			}
			for _, it := range family.Items {
				first := int(family.Wire(it.Register)) - a.Start
				if first < 0 || first+it.Registers() > len(a.Values) || !wanted(c, p.ID, it.Point.Name) {
					continue
				}
				raw, quality := it.Decode(a.Values[first : first+it.Registers()])
				if a.Stale && quality == telemetry.Good {
					quality = telemetry.Stale
				}
				served = append(served, Served{Key: SeriesKey{p.ID, it.Point.Name}, Asked: a.Asked, Sampled: a.Sampled,
					Raw: raw, Quality: quality, Repeated: repeated})
			}
		}
		return nil
	})
	return served, err
}

func wanted(c telemetry.Catalogue, pump, point string) bool {
	for _, g := range c.Groups {
		for _, s := range g.Series {
			if s.Pump == pump && s.Point == point {
				return true
			}
		}
	}
	return false
}
