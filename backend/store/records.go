package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// ErrClosed: the store is closing; nothing was kept.
var ErrClosed = errors.New("the store is closed")

// maxGroup bounds the records that share a commit.
const maxGroup = 512

// filingRows is how many records may have arrived before they are filed; a test
// lowers it.
var filingRows = 16384

// incoming is a publish on its way into a commit. What can be decoded ahead of
// the commit is.
type incoming struct {
	gateway string
	publish []byte
	name    *decode.Record // nil: the name could not be read
	problem error          // why it is not readable
	index   index
	gap     *telemetry.Gap
	result  *telemetry.CommandResult
	event   *telemetry.Event
	done    chan error // receives once
}

// index is what queries need to know of a record.
type index struct {
	earliest, latest int64 // Unix ms
	readings         int
	catalogue        []byte // its body, for a catalogue
	catalogueName    wire.Name
	newest           []newestReading // of a block
	ahead            int64           // the latest time of a block beyond the present, Unix ms; 0: none
	awaits           bool            // a block that came before the catalogue of catalogueName
}

// Append keeps a publish of a gateway and returns when it is on stable storage;
// then, and only then, it may be acknowledged. Publishes that arrive together
// share a commit. What cannot be decoded is kept as it came, which is no error:
// otherwise it would come back for ever. After an error nothing was kept, or it
// is not known, and the gateway has to send again. A *QuotaError says that it has sent
// too much that is of no use.
//
// publish is not used after Append returns.
func (s *Store) Append(ctx context.Context, gateway string, publish []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in := s.prepare(ctx, gateway, publish)
	if err := s.admit(ctx, in); err != nil {
		return err
	}
	if !s.inbox.put(in) {
		return ErrClosed
	}
	// It will be in a commit, which will end: publish is in use until then.
	return <-in.done
}

// inbox is what waits for the committer.
type inbox struct {
	mu      sync.Mutex
	waiting []*incoming
	closed  bool
	bell    chan struct{} // holds one: there may be more, or it was closed
}

// put answers false once the inbox is closed.
func (b *inbox) put(in *incoming) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.waiting = append(b.waiting, in)
	b.ring()
	return true
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.ring()
}

func (b *inbox) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

// take moves what waits into group, as far as it has room, and tells whether
// more can come.
func (b *inbox) take(group []*incoming) ([]*incoming, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(maxGroup-len(group), len(b.waiting))
	group = append(group, b.waiting[:n]...)
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	if rest > 0 {
		b.ring()
	}
	return group, rest > 0 || !b.closed
}

// prepare decodes what the columns need.
func (s *Store) prepare(ctx context.Context, gateway string, publish []byte) *incoming {
	in := &incoming{gateway: gateway, publish: publish, done: make(chan error, 1)}
	now := s.clock.Now()
	in.index.earliest, in.index.latest = now.UnixMilli(), now.UnixMilli()
	rec, err := decode.ParseRecord(publish)
	if rec.Seq != 0 {
		in.name = &rec
	}
	if err != nil {
		in.problem = err
		return in
	}
	switch rec.Kind {
	case wire.KindBlock:
		in.problem = decode.CheckBlock(rec.Body, func(b *decode.Block) {
			in.index.readings = b.Readings()
			// A block without its catalogue is found by what it answers for.
			c, ok, err := s.catalogue(ctx, s.reader, gateway, b.Catalogue)
			if err != nil {
				s.log.Warn("a catalogue cannot be read", "gateway", gateway, "err", bounded(err.Error()))
			}
			if in.index.awaits, in.index.catalogueName = !ok, b.Catalogue; ok {
				// What does not fit its catalogue has no reading that could be told.
				in.index.newest, in.index.ahead, _ = newestOf(b, c.Groups, now.Add(Tolerance))
			}
			earliest, latest := b.Span(c.Groups)
			in.index.earliest, in.index.latest = earliest.UnixMilli(), latest.UnixMilli()
		})
	case wire.KindCatalogue:
		_, name, err := decode.ParseCatalogue(rec.Body)
		if err != nil {
			in.problem = err
			return in
		}
		in.index.catalogue, in.index.catalogueName = rec.Body, name
	case wire.KindGap:
		g, err := decode.ParseGap(rec.Body)
		if err != nil {
			in.problem = err
			return in
		}
		in.gap = &g
		if in.index.earliest = g.From.UnixMilli(); !g.To.IsZero() { // else it ended before now
			in.index.latest = g.To.UnixMilli()
		}
	case wire.KindResult:
		r, err := decode.ParseResult(rec.Body)
		if err != nil {
			in.problem = err
			return in
		}
		in.result = &r
	case wire.KindEvent:
		e, err := decode.ParseEvent(rec.Body)
		if err != nil {
			in.problem = err
			return in
		}
		in.event = &e
	}
	return in
}

// commitLoop gathers what waits and commits it together, until the inbox is closed
// and empty. It is the only user of the writing connection's record statements.
func (s *Store) commitLoop() {
	defer close(s.stopped)
	defer s.file()
	due := filingRows
	group := make([]*incoming, 0, maxGroup)
	for more := true; more; {
		<-s.inbox.bell
		clear(group)
		if group, more = s.gather(group[:0]); len(group) == 0 {
			continue
		}
		var notes []note
		err := s.write(context.Background(), func(tx *sql.Tx) (err error) {
			notes, err = s.insert(tx, group)
			return err
		})
		if err != nil {
			err = fmt.Errorf("keeping %d records: %w", len(group), err)
		}
		for _, in := range group {
			in.done <- err
		}
		if err != nil {
			continue
		}
		s.announce(group, notes)
		// A filing that failed is tried again once as many more have arrived.
		if s.arrived += len(group); s.arrived >= due {
			s.file()
			due = s.arrived + filingRows
		}
	}
}

// gather makes a group of what waits. A commit costs a flush of the disk however
// much is in it, so whoever is about to bring a record is given the processor
// first, until a round brings nobody.
func (s *Store) gather(group []*incoming) (_ []*incoming, more bool) {
	for {
		before := len(group)
		if group, more = s.inbox.take(group); len(group) == before || len(group) == maxGroup {
			return group, more
		}
		runtime.Gosched()
	}
}

// file moves what has arrived to its place, by gateway and name. Nobody's
// acknowledgement depends on it: records count as soon as they have arrived.
func (s *Store) file() {
	if s.arrived == 0 {
		return
	}
	err := s.write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO filed SELECT gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish
			FROM arrivals ORDER BY gateway, epoch, lane, seq`)
		if err == nil {
			_, err = tx.Exec(`DELETE FROM arrivals`)
		}
		return err
	})
	if err != nil {
		s.log.Error("what has arrived could not be filed; it is kept where it is", "records", s.arrived, "err", err)
		return
	}
	s.arrived = 0
}

// note is something unusual that a commit met, told once it is committed.
type note struct {
	in     *incoming
	reason string
}

// prepareRecords makes the committer ready.
func (s *Store) prepareRecords(ctx context.Context) (err error) {
	if err := s.writer.QueryRowContext(ctx, `SELECT count(*) FROM arrivals`).Scan(&s.arrived); err != nil {
		return err
	}
	s.arrive, err = s.writer.PrepareContext(ctx, `INSERT INTO arrivals (gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
		WHERE NOT EXISTS (SELECT 1 FROM filed WHERE gateway = ?1 AND epoch = ?2 AND lane = ?3 AND seq = ?4) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	if s.readNewest, err = s.writer.PrepareContext(ctx, readNewest); err != nil {
		return err
	}
	s.writeNewest, err = s.writer.PrepareContext(ctx, writeNewest)
	return err
}

func (s *Store) insert(tx *sql.Tx, group []*incoming) (notes []note, err error) {
	now := s.clock.Now().UnixMilli()
	record, read, write := tx.Stmt(s.arrive), tx.Stmt(s.readNewest), tx.Stmt(s.writeNewest)
	for _, in := range group {
		if in.name == nil {
			n, err := odd(tx, in, now, false, in.problem.Error())
			if err != nil {
				return nil, err
			}
			notes = append(notes, n...)
			continue
		}
		put := func(epoch wire.Epoch) (added bool, err error) {
			res, err := record.Exec(in.gateway, epoch[:], int(in.name.Lane), int64(in.name.Seq), int64(in.name.Kind), in.problem == nil, now,
				in.index.earliest, in.index.latest, in.index.readings, in.publish)
			if err != nil {
				return false, err
			}
			n, err := res.RowsAffected()
			return n > 0, err
		}
		added, err := put(in.name.Epoch)
		if err != nil {
			return nil, err
		}
		if !added {
			n, err := repeated(tx, in, now)
			if err != nil {
				return nil, err
			}
			if n == nil {
				continue
			}
			notes = append(notes, n...)
			// Its readings are as true as the others: it stands among the records,
			// too, under an epoch made of its content.
			if added, err = put(forkOf(in.publish)); err != nil {
				return nil, err
			}
			if !added {
				continue
			}
		}
		if in.problem != nil {
			notes = append(notes, note{in, "kept, but it cannot be decoded: " + in.problem.Error()})
		}
		if in.result != nil {
			if err := settle(tx, in.gateway, *in.result); err != nil {
				return nil, err
			}
		}
		if in.event != nil && in.event.Link != "" {
			if err := linkEvent(tx, in.gateway, *in.event, now); err != nil {
				return nil, err
			}
		}
		if in.index.catalogue != nil {
			if err := keepCatalogue(tx, in.gateway, in.index.catalogueName, in.index.catalogue, now); err != nil {
				return nil, err
			}
		}
		if in.index.catalogue != nil || in.index.awaits || in.index.newest != nil || in.index.ahead != 0 {
			if err := s.advance(tx, read, write, in); err != nil {
				return nil, err
			}
		}
	}
	return notes, nil
}

// forkOf is the epoch of a record whose own name was taken by another.
func forkOf(publish []byte) wire.Epoch {
	hash := sha256.Sum256(publish)
	return wire.Epoch(hash[:8])
}

// repeated deals with a record whose name is taken: by itself, or by another.
func repeated(tx *sql.Tx, in *incoming, now int64) ([]note, error) {
	var there []byte
	err := tx.QueryRow(`SELECT publish FROM records WHERE gateway = ? AND epoch = ? AND lane = ? AND seq = ?`,
		in.gateway, in.name.Epoch[:], int(in.name.Lane), int64(in.name.Seq)).Scan(&there)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(there, in.publish) {
		return nil, nil
	}
	if err := conflicted(tx, in.gateway, in.name.Epoch, now); err != nil {
		return nil, err
	}
	return odd(tx, in, now, true, fmt.Sprintf("record %v %v %d is known with other content", in.name.Epoch, in.name.Lane, in.name.Seq))
}

// odd keeps a publish that cannot stand among the records.
func odd(tx *sql.Tx, in *incoming, now int64, conflict bool, reason string) ([]note, error) {
	hash := sha256.Sum256(in.publish)
	res, err := tx.Exec(`INSERT INTO oddities (gateway, hash, received, conflict, reason, publish) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, in.gateway, hash[:], now, conflict, bounded(reason), in.publish)
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return []note{{in, reason}}, err
	}
	return []note{{in, reason}}, countOdd(tx, in.gateway, conflict)
}

// announce tells the log and the subscribers what a commit brought.
func (s *Store) announce(group []*incoming, notes []note) {
	if more := s.missing.note(group); more || len(notes) > 0 {
		s.bell.ring() // a note may be a conflict, which the gateway is told of
	}
	for _, n := range notes {
		s.log.Warn("an odd record", "gateway", n.in.gateway, "what", bounded(n.reason))
	}
	for _, in := range group {
		if in.index.catalogue != nil {
			s.catalogues.forgetNewest(in.gateway)
		}
		s.hub.tell(Update{Gateway: in.gateway, From: time.UnixMilli(in.index.earliest), To: time.UnixMilli(in.index.latest)})
	}
}

// bounded is a text that came from outside, as far as a log takes it.
func bounded(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:most], ""), len(text))
}
