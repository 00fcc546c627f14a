package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Registry is which gateways there are, what was issued to them and what was
// revoked, as a backup holds it. Times are Unix milliseconds.
type Registry struct {
	Gateways     []RegisteredGateway     `json:"gateways"`
	Certificates []RegisteredCertificate `json:"certificates"`
	Revocations  []RegisteredRevocation  `json:"revocations"`
	Claims       []RegisteredClaim       `json:"claims"`
	Owners       []RegisteredOwner       `json:"owners,omitempty"`
}

// RegisteredGateway is a gateway in a Registry.
type RegisteredGateway struct {
	Serial string `json:"serial"`
	Model  string `json:"model"`
	Board  string `json:"board"`
	Added  int64  `json:"added"`
}

// RegisteredCertificate is a certificate in a Registry.
type RegisteredCertificate struct {
	Number    string `json:"number"`
	Gateway   string `json:"gateway"`
	Role      string `json:"role"`
	Key       []byte `json:"key"`
	DER       []byte `json:"der"`
	NotBefore int64  `json:"not_before"`
	NotAfter  int64  `json:"not_after"`
	Issued    int64  `json:"issued"`
	Board     []byte `json:"board,omitempty"` // key of the board that enrolled it; earlier backups do not say
}

// RegisteredRevocation is a revocation in a Registry, with what lifted it.
type RegisteredRevocation struct {
	Gateway      string `json:"gateway"`
	Number       string `json:"number,omitempty"`
	Revoked      int64  `json:"revoked"`
	Reason       string `json:"reason"`
	Lifted       int64  `json:"lifted,omitempty"`
	LiftedReason string `json:"lifted_reason,omitempty"`
}

// RegisteredClaim is the hash of a claim code in a Registry.
type RegisteredClaim struct {
	Gateway  string `json:"gateway"`
	Hash     []byte `json:"hash"`
	Added    int64  `json:"added"`
	Replaced int64  `json:"replaced,omitempty"`
}

// RegisteredOwner is how many owners a gateway has had.
type RegisteredOwner struct {
	Gateway string `json:"gateway"`
	Owner   int64  `json:"owner"`
}

// Registry reads the registry as it is at one moment.
func (s *Store) Registry(ctx context.Context) (r Registry, err error) {
	tx, err := s.reader.Conn(ctx)
	if err != nil {
		return r, err
	}
	defer tx.Close() //nolint:errcheck // it goes back to the pool
	// By hand, since BeginTx is for writers here (see open).
	if _, err := tx.ExecContext(ctx, `BEGIN`); err != nil {
		return r, err
	}
	defer func() {
		if _, e := tx.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`); err == nil {
			err = e
		}
	}()
	for _, err := range []error{
		each(ctx, tx, `SELECT serial, model, board, added FROM gateways ORDER BY serial`, &r.Gateways,
			func(g *RegisteredGateway) []any { return []any{&g.Serial, &g.Model, &g.Board, &g.Added} }),
		each(ctx, tx, `SELECT number, gateway, role, key, der, not_before, not_after, issued, board FROM certificates ORDER BY issued, number`, &r.Certificates,
			func(c *RegisteredCertificate) []any {
				return []any{&c.Number, &c.Gateway, &c.Role, &c.Key, &c.DER, &c.NotBefore, &c.NotAfter, &c.Issued, &c.Board}
			}),
		each(ctx, tx, `SELECT r.gateway, r.number, r.revoked, r.reason, coalesce(l.lifted, 0), coalesce(l.reason, '')
			FROM revocations r LEFT JOIN reinstatements l ON l.revocation = r.id ORDER BY r.id`, &r.Revocations,
			func(v *RegisteredRevocation) []any {
				return []any{&v.Gateway, &v.Number, &v.Revoked, &v.Reason, &v.Lifted, &v.LiftedReason}
			}),
		each(ctx, tx, `SELECT gateway, hash, added, coalesce(replaced, 0) FROM claims ORDER BY added, hash`, &r.Claims,
			func(c *RegisteredClaim) []any { return []any{&c.Gateway, &c.Hash, &c.Added, &c.Replaced} }),
		each(ctx, tx, `SELECT gateway, owner FROM owners ORDER BY gateway`, &r.Owners,
			func(o *RegisteredOwner) []any { return []any{&o.Gateway, &o.Owner} }),
	} {
		if err != nil {
			return r, fmt.Errorf("reading the registry: %w", err)
		}
	}
	return r, nil
}

// each reads every row of a query into a list.
func each[T any](ctx context.Context, tx *sql.Conn, query string, into *[]T, columns func(*T) []any) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(columns(&v)...); err != nil {
			return err
		}
		*into = append(*into, v)
	}
	return rows.Err()
}

// UnknownGatewaysError: a backup has gateways that the registry does not know. What
// was revoked after the backup was made cannot be known from here.
type UnknownGatewaysError struct{ Serials []string }

func (e *UnknownGatewaysError) Error() string {
	return fmt.Sprintf("the registry does not know %d of its gateways, and which of them were revoked since", len(e.Serials))
}

// Since is what the operator says of the gateways that a restore makes known again:
// which of them were revoked after the backup was made.
type Since struct {
	Revoked []string // these
	All     bool     // nobody knows: all of them are taken for revoked
	Reason  string
}

// Merged counts what a restore has added.
type Merged struct{ Gateways, Certificates, Revocations, Claims, Owners int }

// MergeRegistry adds a registry of a backup to what is here. Nothing that is here is
// changed, and no revocation is undone: what is revoked here or in the backup, and
// not lifted later, stays revoked, and a certificate that comes back is revoked where
// it would have been had it been here. Of each gateway one board is left, with the
// operational certificates that this board enrolled. The same again changes nothing.
//
// Where the backup has gateways that are not known here, and since is nil, the error
// is an *UnknownGatewaysError.
func (s *Store) MergeRegistry(ctx context.Context, r Registry, since *Since) (m Merged, err error) {
	now := s.clock.Now().UnixMilli()
	err = s.write(ctx, func(tx *sql.Tx) error {
		m = Merged{} // what is tried again begins again
		g := merger{ctx, tx, now, &m}
		return g.merge(r, since)
	})
	if err != nil {
		return m, fmt.Errorf("merging the registry: %w", err)
	}
	for _, g := range r.Gateways {
		s.hub.tell(Update{Gateway: g.Serial})
	}
	return m, nil
}

// MayMerge tells whether MergeRegistry would do without a since: nil, or an
// *UnknownGatewaysError.
func (s *Store) MayMerge(ctx context.Context, r Registry) error {
	here, err := s.Registry(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(here.Gateways))
	for _, g := range here.Gateways {
		known[g.Serial] = true
	}
	var unknown []string
	for _, g := range r.Gateways {
		if !known[g.Serial] {
			unknown = append(unknown, g.Serial)
		}
	}
	if len(unknown) > 0 {
		return &UnknownGatewaysError{unknown}
	}
	return nil
}

// merger merges in one transaction.
type merger struct {
	ctx context.Context
	tx  *sql.Tx
	now int64
	m   *Merged
}

// add runs an insertion that may find that the row is there, and counts.
func (g merger) add(count *int, query string, args ...any) (added bool, err error) {
	res, err := g.tx.ExecContext(g.ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	*count += int(n)
	return n > 0, err
}

func (g merger) is(query string, args ...any) (yes bool, err error) {
	err = g.tx.QueryRowContext(g.ctx, `SELECT EXISTS (`+query+`)`, args...).Scan(&yes)
	return yes, err
}

func (g merger) merge(r Registry, since *Since) error {
	var unknown []string
	for _, gw := range r.Gateways {
		added, err := g.add(&g.m.Gateways, `INSERT INTO gateways (serial, model, board, added) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			gw.Serial, gw.Model, gw.Board, gw.Added)
		if err != nil {
			return err
		}
		if added {
			unknown = append(unknown, gw.Serial)
		}
	}
	if len(unknown) > 0 && since == nil {
		return &UnknownGatewaysError{unknown}
	}
	// What is here first: the certificates are then judged by all revocations.
	for _, v := range r.Revocations {
		if err := g.revocation(v); err != nil {
			return fmt.Errorf("the revocation of %s: %w", v.Gateway, err)
		}
	}
	boards := boards{}
	var fresh []RegisteredCertificate
	for _, c := range r.Certificates {
		added, err := g.certificate(boards.fill(c))
		if err != nil {
			return fmt.Errorf("certificate %s of %s: %w", c.Number, c.Gateway, err)
		}
		if added {
			fresh = append(fresh, c)
		}
	}
	if err := g.settle(r.Gateways, fresh); err != nil {
		return err
	}
	for _, c := range r.Claims {
		if err := g.claim(c); err != nil {
			return fmt.Errorf("the label of %s: %w", c.Gateway, err)
		}
	}
	for _, o := range r.Owners {
		// A gateway takes nothing of an owner before the latest it has heard from: the
		// count never goes back.
		_, err := g.add(&g.m.Owners, `INSERT INTO owners (gateway, owner) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET owner = excluded.owner WHERE excluded.owner > owner`, o.Gateway, o.Owner)
		if err != nil {
			return fmt.Errorf("the owner of %s: %w", o.Gateway, err)
		}
	}
	if since == nil {
		return nil
	}
	revoked := since.Revoked
	if since.All {
		revoked = append(slices.Clone(revoked), unknown...)
	}
	for _, serial := range revoked {
		if err := g.revoke(serial, "", since.Reason); err != nil {
			return fmt.Errorf("revoking %s: %w", serial, err)
		}
	}
	return nil
}

// revoke revokes what is not revoked.
func (g merger) revoke(serial, number, reason string) error {
	if known, err := g.is(`SELECT 1 FROM gateways WHERE serial = ?`, serial); err != nil {
		return err
	} else if !known {
		return ErrNoGateway
	}
	_, err := g.add(&g.m.Revocations, `INSERT INTO revocations (gateway, number, revoked, reason) SELECT ?1, ?2, ?3, ?4
		WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE gateway = ?1 AND number = ?2)`, serial, number, g.now, reason)
	return err
}

// revocation adds a revocation of the backup that is not here. One that is here
// stays as it is: what lifted it here did, and what lifted it elsewhere did not.
func (g merger) revocation(v RegisteredRevocation) error {
	if here, err := g.is(`SELECT 1 FROM revocations WHERE gateway = ? AND number = ? AND revoked = ? AND reason = ?`, v.Gateway, v.Number, v.Revoked, v.Reason); err != nil || here {
		return err
	}
	if v.Lifted == 0 {
		if inForce, err := g.is(`SELECT 1 FROM revoked WHERE gateway = ? AND number = ?`, v.Gateway, v.Number); err != nil || inForce {
			return err // for another reason, which says as much
		}
	}
	res, err := g.tx.ExecContext(g.ctx, `INSERT INTO revocations (gateway, number, revoked, reason) VALUES (?, ?, ?, ?)`, v.Gateway, v.Number, v.Revoked, v.Reason)
	if err != nil {
		return err
	}
	g.m.Revocations++
	if v.Lifted == 0 {
		return nil
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	_, err = g.tx.ExecContext(g.ctx, `INSERT INTO reinstatements (revocation, lifted, reason) VALUES (?, ?, ?)`, id, v.Lifted, v.LiftedReason)
	return err
}

// claim adds the hash of a claim code. Void here or there is void, and of two good
// ones the newer is.
func (g merger) claim(c RegisteredClaim) error {
	replaced := sql.NullInt64{Int64: c.Replaced, Valid: c.Replaced != 0}
	if replaced.Valid {
		if _, err := g.tx.ExecContext(g.ctx, `UPDATE claims SET replaced = ? WHERE hash = ? AND replaced IS NULL`, replaced, c.Hash); err != nil {
			return err
		}
	} else {
		newer, err := g.is(`SELECT 1 FROM claims WHERE gateway = ? AND hash <> ? AND replaced IS NULL AND added >= ?`, c.Gateway, c.Hash, c.Added)
		if err != nil {
			return err
		}
		known, err := g.is(`SELECT 1 FROM claims WHERE hash = ?`, c.Hash)
		switch {
		case err != nil || known:
			return err
		case newer:
			replaced = sql.NullInt64{Int64: g.now, Valid: true}
		default:
			if _, err := g.tx.ExecContext(g.ctx, `UPDATE claims SET replaced = ? WHERE gateway = ? AND replaced IS NULL`, g.now, c.Gateway); err != nil {
				return err
			}
		}
	}
	_, err := g.add(&g.m.Claims, `INSERT INTO claims (hash, gateway, added, replaced) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, c.Hash, c.Gateway, c.Added, replaced)
	return err
}
