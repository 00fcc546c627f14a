package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"penstock/uplink/wire"
)

// A quota is what a gateway may store of one kind: so many bytes at once, and so many
// an hour from then on.
type quota struct {
	what        string
	burst, hour float64
}

// An honest gateway of a newer version than the backend sends some kilobytes a minute
// that cannot be decoded here, and one whose pumps change their control modes some
// hundred catalogues a day.
var (
	unreadableQuota = quota{"records that cannot be decoded", 8 << 20, 1 << 20}
	catalogueQuota  = quota{"new catalogues", 8 << 20, 512 << 10}
)

// noteEvery is how often a used up quota is noted.
const noteEvery = time.Hour

// QuotaError: a gateway has used up a quota. Nothing was kept; it may send again later.
type QuotaError struct {
	Gateway, What string
	Bytes         int
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%s has used up its quota of %s; one of %d bytes was refused until there is room again", e.Gateway, e.What, e.Bytes)
}

// quotas counts what gateways have used; a restart forgets it.
type quotas struct {
	mu   sync.Mutex
	used map[quotaKey]*usage
}

type quotaKey struct{ gateway, what string }

type usage struct {
	bytes float64
	at    time.Time // of bytes
	noted time.Time // when it was last told that it is used up; zero: not yet
}

// take counts bytes, if the quota has room for them. tell says that it has not and
// that nobody has been told lately.
func (q *quotas) take(gateway string, of quota, bytes int, now time.Time) (ok, tell bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used == nil {
		q.used = map[quotaKey]*usage{}
	}
	k := quotaKey{gateway, of.what}
	u := q.used[k]
	if u == nil {
		u = &usage{at: now}
		q.used[k] = u
	}
	if passed := now.Sub(u.at); passed > 0 {
		u.bytes, u.at = max(0, u.bytes-of.hour*passed.Hours()), now
	}
	if u.bytes+float64(bytes) <= of.burst {
		u.bytes += float64(bytes)
		return true, false
	}
	if tell = u.noted.IsZero() || now.Sub(u.noted) >= noteEvery; tell {
		u.noted = now
	}
	return false, tell
}

// admit holds a record against the quotas of its gateway.
func (s *Store) admit(ctx context.Context, in *incoming) error {
	of := quota{}
	switch {
	case in.problem != nil:
		of = unreadableQuota
	case in.index.catalogue != nil:
		if _, known, err := s.catalogue(ctx, s.reader, in.gateway, in.index.catalogueName); err != nil || known {
			return err
		}
		of = catalogueQuota
	default:
		return nil
	}
	bytes := max(len(in.publish), len(in.index.catalogue))
	now := s.clock.Now()
	ok, tell := s.quotas.take(in.gateway, of, bytes, now)
	if ok {
		return nil
	}
	err := &QuotaError{in.gateway, of.what, bytes}
	if tell {
		s.log.Warn("a gateway has used up a quota", "gateway", in.gateway, "of", of.what)
		if e := s.noteQuota(ctx, in.gateway, of.what, now); e != nil {
			s.log.Error("a used up quota could not be noted", "gateway", in.gateway, "err", e)
		}
	}
	return err
}

func (s *Store) noteQuota(ctx context.Context, gateway, what string, now time.Time) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO quotas (gateway, what, first, latest) VALUES (?1, ?2, ?3, ?3)
			ON CONFLICT DO UPDATE SET latest = excluded.latest`, gateway, what, now.UnixMilli())
		return err
	})
	if err == nil {
		s.hub.tell(Update{Gateway: gateway})
	}
	return err
}

// quotaAlarms are those of the last week.
func (s *Store) quotaAlarms(ctx context.Context, gateway string) (alarms []Alarm, err error) {
	since := s.clock.Now().Add(-7 * 24 * time.Hour).UnixMilli()
	rows, err := s.reader.QueryContext(ctx, `SELECT what, latest FROM quotas WHERE gateway = ? AND latest > ? ORDER BY latest`, gateway, since)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var what string
		var latest int64
		if err := rows.Scan(&what, &latest); err != nil {
			return nil, err
		}
		alarms = append(alarms, Alarm{gateway, time.UnixMilli(latest).UTC(),
			fmt.Sprintf("used up its quota of %s; more was refused: is its software damaged, or not ours?", what)})
	}
	return alarms, rows.Err()
}

// What is kept of a gateway beside its records: the newest.
const (
	mostOddities   = 100
	mostConflicts  = 64
	mostLinkEvents = 1000
	// trimEvery is how many more of them may stand until they are trimmed.
	trimEvery = 32
)

// odd counts an oddity of a gateway and, now and then, lets go of the oldest.
func countOdd(tx *sql.Tx, gateway string, conflict bool) error {
	var conflicts, nameless int64 = 0, 1
	if conflict {
		conflicts, nameless = 1, 0
	}
	var total int64
	err := tx.QueryRow(`INSERT INTO oddity_counts (gateway, conflicts, nameless) VALUES (?1, ?2, ?3)
		ON CONFLICT DO UPDATE SET conflicts = conflicts + ?2, nameless = nameless + ?3 RETURNING conflicts + nameless`,
		gateway, conflicts, nameless).Scan(&total)
	if err != nil || total%trimEvery != 0 {
		return err
	}
	_, err = tx.Exec(`DELETE FROM oddities WHERE gateway = ?1 AND hash NOT IN
		(SELECT hash FROM oddities WHERE gateway = ?1 ORDER BY received DESC LIMIT ?2)`, gateway, mostOddities)
	return err
}

// conflicted notes that an epoch has been used by two disks.
func conflicted(tx *sql.Tx, gateway string, epoch wire.Epoch, now int64) error {
	_, err := tx.Exec(`INSERT INTO conflicts (gateway, epoch, latest) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET latest = excluded.latest`, gateway, epoch[:], now)
	if err == nil {
		_, err = tx.Exec(`DELETE FROM conflicts WHERE gateway = ?1 AND epoch NOT IN
			(SELECT epoch FROM conflicts WHERE gateway = ?1 ORDER BY latest DESC LIMIT ?2)`, gateway, mostConflicts)
	}
	return err
}
