package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// longest is how long a block may answer for: what Range must look beyond.
const longest = 2 * time.Hour

// blockOf reads the block in a record that was readable when it came.
func blockOf(gateway string, publish []byte) (*decode.Block, error) {
	rec, err := decode.ParseRecord(publish)
	if err != nil {
		return nil, fmt.Errorf("a record of %s that was readable: %w", gateway, err)
	}
	b, err := decode.ParseBlock(rec.Body)
	if err != nil {
		return nil, fmt.Errorf("a block of %s that was readable: %w", gateway, err)
	}
	return b, nil
}

// blocks calls f for each block of the query, with the catalogue that explains it. A
// block whose catalogue has not come is passed over: it becomes readable when it does.
func (s *Store) blocks(ctx context.Context, f func(c telemetry.Catalogue, b *decode.Block) error, query string, args ...any) error {
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
		b, err := blockOf(gateway, publish)
		if err != nil {
			// A newer program may refuse what an older one took: one block hides no other.
			s.log.Warn("a block is passed over", "gateway", gateway, "err", bounded(err.Error()))
			continue
		}
		c, ok, err := s.catalogue(ctx, s.reader, gateway, b.Catalogue)
		if err != nil {
			s.log.Warn("a block is passed over", "gateway", gateway, "err", bounded(err.Error()))
			continue
		}
		if !ok {
			continue
		}
		if err := f(c, b); errors.Is(err, errEnough) {
			return err
		} else if err != nil {
			s.log.Warn("a block does not fit its catalogue", "gateway", gateway, "err", bounded(err.Error()))
		}
	}
	return rows.Err()
}

// errEnough ends a look at blocks.
var errEnough = errors.New("enough")

// What is asked of the records, of one gateway each.
const (
	blockColumns  = `SELECT gateway, publish, latest FROM records WHERE gateway = ? AND kind = 1 AND readable = 1 `
	blocksOfTime  = `AND latest >= ? AND latest <= ? AND earliest <= ? ORDER BY latest`
	newestBlocks  = `ORDER BY latest DESC LIMIT ?`
	gapsOfTime    = `SELECT publish, latest, earliest FROM records WHERE gateway = ? AND kind = 3 AND readable = 1 AND latest >= ? AND earliest <= ? ORDER BY latest DESC LIMIT 10000`
	recordCounts  = `SELECT count(*), coalesce(sum(readings), 0), coalesce(sum(readable = 0), 0) FROM records WHERE gateway = ?`
	recordsOfKind = `SELECT (SELECT count(*) FROM filed WHERE gateway = ?1 AND kind = ?2) + (SELECT count(*) FROM arrivals WHERE gateway = ?1 AND kind = ?2)`
)

// rangeCells bounds the cells that one look at a range decodes: a day of eighteen pumps
// with forty points each, once a second, takes as many. A test lowers it.
var rangeCells = 64 << 20

// ErrTooMuch: a range holds more than one look may decode.
var ErrTooMuch = errors.New("too many readings for one look; ask for less time")

// Range lists the readings of a point in [from, to], oldest first. Each has the series
// as the catalogue of its own block has it. It answers ErrTooMuch.
func (s *Store) Range(ctx context.Context, gateway, pump, point string, from, to time.Time) ([]Sample, error) {
	samples := []Sample{}
	cells := 0
	err := s.blocks(ctx, func(c telemetry.Catalogue, b *decode.Block) error {
		if cells += b.Cells(); cells > rangeCells {
			return errEnough
		}
		group, series, ok := find(c, pump, point)
		if !ok {
			return nil
		}
		means := &c.Groups[group].Series[series]
		return b.Each(c.Groups, group, series, func(r telemetry.Reading) {
			if t := r.Time(); !t.Before(from) && !t.After(to) {
				samples = append(samples, Sample{t, r.Raw, r.Quality, r.Unsure, means})
			}
		})
	}, blockColumns+blocksOfTime,
		gateway, from.UnixMilli(), to.Add(longest).UnixMilli(), to.UnixMilli())
	if errors.Is(err, errEnough) {
		s.log.Warn("a look at a gateway's readings was ended", "gateway", gateway, "cells", cells)
		err = ErrTooMuch
	}
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

// Readings calls f for every reading of a gateway, block by block.
func (s *Store) Readings(ctx context.Context, gateway string, f func(Reading)) error {
	return s.blocks(ctx, func(c telemetry.Catalogue, b *decode.Block) error {
		readings, err := b.All(c.Groups)
		for _, r := range readings {
			series := &c.Groups[r.Group].Series[r.Series]
			f(Reading{series.Pump, series.Point, Sample{r.Time(), r.Raw, r.Quality, r.Unsure, series}})
		}
		return err
	}, blockColumns+`ORDER BY latest`, gateway)
}

// Gaps lists the gaps that touch [from, to], oldest first; where there are more than
// ten thousand, those that ended last.
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
	slices.SortStableFunc(gaps, func(a, b telemetry.Gap) int { return a.From.Compare(b.From) })
	return gaps, rows.Err()
}

// Counters count what came from a gateway.
func (s *Store) Counters(ctx context.Context, gateway string) (c Counters, err error) {
	err = s.reader.QueryRowContext(ctx, recordCounts, gateway).Scan(&c.Records, &c.Readings, &c.Unreadable)
	if err != nil {
		return c, err
	}
	var nameless int64
	err = s.reader.QueryRowContext(ctx, `SELECT conflicts, nameless FROM oddity_counts WHERE gateway = ?`, gateway).Scan(&c.Conflicts, &nameless)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	c.Unreadable += nameless
	return c, err
}

// Count is how many records of a kind came from a gateway.
func (s *Store) Count(ctx context.Context, gateway string, kind wire.Kind) (n int, err error) {
	err = s.reader.QueryRowContext(ctx, recordsOfKind, gateway, int64(kind)).Scan(&n)
	return n, err
}
