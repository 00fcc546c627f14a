package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrNotRevoked: there is nothing to lift.
var ErrNotRevoked = errors.New("it is not revoked")

// Revocation is of a gateway, or of one of its certificates.
type Revocation struct {
	ID      int64
	Gateway string
	Number  string // of the certificate; "": whatever the gateway shows
	Revoked time.Time
	Reason  string

	Lifted       time.Time // zero: it is in force
	LiftedReason string
}

// Revoke shuts a gateway out, whatever certificate it shows. While it is revoked
// the first reason stays. It answers ErrNoGateway when there is none.
func (s *Store) Revoke(ctx context.Context, serial, reason string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, serial, ""); err != nil {
			var revoked *RevokedError
			if errors.As(err, &revoked) {
				return nil // it is
			}
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO revocations (gateway, number, revoked, reason) VALUES (?, '', ?, ?)`,
			serial, s.clock.Now().UnixMilli(), reason)
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking %s: %w", serial, err)
	}
	s.hub.tell(Update{Gateway: serial})
	return nil
}

// Unrevoke lets a revoked gateway in again, with a new operational key: those that
// it had stay revoked, one by one, and no certificate is issued for them any more
// (ErrRevokedKey). It answers ErrNoGateway or ErrNotRevoked.
func (s *Store) Unrevoke(ctx context.Context, serial, reason string) error {
	now := s.clock.Now().UnixMilli()
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, serial, ""); errors.Is(err, ErrNoGateway) {
			return err
		}
		var id int64
		var why string
		err := tx.QueryRowContext(ctx, `SELECT id, reason FROM revoked WHERE gateway = ? AND number = ''`, serial).Scan(&id, &why)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotRevoked
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO revocations (gateway, number, revoked, reason)
			SELECT gateway, number, ?2, ?3 FROM certificates c WHERE gateway = ?1 AND role = 'operational'
				AND NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = c.gateway AND r.number = c.number)`,
			serial, now, "of before the gateway was revoked: "+why); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO reinstatements (revocation, lifted, reason) VALUES (?, ?, ?)`, id, now, reason)
		return err
	})
	if err != nil {
		return fmt.Errorf("letting %s in again: %w", serial, err)
	}
	s.hub.tell(Update{Gateway: serial})
	return nil
}

// Revocations lists those with an id beyond after, oldest first, lifted ones too.
// Rows are never removed and ids never used again, so that whoever has seen them up
// to an id need only look beyond it.
func (s *Store) Revocations(ctx context.Context, after int64) ([]Revocation, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT r.id, r.gateway, r.number, r.revoked, r.reason, coalesce(l.lifted, 0), coalesce(l.reason, '')
		FROM revocations r LEFT JOIN reinstatements l ON l.revocation = r.id WHERE r.id > ? ORDER BY r.id`, after)
	if err != nil {
		return nil, fmt.Errorf("looking for revocations: %w", err)
	}
	defer rows.Close()
	var all []Revocation
	for rows.Next() {
		var r Revocation
		var revoked, lifted int64
		if err := rows.Scan(&r.ID, &r.Gateway, &r.Number, &revoked, &r.Reason, &lifted, &r.LiftedReason); err != nil {
			return nil, err
		}
		r.Revoked, r.Lifted = at(revoked), at(lifted)
		all = append(all, r)
	}
	return all, rows.Err()
}
