package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver of the store, here for rows

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/lab/trace"
	"penstock/internal/telemetry"
	wireformat "penstock/uplink/wire"
)

func init() {
	Register("store", "bytes of disk a reading takes in the store at rest, beside a row for each reading", storeBench)
}

const (
	storeHours    = 24 // the trace's hour, over and over
	storeGateways = 10
)

// storeBench fills a store with the readings of the trace as gateways report
// them, and measures the file once the log is in it: indexes, catalogues, free
// pages and all. Beside it the same readings go into SQLite one row each, in the
// narrowest table that answers the same question.
func storeBench(ctx context.Context, emit func(Metric)) (err error) {
	shop, err := newWorkshop(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close()) }()
	hour, err := committedTrace(ctx)
	if err != nil {
		return err
	}
	for _, period := range wirePeriods {
		if err := storeBlocks(ctx, filepath.Join(shop.dir, fmt.Sprintf("blocks-%v.db", period)), hour, period, emit); err != nil {
			return err
		}
	}
	return storeRows(ctx, filepath.Join(shop.dir, "rows.db"), hour, emit)
}

func storeBlocks(ctx context.Context, file string, hour *trace.Trace, period time.Duration, emit func(Metric)) error {
	db, err := store.Open(ctx, file, clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	published, readings, err := storeDay(ctx, db, hour, period)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	size, err := atRest(file)
	if err != nil {
		return err
	}
	emit(Metric{"store_bytes_per_reading", float64(size) / float64(readings), "By", map[string]any{"period_s": period.Seconds(),
		"gateways": storeGateways, "readings": readings, "file_bytes": size, "published_bytes_per_reading": float64(published) / float64(readings)}})
	return nil
}

// storeDay has all gateways publish a day, period by period, all at once.
func storeDay(ctx context.Context, db *store.Store, hour *trace.Trace, period time.Duration) (published, readings int, err error) {
	c, err := wireformat.NewCatalogue(hour.Catalogue)
	if err != nil {
		return 0, 0, err
	}
	seq := uint64(0)
	failures := make([]error, storeGateways)
	send := func(payload []byte) error {
		seq++
		var all sync.WaitGroup
		for g := range storeGateways {
			publish := wireformat.AppendRecord(nil, wireformat.Epoch{byte(g)}, wireformat.History, seq, payload)
			published += len(publish)
			all.Go(func() { failures[g] = db.Append(ctx, fmt.Sprintf("BENCH-%05d", g), publish) })
		}
		all.Wait()
		return errors.Join(failures...)
	}
	var packer wireformat.Packer
	if err := send(packer.AppendPayload(nil, wireformat.KindCatalogue, c.Body)); err != nil {
		return 0, 0, err
	}
	builder := wireformat.NewBuilder(c)
	for h := range storeHours {
		later := time.Duration(h) * hour.Length
		for _, m := range batches(hour, period) {
			builder.Open(m.from.Add(later))
			for _, r := range m.readings {
				r.Slot = r.Slot.Add(later)
				builder.Add(r)
				readings += storeGateways
			}
			if err := send(packer.AppendPayload(nil, wireformat.KindBlock, builder.Seal(m.from.Add(later+period)))); err != nil {
				return 0, 0, err
			}
		}
	}
	for g := range storeGateways {
		n, err := db.Counters(ctx, fmt.Sprintf("BENCH-%05d", g))
		if err != nil {
			return 0, 0, err
		}
		if int(n.Readings)*storeGateways != readings || n.Unreadable+n.Conflicts > 0 {
			return 0, 0, fmt.Errorf("the store counts %+v, and %d readings of each gateway were sent", n, readings/storeGateways)
		}
	}
	return published, readings, nil
}

// storeRows keeps the day of one gateway as a row for each reading, clustered by
// series and time: no text, no index beside the key.
func storeRows(ctx context.Context, file string, hour *trace.Trace, emit func(Metric)) error {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	readings, err := fillRows(ctx, db, hour)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	size, err := atRest(file)
	if err != nil {
		return err
	}
	emit(Metric{"store_bytes_per_reading", float64(size) / float64(readings), "By", map[string]any{"peer": "sqlite-rows",
		"gateways": 1, "readings": readings, "file_bytes": size}})
	return nil
}

func fillRows(ctx context.Context, db *sql.DB, hour *trace.Trace) (readings int, err error) {
	_, err = db.ExecContext(ctx, `CREATE TABLE readings (series INTEGER, time INTEGER, raw INTEGER NOT NULL, quality INTEGER NOT NULL,
		PRIMARY KEY (series, time)) WITHOUT ROWID`)
	if err != nil {
		return 0, err
	}
	first := make([]int, len(hour.Catalogue.Groups)) // number of the first series of a group
	for g := range first[1:] {
		first[g+1] = first[g] + len(hour.Catalogue.Groups[g].Series)
	}
	for h := range storeHours {
		n, err := fillRowsHour(ctx, db, hour, first, time.Duration(h)*hour.Length)
		if err != nil {
			return 0, err
		}
		readings += n
	}
	return readings, nil
}

// fillRowsHour keeps the trace, so much later, in one transaction.
func fillRowsHour(ctx context.Context, db *sql.DB, hour *trace.Trace, first []int, later time.Duration) (readings int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	row, err := tx.PrepareContext(ctx, `INSERT INTO readings VALUES (?, ?, ?, ?)`) //nolint:sqlclosecheck // it is closed; the callback, which uses it, hides that
	if err != nil {
		return 0, err
	}
	defer row.Close()
	hour.Readings(func(r telemetry.Reading) {
		if err == nil {
			_, err = row.ExecContext(ctx, first[r.Group]+r.Series, r.Slot.Add(later).UnixMilli(), r.Raw, int(r.Quality))
			readings++
		}
	})
	if err != nil {
		return 0, err
	}
	return readings, tx.Commit()
}

// atRest is the size of a database that was closed: its log must be in it.
func atRest(file string) (int64, error) {
	if wal, err := os.Stat(file + "-wal"); err == nil && wal.Size() > 0 {
		return 0, fmt.Errorf("%s still has a log of %d bytes", file, wal.Size())
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
