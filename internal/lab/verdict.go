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
	"penstock/fieldbus/pumpsim/geni"
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
	if err := db.Readings(ctx, s.serial(), func(r store.Reading) {
		stored = append(stored, Stored{SeriesKey{r.Pump, r.Point}, r.Time, r.Raw, r.Quality})
	}); err != nil {
		return Verdict{}, err
	}
	gaps, err := db.Gaps(ctx, s.serial(), time.Unix(0, 0), time.Now().Add(24*time.Hour))
	if err != nil {
		return Verdict{}, err
	}
	catalogue, err := db.Catalogue(ctx, s.serial())
	if err != nil {
		return Verdict{}, err
	}
	served, err := servedOf(s.ServedLog(), "bus1", catalogue, s.starts)
	if err != nil {
		return Verdict{}, err
	}
	if s.Genibus > 0 {
		more, err := servedOf(s.genibusLog(), "bus2", catalogue, s.starts)
		if err != nil {
			return Verdict{}, err
		}
		served = append(served, more...)
	}
	periods := map[SeriesKey]time.Duration{}
	for _, g := range catalogue.Groups {
		for _, s := range g.Series {
			periods[SeriesKey{s.Pump, s.Point}] = g.Period
		}
	}
	return Judge(served, stored, gaps, periods), nil
}

// retryWithin is longer than a GENIbus master waits before it tries again, and
// shorter than any period.
const retryWithin = 600 * time.Millisecond

// patience is less than a gateway waits for an answer beyond the time that it
// takes on the wire.
const patience = 10 * time.Millisecond

// servedOf reads the log of the pumps of a bus and finds, in each answer, the values of the
// points that the gateway reads. Answers that were damaged or not sent cannot
// have been understood and count as not served. starts are the times at which the
// gateway was started: what it asks first may be what it asked last before it was
// killed, and is no repetition.
func servedOf(file, bus string, c telemetry.Catalogue, starts []time.Time) ([]Served, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	families := profile.Builtin()
	var served []Served
	before := map[int]time.Time{} // when each address was asked last
	err = pumpsim.ReadServed(f, func(a pumpsim.Served) error {
		first := slices.ContainsFunc(starts, func(t time.Time) bool { return t.After(before[a.Address]) && t.Before(a.Asked) })
		repeated := a.Repeat && !first
		if a.Function == 0 && a.Asked.Sub(before[a.Address]) > retryWithin {
			repeated = false // on GENIbus the next cycle may ask in the same words
		}
		before[a.Address] = a.Asked
		if !a.Sent || a.Altered() || a.Exception != 0 {
			return nil
		}
		for _, p := range c.Pumps {
			family, ok := families.Lookup(p.Family)
			if p.Bus != bus || p.Address != a.Address || !ok {
				continue
			}
			for _, it := range family.Items {
				if !wanted(c, p.ID, it.Point.Name) {
					continue
				}
				s := Served{Key: SeriesKey{p.ID, it.Point.Name}, Asked: a.Asked, Sampled: a.Sampled, Repeated: repeated,
					Late: a.Done.Sub(a.Planned) > patience}
				// The first answer after a start is for the slot before the first, which
				// nobody has promised: on a busy machine it may be given up.
				s.Aside = first
				if it.Geni != nil {
					ok = s.fromItems(it, a.Items)
					s.Aside = first || aside(family, it, a.Items)
				} else {
					ok = s.fromRegisters(it, int(family.Wire(it.Register)), &a)
				}
				if !ok {
					continue
				}
				if a.Stale && s.Quality == telemetry.Good {
					s.Quality = telemetry.Stale
				}
				served = append(served, s)
			}
		}
		return nil
	})
	return served, err
}

// aside tells whether a telegram asked for nothing but an item that decides the
// scale of others: a bus reads that for its own sake before it asks for INFO.
func aside(family *profile.Profile, it profile.Item, items []geni.Item) bool {
	decides := slices.ContainsFunc(family.Items, func(o profile.Item) bool { return o.Geni.Follows == it.Point.Name })
	return decides && !slices.ContainsFunc(items, func(x geni.Item) bool {
		return int(x.Class) != it.Geni.Class || !slices.Contains(it.Geni.IDs, x.ID)
	})
}

// fromRegisters takes the value from an answer on Modbus, if it is in there.
func (s *Served) fromRegisters(it profile.Item, start int, a *pumpsim.Served) bool {
	const readHolding, readInput = 3, 4
	first := start - a.Start
	if a.Function != readHolding && a.Function != readInput || first < 0 || first+it.Registers() > len(a.Values) {
		return false
	}
	s.Raw, s.Quality = it.Decode(a.Values[first : first+it.Registers()])
	return true
}

// fromItems takes the value from an answer on GENIbus, if all its bytes are in
// there. Whether a first byte of 0xFF is a value or none is for the pump's INFO to
// say, which the judge has not read: it takes either.
func (s *Served) fromItems(it profile.Item, items []geni.Item) bool {
	var b []byte
	for _, id := range it.Geni.IDs {
		i := slices.IndexFunc(items, func(x geni.Item) bool { return int(x.Class) == it.Geni.Class && x.ID == id })
		if i < 0 {
			return false
		}
		b = append(b, byte(items[i].Value))
	}
	s.Raw, s.Quality = it.DecodeGeni(b, true)
	s.PerhapsAbsent = b[0] == 0xFF
	return true
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
