package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"penstock/internal/telemetry"
)

// Alarms lists what somebody should look at in a gateway as such, oldest first.
//
// For one, signs that two gateways share one identity, or that a gateway's disk
// was rolled back: records that share a name, enrolments beside a good
// certificate, sessions that take each other over. For another, links that have
// used most or all of this month's data, and quotas that are used up.
func (s *Store) Alarms(ctx context.Context, gateway string) ([]Alarm, error) {
	alarms, err := s.cloneAlarms(ctx, gateway)
	if err != nil {
		return nil, err
	}
	used, err := s.dataAlarms(ctx, gateway)
	if err != nil {
		return nil, err
	}
	refused, err := s.quotaAlarms(ctx, gateway)
	if err != nil {
		return nil, err
	}
	alarms = append(append(alarms, used...), refused...)
	slices.SortStableFunc(alarms, func(a, b Alarm) int { return a.Time.Compare(b.Time) })
	return alarms, nil
}

func (s *Store) cloneAlarms(ctx context.Context, gateway string) (alarms []Alarm, err error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT received, reason FROM oddities WHERE gateway = ?1 AND conflict = 1
		UNION ALL SELECT noticed, reason FROM clones WHERE gateway = ?1 ORDER BY 1 DESC LIMIT 100`, gateway)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var received int64
		var reason string
		if err := rows.Scan(&received, &reason); err != nil {
			return nil, err
		}
		alarms = append(alarms, Alarm{gateway, time.UnixMilli(received).UTC(), reason + ": is this identity in use twice, or was a disk restored?"})
	}
	return alarms, rows.Err()
}

// dataAlarms are those of this month: of each link the highest share that it has
// told, when it first did.
func (s *Store) dataAlarms(ctx context.Context, gateway string) (alarms []Alarm, err error) {
	now := s.clock.Now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	rows, err := s.reader.QueryContext(ctx, `SELECT link, raw, min(time) FROM link_events WHERE gateway = ? AND point = ? AND time >= ?
		GROUP BY link, raw ORDER BY link, raw DESC`, gateway, telemetry.DataUsed, month.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	last := ""
	for rows.Next() {
		var link string
		var percent, at int64
		if err := rows.Scan(&link, &percent, &at); err != nil {
			return nil, err
		}
		if link == last {
			continue
		}
		last = link
		text := fmt.Sprintf("%d %% of the data of link %s for %s are used", percent, link, month.Format("2006-01"))
		if percent >= 100 {
			text = fmt.Sprintf("all data of link %s for %s are used: only alarms and commands go over it until the month ends, readings wait in the gateway", link, month.Format("2006-01"))
		}
		alarms = append(alarms, Alarm{gateway, time.UnixMilli(at).UTC(), text})
	}
	return alarms, rows.Err()
}

// linkEvent keeps an event of a link where Alarms finds it.
func linkEvent(tx *sql.Tx, gateway string, e telemetry.Event, now int64) error {
	at := now // where the gateway did not know it
	if !e.Time.IsZero() {
		at = e.Time.UnixMilli()
	}
	_, err := tx.Exec(`INSERT INTO link_events (gateway, time, link, point, raw) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		gateway, at, e.Link, e.Point, e.Raw)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM link_events WHERE gateway = ?1 AND time <
		(SELECT time FROM link_events WHERE gateway = ?1 ORDER BY time DESC LIMIT 1 OFFSET ?2)`, gateway, mostLinkEvents)
	return err
}
