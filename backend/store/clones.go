package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// sameSign is how long a sign of a clone is not repeated.
const sameSign = time.Hour

// SuspectClone raises an alarm: a gateway's identity may be in use twice. The same
// sign again within the hour is not another alarm.
func (s *Store) SuspectClone(ctx context.Context, gateway, reason string) error {
	now := s.clock.Now()
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO clones (gateway, noticed, reason) SELECT ?1, ?2, ?3
			WHERE NOT EXISTS (SELECT 1 FROM clones WHERE gateway = ?1 AND reason = ?3 AND noticed > ?4)`,
			gateway, now.UnixMilli(), reason, now.Add(-sameSign).UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("a sign that %s has a clone: %w", gateway, err)
	}
	s.hub.tell(Update{Gateway: gateway})
	return nil
}
