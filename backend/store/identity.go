package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Certificate is what was issued to a gateway.
type Certificate struct {
	Number    string // serial number of the certificate, hexadecimal
	Gateway   string
	NotBefore time.Time
	NotAfter  time.Time
	Issued    time.Time
}

// AddGateway makes a gateway known, and adds a certificate that was issued to
// it. A gateway that is known keeps when it was added.
func (s *Store) AddGateway(ctx context.Context, g Gateway, c Certificate) error {
	now := s.clock.Now().UnixMilli()
	err := s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO gateways (serial, model, board, added) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET model = excluded.model, board = excluded.board`, g.Serial, g.Model, g.Board, now); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO certificates (number, gateway, not_before, not_after, issued) VALUES (?, ?, ?, ?, ?)`,
			c.Number, g.Serial, c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), now)
		return err
	})
	if err != nil {
		return fmt.Errorf("registering %s: %w", g.Serial, err)
	}
	return nil
}

// Revoke shuts a gateway out, whatever certificate it shows. The first reason
// stays.
func (s *Store) Revoke(ctx context.Context, serial, reason string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var known int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM gateways WHERE serial = ?`, serial).Scan(&known); err != nil {
			return err
		}
		if known == 0 {
			return ErrNoGateway
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO revocations (gateway, revoked, reason) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
			serial, s.clock.Now().UnixMilli(), reason)
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking %s: %w", serial, err)
	}
	s.hub.tell(Update{Gateway: serial})
	return nil
}

// Certificates lists what was issued, the newest first.
func (s *Store) Certificates(ctx context.Context) ([]Certificate, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT number, gateway, not_before, not_after, issued FROM certificates ORDER BY issued DESC, number`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var certs []Certificate
	for rows.Next() {
		var c Certificate
		var before, after, issued int64
		if err := rows.Scan(&c.Number, &c.Gateway, &before, &after, &issued); err != nil {
			return nil, err
		}
		c.NotBefore, c.NotAfter, c.Issued = at(before), at(after), at(issued)
		certs = append(certs, c)
	}
	return certs, rows.Err()
}

// at is a time of the database, zero for 0.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

const gatewayColumns = `SELECT g.serial, g.model, g.board, g.added,
	coalesce(p.online, 0), coalesce(p.since, 0), p.state, coalesce(r.revoked, 0), coalesce(r.reason, ''),
	coalesce((SELECT max(latest) FROM records b WHERE b.gateway = g.serial AND b.kind = 1), 0)
	FROM gateways g LEFT JOIN presence p ON p.gateway = g.serial LEFT JOIN revocations r ON r.gateway = g.serial `

// Gateways lists every gateway by serial number.
func (s *Store) Gateways(ctx context.Context) ([]Gateway, error) {
	rows, err := s.reader.QueryContext(ctx, gatewayColumns+`ORDER BY g.serial`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var gws []Gateway
	for rows.Next() {
		g, err := scanGateway(rows)
		if err != nil {
			return nil, err
		}
		gws = append(gws, g)
	}
	return gws, rows.Err()
}

// Gateway is the gateway of that serial number, or ErrNoGateway.
func (s *Store) Gateway(ctx context.Context, serial string) (Gateway, error) {
	g, err := scanGateway(s.reader.QueryRowContext(ctx, gatewayColumns+`WHERE g.serial = ?`, serial))
	if errors.Is(err, sql.ErrNoRows) {
		return g, ErrNoGateway
	}
	return g, err
}

func scanGateway(row interface{ Scan(...any) error }) (g Gateway, err error) {
	var added, since, revoked, last int64
	var state []byte
	err = row.Scan(&g.Serial, &g.Model, &g.Board, &added, &g.Online, &since, &state, &revoked, &g.Reason, &last)
	g.Added, g.Since, g.Revoked, g.LastReading = at(added), at(since), at(revoked), at(last)
	g.State = state
	return g, err
}

// SetPresence notes what a gateway's state topic said. What an older session
// than the newest seen says of being offline is out of date and ignored.
func (s *Store) SetPresence(ctx context.Context, gateway string, online bool, session uint64, state []byte) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO presence (gateway, online, since, session, state) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT DO UPDATE SET since = iif(online = excluded.online, since, excluded.since),
				online = excluded.online, session = excluded.session, state = excluded.state
			WHERE excluded.session >= session OR excluded.online`,
			gateway, online, s.clock.Now().UnixMilli(), int64(session), state)
		return err
	})
	if err != nil {
		return fmt.Errorf("the presence of %s: %w", gateway, err)
	}
	s.hub.tell(Update{Gateway: gateway})
	return nil
}

// SetOffline notes that a gateway's connection ended, unless a newer session
// than that has begun.
func (s *Store) SetOffline(ctx context.Context, gateway string, session uint64) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE presence SET online = 0, since = ? WHERE gateway = ? AND online = 1 AND session = ?`,
			s.clock.Now().UnixMilli(), gateway, int64(session))
		return err
	})
	if err != nil {
		return fmt.Errorf("the presence of %s: %w", gateway, err)
	}
	s.hub.tell(Update{Gateway: gateway})
	return nil
}

// AllOffline notes that nobody is connected: the endpoint has just started.
func (s *Store) AllOffline(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE presence SET online = 0, since = ? WHERE online = 1`, s.clock.Now().UnixMilli())
		return err
	})
}
