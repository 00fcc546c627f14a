// Package store keeps what gateways send: records as they came, and what is
// known of the gateways themselves.
//
// A record is kept whole, as it was published: the columnar block of a
// reporting period is far smaller than a row for each of its readings, and what
// this version does not understand is not lost. Beside the bytes stand the few
// columns that queries need. A query over time reads the blocks of that time and
// decodes them.
//
// A record is named by (gateway, epoch, lane, sequence number), exactly. The
// same name with the same content is a repetition and dropped; with other content it
// is kept, too, under an epoch made of its content, and raises an alarm, since two
// gateways seem to share one identity, or a disk was rolled back. At-least-once on the wire becomes exactly-once at rest.
//
// Records arrive in a table of their own, in which those of all gateways lie side
// by side, and are filed by gateway in thousands: a commit then writes a few pages
// and not some for each gateway. The view "records" shows both places as one.
//
// The database is one SQLite file in write-ahead mode with full
// synchronisation: what a commit has returned for survives a power cut. One
// connection writes; several read. Other processes may use the file at the same
// time: `penstock-cloud ca` does while the server runs.
//
// Each subject has a file of its own (records, queries, identity, accounts) and
// a migration of its own; they share write and the reader pool.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"penstock/internal/clock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	clock  clock.Clock
	log    *slog.Logger
	writer *sql.DB // one connection
	reader *sql.DB

	inbox   inbox
	stopped chan struct{} // the committer has

	// The committer's.
	arrive                  *sql.Stmt
	readNewest, writeNewest *sql.Stmt

	arrived int // records not filed yet, or more

	hub        hub
	bell       bell
	missing    missing
	catalogues catalogues
	quotas     quotas
}

// Open opens the database at path, makes it when there is none, and brings its
// schema up to date.
func Open(ctx context.Context, path string, clk clock.Clock, log *slog.Logger) (*Store, error) {
	s := &Store{clock: clk, log: log, inbox: inbox{bell: make(chan struct{}, 1)}, stopped: make(chan struct{})}
	var err error
	// The pages that commits write are kept at hand, and go from the log to their
	// places once for many commits.
	if s.writer, err = open(path, 1, "&_pragma=cache_size(-32768)&_pragma=wal_autocheckpoint(16384)"); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.writer); err != nil {
		s.writer.Close()
		return nil, fmt.Errorf("bringing %s up to date: %w", path, err)
	}
	if s.reader, err = open(path, 4, "&_pragma=query_only(1)"); err != nil {
		s.writer.Close()
		return nil, err
	}
	if err := s.prepareRecords(ctx); err != nil {
		return nil, errors.Join(err, s.reader.Close(), s.writer.Close())
	}
	if err := s.fillNewest(ctx); err != nil {
		return nil, errors.Join(err, s.reader.Close(), s.writer.Close())
	}
	go s.commitLoop()
	return s, nil
}

func open(path string, connections int, more string) (*sql.DB, error) {
	dsn := (&url.URL{Scheme: "file", Opaque: url.PathEscape(path)}).String() +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" + more
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close commits what waits and closes the database.
func (s *Store) Close() error {
	s.inbox.close()
	<-s.stopped
	err := s.reader.Close()
	if e := s.writer.Close(); err == nil {
		err = e
	}
	return err
}

// write runs f in a transaction on the writing connection; an error of f rolls
// it back.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}
