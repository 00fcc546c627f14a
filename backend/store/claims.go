package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrOtherLabel: a gateway has a label with another claim code.
var ErrOtherLabel = errors.New("it has a label with another claim code; penstock provision -relabel makes that one void")

// ErrVoidLabel: a claim code was replaced, or is another gateway's.
var ErrVoidLabel = errors.New("this claim code is void, or another gateway's")

// SetClaim keeps the SHA-256 of the claim code on a gateway's label. Another code
// than it has takes the place of the old one, which is void for ever, only where
// relabel says so: ErrOtherLabel. It answers ErrNoGateway and ErrVoidLabel.
func (s *Store) SetClaim(ctx context.Context, serial string, hash []byte, relabel bool) error {
	now := s.clock.Now().UnixMilli()
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, serial, ""); err != nil {
			return err
		}
		var good []byte
		err := tx.QueryRowContext(ctx, `SELECT hash FROM claims WHERE gateway = ? AND replaced IS NULL`, serial).Scan(&good)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case bytes.Equal(good, hash):
			return nil
		case !relabel:
			return ErrOtherLabel
		}
		var taken bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM claims WHERE hash = ?)`, hash).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return ErrVoidLabel
		}
		if _, err := tx.ExecContext(ctx, `UPDATE claims SET replaced = ? WHERE gateway = ? AND replaced IS NULL`, now, serial); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO claims (hash, gateway, added) VALUES (?, ?, ?)`, hash, serial, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("the label of %s: %w", serial, err)
	}
	return nil
}

// Claimed is the serial number of the gateway whose label bears the code of that
// SHA-256, or ErrNoGateway.
func (s *Store) Claimed(ctx context.Context, hash []byte) (serial string, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT gateway FROM claims WHERE hash = ? AND replaced IS NULL`, hash).Scan(&serial)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNoGateway
	}
	return serial, err
}
