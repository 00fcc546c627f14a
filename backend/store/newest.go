package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// Tolerance is how far ahead of the present a reading may be dated. One that is
// further ahead is kept with its date and drawn there, but it is not the newest
// value: it would hide the present until that date.
const Tolerance = 2 * time.Minute

const (
	// refillBlocks and refillCells bound a look back through the blocks of a gateway
	// for the newest reading of each point.
	refillBlocks = 2000
	refillCells  = 8 << 20
	// mostAwaited bounds the catalogues that a gateway's blocks wait for.
	mostAwaited = 8
)

// newestReading is a reading of a point, with the catalogue that explains it.
type newestReading struct {
	catalogue     wire.Name
	group, series int
	time          int64 // Unix ms
	raw           int64
	quality       telemetry.Quality
}

// newest is what is kept of a gateway in its row of the table.
type newest struct {
	last, ahead int64 // Unix ms; 0: none
	readings    []newestReading
	awaited     []wire.Name // catalogues of blocks that came before them
}

// newestOf finds the newest reading of each series of a block that is not beyond
// limit, and the latest time that is.
func newestOf(b *decode.Block, groups []telemetry.Group, limit time.Time) (found []newestReading, ahead int64, err error) {
	err = b.Newest(groups, limit, func(r telemetry.Reading) {
		found = append(found, newestReading{b.Catalogue, r.Group, r.Series, r.Time().UnixMilli(), r.Raw, r.Quality})
	}, func(beyond time.Time) { ahead = max(ahead, beyond.UnixMilli()) })
	return found, ahead, err
}

// advance takes readings into the newest ones. One that is not later than what is
// known of its point changes nothing.
func (n *newest) advance(of func(wire.Name) (telemetry.Catalogue, bool), news []newestReading) {
	if n.sameCatalogue(news) {
		n.advanceSame(news)
		return
	}
	known := make(map[key]int, len(n.readings)+len(news))
	for i, r := range n.readings {
		if k, ok := r.key(of); ok {
			known[k] = i
		}
	}
	for _, r := range news {
		k, ok := r.key(of)
		if !ok {
			continue
		}
		n.last = max(n.last, r.time)
		if i, had := known[k]; !had {
			known[k] = len(n.readings)
			n.readings = append(n.readings, r)
		} else if r.time > n.readings[i].time {
			n.readings[i] = r
		}
	}
	if len(n.readings) > wire.MaxSeries {
		slices.SortFunc(n.readings, func(a, b newestReading) int { return cmp.Compare(b.time, a.time) })
		n.readings = n.readings[:wire.MaxSeries]
	}
}

// sameCatalogue tells whether one catalogue explains all readings, those that are
// known and news: then no name needs to be looked up.
func (n *newest) sameCatalogue(news []newestReading) bool {
	for _, r := range n.readings {
		if len(news) == 0 || r.catalogue != news[0].catalogue {
			return false
		}
	}
	return len(n.readings) > 0
}

// advanceSame is advance where one catalogue explains all. Points that stand twice in a
// catalogue are two here.
func (n *newest) advanceSame(news []newestReading) {
	type place struct{ group, series int }
	known := make(map[place]int, len(n.readings))
	for i, r := range n.readings {
		known[place{r.group, r.series}] = i
	}
	for _, r := range news {
		n.last = max(n.last, r.time)
		if i, had := known[place{r.group, r.series}]; !had {
			known[place{r.group, r.series}] = len(n.readings)
			n.readings = append(n.readings, r)
		} else if r.time > n.readings[i].time {
			n.readings[i] = r
		}
	}
}

// key names a point of a gateway.
type key struct{ pump, point string }

// explained is the series of a reading, by its own catalogue.
func (r newestReading) explained(of func(wire.Name) (telemetry.Catalogue, bool)) (s telemetry.Series, ok bool) {
	c, ok := of(r.catalogue)
	if !ok || r.group >= len(c.Groups) || r.series >= len(c.Groups[r.group].Series) {
		return s, false
	}
	return c.Groups[r.group].Series[r.series], true
}

func (r newestReading) key(of func(wire.Name) (telemetry.Catalogue, bool)) (key, bool) {
	s, ok := r.explained(of)
	return key{s.Pump, s.Point}, ok
}

// await notes that blocks have come whose catalogue has not.
func (n *newest) await(name wire.Name) {
	if slices.Contains(n.awaited, name) {
		return
	}
	if n.awaited = append(n.awaited, name); len(n.awaited) > mostAwaited {
		n.awaited = n.awaited[1:]
	}
}

// errNewest: a row is not as pack writes it.
var errNewest = errors.New("the newest readings are damaged")

// pack writes: how many catalogues are named, their names, how many of these explain
// readings (the others are awaited), then each reading: catalogue, group, series,
// time less the time before, raw value, quality.
func (n *newest) pack() []byte {
	var names []wire.Name
	index := map[wire.Name]int{}
	for _, r := range n.readings {
		if _, ok := index[r.catalogue]; !ok {
			index[r.catalogue] = len(names)
			names = append(names, r.catalogue)
		}
	}
	b := binary.AppendUvarint(nil, uint64(len(names)+len(n.awaited)))
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range append(names, n.awaited...) {
		b = append(b, name[:]...)
	}
	before := int64(0)
	for _, r := range n.readings {
		b = binary.AppendUvarint(b, uint64(index[r.catalogue]))
		b = binary.AppendUvarint(b, uint64(r.group))
		b = binary.AppendUvarint(b, uint64(r.series))
		b = binary.AppendVarint(b, r.time-before)
		b = binary.AppendVarint(b, r.raw)
		b = append(b, byte(r.quality))
		before = r.time
	}
	return b
}

// unpack reads what pack wrote.
func (n *newest) unpack(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	failed := false
	unsigned := func() uint64 {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			failed = true
			return 0
		}
		b = b[size:]
		return v
	}
	signed := func() int64 {
		v, size := binary.Varint(b)
		if size <= 0 {
			failed = true
			return 0
		}
		b = b[size:]
		return v
	}
	all, used := unsigned(), unsigned()
	if failed || used > all || all > uint64(len(b))/8 {
		return errNewest
	}
	names := make([]wire.Name, all)
	for i := range names {
		b = b[copy(names[i][:], b):]
	}
	n.awaited = names[used:]
	before := int64(0)
	for len(b) > 0 {
		var r newestReading
		name := unsigned()
		r.group, r.series = int(unsigned()), int(unsigned()) //nolint:gosec // held against the catalogue
		before += signed()
		r.time, r.raw = before, signed()
		if failed || len(b) == 0 || name >= used || r.group < 0 || r.series < 0 {
			return errNewest
		}
		r.catalogue, r.quality = names[name], telemetry.Quality(b[0])
		b = b[1:]
		n.readings = append(n.readings, r)
	}
	return nil
}

// querier is a transaction or the pool of readers.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// newest reads the row of a gateway; there is none before its first block.
func (s *Store) newest(ctx context.Context, q querier, gateway string) (n newest, there bool, err error) {
	return scanNewest(q.QueryRowContext(ctx, readNewest, gateway), gateway)
}

func scanNewest(row *sql.Row, gateway string) (n newest, there bool, err error) {
	var packed []byte
	err = row.Scan(&n.last, &n.ahead, &packed)
	if errors.Is(err, sql.ErrNoRows) {
		return n, false, nil
	}
	if err == nil {
		err = n.unpack(packed)
	}
	if err != nil {
		return n, false, fmt.Errorf("the newest readings of %s: %w", gateway, err)
	}
	return n, true, nil
}

const (
	readNewest  = `SELECT last, ahead, points FROM newest WHERE gateway = ?`
	writeNewest = `INSERT INTO newest (gateway, last, ahead, points) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET last = excluded.last, ahead = excluded.ahead, points = excluded.points`
)

// advance takes what a record brought into the newest readings of its gateway, in
// the transaction that keeps it. read and write are readNewest and writeNewest in it.
func (s *Store) advance(tx *sql.Tx, read, write *sql.Stmt, in *incoming) error {
	ctx := context.Background()
	n, _, err := scanNewest(read.QueryRow(in.gateway), in.gateway)
	if err != nil {
		s.log.Error("they are collected anew", "gateway", in.gateway, "err", err)
		n = newest{}
	}
	switch {
	case in.index.catalogue != nil:
		i := slices.Index(n.awaited, in.index.catalogueName)
		if i < 0 {
			return nil
		}
		n.awaited = slices.Delete(n.awaited, i, i+1)
		if err := s.refill(ctx, tx, in.gateway, &n); err != nil {
			return err
		}
	case in.index.awaits:
		// It may have come since the block was looked at.
		if _, ok := s.explainer(ctx, tx, in.gateway)(in.index.catalogueName); !ok {
			n.await(in.index.catalogueName)
		} else if err := s.refill(ctx, tx, in.gateway, &n); err != nil {
			return err
		}
	default:
		n.advance(s.explainer(ctx, tx, in.gateway), in.index.newest)
		n.ahead = max(n.ahead, in.index.ahead)
	}
	_, err = write.Exec(in.gateway, n.last, n.ahead, n.pack())
	return err
}

// explainer finds catalogues of a gateway by name. One that cannot be read explains
// nothing.
func (s *Store) explainer(ctx context.Context, q querier, gateway string) func(wire.Name) (telemetry.Catalogue, bool) {
	var last wire.Name
	var c telemetry.Catalogue
	have := false
	return func(name wire.Name) (telemetry.Catalogue, bool) {
		if have && name == last {
			return c, true
		}
		found, ok, err := s.catalogue(ctx, q, gateway, name)
		if err != nil {
			s.log.Warn("a catalogue cannot be read", "gateway", gateway, "err", err)
			return c, false
		}
		if ok {
			last, c, have = name, found, true
		}
		return found, ok
	}
}

// refill looks for the newest readings in the blocks, back from the newest one, until
// each point has one or the bounds are reached.
func (s *Store) refill(ctx context.Context, q querier, gateway string, n *newest) error {
	of := s.explainer(ctx, q, gateway)
	limit := s.clock.Now().Add(Tolerance)
	want := 0
	if c, err := s.newestCatalogue(ctx, q, gateway); err != nil {
		return err
	} else {
		for _, g := range c.Groups {
			want += len(g.Series)
		}
	}
	cells := 0
	rows, err := q.QueryContext(ctx, blockColumns+newestBlocks, gateway, refillBlocks)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() && cells < refillCells && len(n.readings) < want {
		var serial string
		var publish sql.RawBytes
		var latest int64
		if err := rows.Scan(&serial, &publish, &latest); err != nil {
			return err
		}
		b, err := blockOf(gateway, publish)
		if err != nil {
			return err
		}
		cells += b.Cells()
		c, ok := of(b.Catalogue)
		if !ok {
			n.await(b.Catalogue)
			continue
		}
		found, ahead, err := newestOf(b, c.Groups, limit)
		if err != nil {
			s.log.Warn("a block does not fit its catalogue", "gateway", gateway, "err", bounded(err.Error()))
			continue
		}
		n.advance(of, found)
		n.ahead = max(n.ahead, ahead)
	}
	return rows.Err()
}

// fillNewest makes the rows of gateways whose records are older than the table. Each
// gateway is one transaction: what a stop interrupts goes on at the next start.
func (s *Store) fillNewest(ctx context.Context) error {
	rows, err := s.reader.QueryContext(ctx, `SELECT DISTINCT gateway FROM catalogues WHERE gateway NOT IN (SELECT gateway FROM newest)`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var missing []string
	for rows.Next() {
		var gateway string
		if err := rows.Scan(&gateway); err != nil {
			return err
		}
		missing = append(missing, gateway)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, gateway := range missing {
		err := s.write(ctx, func(tx *sql.Tx) error {
			var n newest
			if err := s.refill(ctx, tx, gateway, &n); err != nil {
				s.log.Error("the newest readings are collected as they come", "gateway", gateway, "err", err)
			}
			_, err := tx.ExecContext(ctx, writeNewest, gateway, n.last, n.ahead, n.pack())
			return err
		})
		if err != nil {
			return fmt.Errorf("the newest readings of %s: %w", gateway, err)
		}
	}
	return nil
}

// Latest is the newest reading of each point of the newest catalogue, with the series
// as the reading's own catalogue has it; points that have no reading are left out.
// Readings dated beyond the present are too: Gateway.Ahead says so.
func (s *Store) Latest(ctx context.Context, gateway string) ([]Value, error) {
	c, err := s.Catalogue(ctx, gateway)
	if err != nil {
		return nil, err
	}
	n, _, err := s.newest(ctx, s.reader, gateway)
	if err != nil {
		return nil, err
	}
	of := s.explainer(ctx, s.reader, gateway)
	found := make(map[key]Value, len(n.readings))
	for _, r := range n.readings {
		if series, ok := r.explained(of); ok {
			found[key{series.Pump, series.Point}] = Value{series, time.UnixMilli(r.time).UTC(), r.raw, r.quality}
		}
	}
	values := make([]Value, 0, len(found))
	for _, g := range c.Groups {
		for _, series := range g.Series {
			if v, ok := found[key{series.Pump, series.Point}]; ok {
				values = append(values, v)
			}
		}
	}
	return values, nil
}
