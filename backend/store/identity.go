package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrOtherKey: a gateway has a certificate for another key.
var ErrOtherKey = errors.New("it has a certificate for another key: two boards under one serial number, or a board that was replaced")

// ErrRevokedKey: a key was revoked, and a new certificate does not bring it back.
var ErrRevokedKey = errors.New("its key was revoked; it takes a new key")

// RevokedError: a gateway, or the certificate it shows, is revoked.
type RevokedError struct {
	Gateway string
	Since   time.Time
	Reason  string
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("%s is revoked since %s: %s", e.Gateway, e.Since.Format("2006-01-02 15:04 UTC"), e.Reason)
}

// ErrNotIssued: the registry has not issued that certificate to that gateway.
var ErrNotIssued = errors.New("the registry has not issued that certificate")

// Certificate is what was issued to a gateway.
type Certificate struct {
	Number    string // serial number of the certificate, hexadecimal
	Gateway   string
	Role      string // "factory" or "operational"
	Key       []byte // SHA-256 of its public key
	DER       []byte // the certificate itself
	NotBefore time.Time
	NotAfter  time.Time
	Issued    time.Time
	Revoked   time.Time // zero: it is not
	Reason    string    // of the revocation
	AskedWith string    // number of the certificate that it was asked for with; "": none. AddCertificate alone reads it
}

// AddGateway makes a gateway known, and adds a certificate that was issued to
// it. A gateway that is known keeps when it was added. It answers a *RevokedError
// for a revoked gateway, ErrOtherKey for one with a factory identity in force for
// another key, and ErrRevokedKey when a certificate for that key was revoked.
func (s *Store) AddGateway(ctx context.Context, g Gateway, c Certificate) error {
	return s.addGateway(ctx, g, c, "")
}

// ReplaceGateway is AddGateway for a gateway that has got a new key: its
// certificates for other keys are revoked for that reason.
func (s *Store) ReplaceGateway(ctx context.Context, g Gateway, c Certificate, reason string) error {
	return s.addGateway(ctx, g, c, reason)
}

func (s *Store) addGateway(ctx context.Context, g Gateway, c Certificate, replaced string) error {
	now := s.clock.Now().UnixMilli()
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, g.Serial, ""); err != nil && !errors.Is(err, ErrNoGateway) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO gateways (serial, model, board, added) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET model = excluded.model, board = excluded.board`, g.Serial, g.Model, g.Board, now); err != nil {
			return err
		}
		const others = `FROM certificates c WHERE gateway = ?1 AND key <> ?2
			AND NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = c.gateway AND r.number = c.number)`
		if replaced != "" {
			if _, err := tx.ExecContext(ctx, `INSERT INTO revocations (gateway, number, revoked, reason) SELECT gateway, number, ?3, ?4 `+others,
				g.Serial, blob(c.Key), now, replaced); err != nil {
				return err
			}
		}
		var other bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 `+others+` AND role = 'factory' AND not_after > ?3)`, g.Serial, blob(c.Key), now).Scan(&other); err != nil {
			return err
		}
		if other {
			return ErrOtherKey
		}
		return insertCertificate(ctx, tx, g.Serial, c, now)
	})
	if err != nil {
		return fmt.Errorf("registering %s: %w", g.Serial, err)
	}
	s.hub.tell(Update{Gateway: g.Serial})
	return nil
}

// AddCertificate adds a certificate that was issued to a gateway that is known: an
// operational one. It answers ErrNoGateway, a *RevokedError for a revoked gateway or
// where what it was asked for with is revoked by now, and ErrRevokedKey when a
// certificate for that key was revoked.
func (s *Store) AddCertificate(ctx context.Context, c Certificate) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, c.Gateway, c.AskedWith); err != nil {
			return err
		}
		return insertCertificate(ctx, tx, c.Gateway, c, s.clock.Now().UnixMilli())
	})
	if err != nil {
		return fmt.Errorf("a certificate for %s: %w", c.Gateway, err)
	}
	s.hub.tell(Update{Gateway: c.Gateway})
	return nil
}

func insertCertificate(ctx context.Context, tx *sql.Tx, serial string, c Certificate, now int64) error {
	var revoked bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM certificates c JOIN revoked r ON r.gateway = c.gateway AND r.number = c.number
		WHERE c.gateway = ? AND c.key = ?)`, serial, blob(c.Key)).Scan(&revoked); err != nil {
		return err
	}
	if revoked {
		return ErrRevokedKey
	}
	// An operational certificate belongs to the board that asked for it; where that is
	// not known, to the board that is in force now.
	_, err := tx.ExecContext(ctx, `INSERT INTO certificates (number, gateway, role, key, der, not_before, not_after, issued, board)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, iif(?3 = 'operational', coalesce(
			(SELECT iif(a.role = 'factory', a.key, a.board) FROM certificates a WHERE a.gateway = ?2 AND a.number = ?9),
			(SELECT f.key FROM certificates f WHERE f.gateway = ?2 AND f.role = 'factory'
				AND NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = f.gateway AND r.number = f.number)
				ORDER BY f.issued DESC, f.number LIMIT 1)), NULL))`,
		c.Number, serial, c.Role, blob(c.Key), blob(c.DER), c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), now, c.AskedWith)
	return err
}

// blob is b for a column that takes no NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Standing tells whether a gateway may come in with the certificate of that
// number: nil, ErrNoGateway when it is unknown, or a *RevokedError. It is asked at
// every handshake.
func (s *Store) Standing(ctx context.Context, serial, number string) error {
	return standing(ctx, s.reader, serial, number)
}

// Admit is Standing for a certificate as it was shown, which must be one that the
// registry has issued, byte for byte: whoever has stolen an authority's key makes
// certificates that nobody has revoked. Otherwise it answers ErrNotIssued.
func (s *Store) Admit(ctx context.Context, serial, number string, der []byte) error {
	if err := standing(ctx, s.reader, serial, number); err != nil {
		return err
	}
	var issued []byte
	err := s.reader.QueryRowContext(ctx, `SELECT der FROM certificates WHERE number = ? AND gateway = ?`, number, serial).Scan(&issued)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("looking up a certificate of %s: %w", serial, err)
	case err != nil || !bytes.Equal(issued, der):
		return ErrNotIssued
	}
	return nil
}

func standing(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, serial, number string) error {
	var revoked int64
	var reason string
	err := db.QueryRowContext(ctx, `SELECT coalesce(r.revoked, 0), coalesce(r.reason, '') FROM gateways g
		LEFT JOIN revoked r ON r.gateway = g.serial AND r.number IN ('', ?2) WHERE g.serial = ?1 ORDER BY r.number LIMIT 1`,
		serial, number).Scan(&revoked, &reason)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoGateway
	case err != nil:
		return fmt.Errorf("the standing of %s: %w", serial, err)
	case revoked != 0:
		return &RevokedError{serial, at(revoked), reason}
	}
	return nil
}

// Certificates lists what was issued to a gateway, or to all when serial is
// empty, the newest first.
func (s *Store) Certificates(ctx context.Context, serial string) ([]Certificate, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT c.number, c.gateway, c.role, c.key, c.der, c.not_before, c.not_after, c.issued,
			coalesce(r.revoked, 0), coalesce(r.reason, '')
		FROM certificates c LEFT JOIN revocations r ON r.id =
			(SELECT min(id) FROM revoked WHERE gateway = c.gateway AND number IN ('', c.number))
		WHERE ?1 = '' OR c.gateway = ?1 ORDER BY c.issued DESC, c.number`, serial)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var certs []Certificate
	for rows.Next() {
		var c Certificate
		var before, after, issued, revoked int64
		if err := rows.Scan(&c.Number, &c.Gateway, &c.Role, &c.Key, &c.DER, &before, &after, &issued, &revoked, &c.Reason); err != nil {
			return nil, err
		}
		c.NotBefore, c.NotAfter, c.Issued, c.Revoked = at(before), at(after), at(issued), at(revoked)
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
	coalesce(n.last, 0), coalesce(n.ahead, 0)
	FROM gateways g LEFT JOIN presence p ON p.gateway = g.serial LEFT JOIN revoked r ON r.gateway = g.serial AND r.number = ''
	LEFT JOIN newest n ON n.gateway = g.serial `

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
	var added, since, revoked, last, ahead int64
	var state []byte
	err = row.Scan(&g.Serial, &g.Model, &g.Board, &added, &g.Online, &since, &state, &revoked, &g.Reason, &last, &ahead)
	g.Added, g.Since, g.Revoked, g.LastReading, g.Ahead = at(added), at(since), at(revoked), at(last), at(ahead)
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
