package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// longest is how long a block may answer for: what Range must look beyond.
const longest = 2 * time.Hour

// catalogues remembers decoded catalogues: they never change under their name.
type catalogues struct {
	mu     sync.Mutex
	byName map[catalogueKey]telemetry.Catalogue
	newest map[string]telemetry.Catalogue
}

type catalogueKey struct {
	gateway string
	name    wire.Name
}

func (c *catalogues) forget(gateway string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newest, gateway)
}

// Catalogue is the newest catalogue of a gateway, an empty one when none came.
func (s *Store) Catalogue(ctx context.Context, gateway string) (telemetry.Catalogue, error) {
	s.catalogues.mu.Lock()
	c, ok := s.catalogues.newest[gateway]
	s.catalogues.mu.Unlock()
	if ok {
		return c, nil
	}
	var body []byte
	err := s.reader.QueryRowContext(ctx, `SELECT body FROM catalogues WHERE gateway = ? ORDER BY received DESC LIMIT 1`, gateway).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return telemetry.Catalogue{}, nil
	}
	if err != nil {
		return telemetry.Catalogue{}, err
	}
	if c, _, err = decode.ParseCatalogue(body); err != nil {
		return telemetry.Catalogue{}, fmt.Errorf("the catalogue of %s: %w", gateway, err)
	}
	s.catalogues.mu.Lock()
	defer s.catalogues.mu.Unlock()
	if s.catalogues.newest == nil {
		s.catalogues.newest = map[string]telemetry.Catalogue{}
	}
	s.catalogues.newest[gateway] = c
	return c, nil
}

// catalogue is the catalogue of that name; ok is false while it has not come.
func (s *Store) catalogue(ctx context.Context, gateway string, name wire.Name) (c telemetry.Catalogue, ok bool, err error) {
	k := catalogueKey{gateway, name}
	s.catalogues.mu.Lock()
	c, ok = s.catalogues.byName[k]
	s.catalogues.mu.Unlock()
	if ok {
		return c, true, nil
	}
	var body []byte
	err = s.reader.QueryRowContext(ctx, `SELECT body FROM catalogues WHERE gateway = ? AND name = ?`, gateway, name[:]).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if c, _, err = decode.ParseCatalogue(body); err != nil {
		return c, false, fmt.Errorf("catalogue %v of %s: %w", name, gateway, err)
	}
	s.catalogues.mu.Lock()
	defer s.catalogues.mu.Unlock()
	if s.catalogues.byName == nil {
		s.catalogues.byName = map[catalogueKey]telemetry.Catalogue{}
	}
	s.catalogues.byName[k] = c
	return c, true, nil
}

// blocks calls f for the readings of each block of the query, with the catalogue
// that explains them. A block whose catalogue has not come is passed over: it
// becomes readable when it does.
func (s *Store) blocks(ctx context.Context, f func(c telemetry.Catalogue, readings []telemetry.Reading) (more bool), query string, args ...any) error {
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var gateway string
		var publish sql.RawBytes
		var latest int64
		if err := rows.Scan(&gateway, &publish, &latest); err != nil {
			return err
		}
		rec, err := decode.ParseRecord(publish)
		if err != nil {
			return fmt.Errorf("a record of %s that was readable: %w", gateway, err)
		}
		b, err := decode.ParseBlock(rec.Body)
		if err != nil {
			return fmt.Errorf("a block of %s that was readable: %w", gateway, err)
		}
		c, ok, err := s.catalogue(ctx, gateway, b.Catalogue)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		readings, err := b.All(c.Groups)
		if err != nil {
			s.log.Warn("a block does not fit its catalogue", "gateway", gateway, "err", err)
			continue
		}
		if !f(c, readings) {
			return nil
		}
	}
	return rows.Err()
}

// What is asked of the records, of one gateway each.
const (
	blockColumns  = `SELECT gateway, publish, latest FROM records WHERE gateway = ? AND kind = 1 AND readable = 1 `
	blocksOfTime  = `AND latest >= ? AND latest <= ? AND earliest <= ? ORDER BY latest`
	newestBlocks  = `ORDER BY latest DESC LIMIT ?`
	gapsOfTime    = `SELECT publish, latest, earliest FROM records WHERE gateway = ? AND kind = 3 AND readable = 1 AND latest >= ? AND earliest <= ? ORDER BY earliest`
	recordCounts  = `SELECT count(*), coalesce(sum(readings), 0), coalesce(sum(readable = 0), 0) FROM records WHERE gateway = ?`
	recordsOfKind = `SELECT (SELECT count(*) FROM filed WHERE gateway = ?1 AND kind = ?2) + (SELECT count(*) FROM arrivals WHERE gateway = ?1 AND kind = ?2)`
)

// Range lists the readings of a point in [from, to], oldest first.
func (s *Store) Range(ctx context.Context, gateway, pump, point string, from, to time.Time) ([]Sample, error) {
	samples := []Sample{}
	err := s.blocks(ctx, func(c telemetry.Catalogue, readings []telemetry.Reading) bool {
		group, series, ok := find(c, pump, point)
		if !ok {
			return true
		}
		for _, r := range readings {
			if r.Group != group || r.Series != series {
				continue
			}
			if t := r.Time(); !t.Before(from) && !t.After(to) {
				samples = append(samples, Sample{t, r.Raw, r.Quality, r.Unsure})
			}
		}
		return true
	}, blockColumns+blocksOfTime,
		gateway, from.UnixMilli(), to.Add(longest).UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("readings of %s: %w", gateway, err)
	}
	slices.SortStableFunc(samples, func(a, b Sample) int { return a.Time.Compare(b.Time) })
	return samples, nil
}

func find(c telemetry.Catalogue, pump, point string) (group, series int, ok bool) {
	for g := range c.Groups {
		for i, s := range c.Groups[g].Series {
			if s.Pump == pump && s.Point == point {
				return g, i, true
			}
		}
	}
	return 0, 0, false
}

// Latest is the newest value of each point of the newest catalogue; points that
// have no reading lately are left out.
func (s *Store) Latest(ctx context.Context, gateway string) ([]Value, error) {
	c, err := s.Catalogue(ctx, gateway)
	if err != nil {
		return nil, err
	}
	want := 0
	for _, g := range c.Groups {
		want += len(g.Series)
	}
	newest := map[[2]string]Value{}
	const most = 300 // blocks to look back through
	err = s.blocks(ctx, func(c telemetry.Catalogue, readings []telemetry.Reading) bool {
		for _, r := range readings {
			series := c.Groups[r.Group].Series[r.Series]
			k := [2]string{series.Pump, series.Point}
			if had, ok := newest[k]; !ok || r.Time().After(had.Time) {
				newest[k] = Value{series, r.Time(), r.Raw, r.Quality}
			}
		}
		return len(newest) < want
	}, blockColumns+newestBlocks, gateway, most)
	if err != nil {
		return nil, fmt.Errorf("the latest readings of %s: %w", gateway, err)
	}
	values := make([]Value, 0, want)
	for _, g := range c.Groups {
		for _, series := range g.Series {
			if v, ok := newest[[2]string{series.Pump, series.Point}]; ok {
				v.Series = series
				values = append(values, v)
			}
		}
	}
	return values, nil
}

// Readings calls f for every reading of a gateway, block by block.
func (s *Store) Readings(ctx context.Context, gateway string, f func(Reading)) error {
	return s.blocks(ctx, func(c telemetry.Catalogue, readings []telemetry.Reading) bool {
		for _, r := range readings {
			series := c.Groups[r.Group].Series[r.Series]
			f(Reading{series.Pump, series.Point, Sample{r.Time(), r.Raw, r.Quality, r.Unsure}})
		}
		return true
	}, blockColumns+`ORDER BY latest`, gateway)
}

// Gaps lists the gaps that touch [from, to], oldest first.
func (s *Store) Gaps(ctx context.Context, gateway string, from, to time.Time) ([]telemetry.Gap, error) {
	rows, err := s.reader.QueryContext(ctx, gapsOfTime, gateway, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var gaps []telemetry.Gap
	for rows.Next() {
		var publish sql.RawBytes
		var latest, earliest int64 // in the order of the second
		if err := rows.Scan(&publish, &latest, &earliest); err != nil {
			return nil, err
		}
		rec, err := decode.ParseRecord(publish)
		if err != nil {
			return nil, fmt.Errorf("a gap of %s that was readable: %w", gateway, err)
		}
		g, err := decode.ParseGap(rec.Body)
		if err != nil {
			return nil, fmt.Errorf("a gap of %s that was readable: %w", gateway, err)
		}
		if g.To.IsZero() { // the gateway could not tell; it had ended when the record came
			g.To = time.UnixMilli(latest).UTC()
		}
		gaps = append(gaps, g)
	}
	return gaps, rows.Err()
}

// Counters count what came from a gateway.
func (s *Store) Counters(ctx context.Context, gateway string) (c Counters, err error) {
	err = s.reader.QueryRowContext(ctx, recordCounts, gateway).Scan(&c.Records, &c.Readings, &c.Unreadable)
	if err != nil {
		return c, err
	}
	var nameless int64
	err = s.reader.QueryRowContext(ctx, `SELECT coalesce(sum(conflict = 1), 0), coalesce(sum(conflict = 0), 0) FROM oddities WHERE gateway = ?`, gateway).
		Scan(&c.Conflicts, &nameless)
	c.Unreadable += nameless
	return c, err
}

// Count is how many records of a kind came from a gateway.
func (s *Store) Count(ctx context.Context, gateway string, kind wire.Kind) (n int, err error) {
	err = s.reader.QueryRowContext(ctx, recordsOfKind, gateway, int64(kind)).Scan(&n)
	return n, err
}
