package store

// boards are the keys of the factory identities of a backup, by gateway: the latest
// so far.
type boards map[string][]byte

// fill completes a certificate of a backup that was made before boards were noted: it
// belongs to the board that was known when it was issued. Certificates come in the
// order of their issue.
func (b boards) fill(c RegisteredCertificate) RegisteredCertificate {
	if c.Role == "factory" {
		b[c.Gateway] = c.Key
	} else if c.Board == nil {
		c.Board = b[c.Gateway]
	}
	return c
}

// unrevoked is a condition on the certificate c.
const unrevoked = `NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = c.gateway AND r.number = c.number)`

func (g merger) certificate(c RegisteredCertificate) error {
	added, err := g.add(&g.m.Certificates, `INSERT INTO certificates (number, gateway, role, key, der, not_before, not_after, issued, board)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.Number, c.Gateway, c.Role, blob(c.Key), blob(c.DER), c.NotBefore, c.NotAfter, c.Issued, c.Board)
	if err != nil || !added {
		return err
	}
	// Had it been here: letting the gateway in again revoked the operational
	// certificates of before, and another board its other keys.
	if c.Role == "operational" {
		if before, err := g.is(`SELECT 1 FROM revocations r JOIN reinstatements l ON l.revocation = r.id
			WHERE r.gateway = ? AND r.number = '' AND l.lifted >= ?`, c.Gateway, c.Issued); err != nil {
			return err
		} else if before {
			return g.revoke(c.Gateway, c.Number, "of before the gateway was let in again; found in a backup")
		}
		return nil
	}
	if err := g.revokeKeys(c.Gateway); err != nil {
		return err
	}
	other, err := g.is(`SELECT 1 FROM certificates c WHERE gateway = ? AND role = 'factory' AND key <> ? AND not_after > ? AND `+unrevoked,
		c.Gateway, blob(c.Key), g.now)
	if err != nil || !other {
		return err
	}
	return g.revoke(c.Gateway, c.Number, "of another board than the gateway has; found in a backup")
}

// revokeKeys revokes every certificate of a gateway for a key of which one
// certificate is revoked: another registry may have certified that key again.
func (g merger) revokeKeys(serial string) error {
	_, err := g.add(&g.m.Revocations, `INSERT INTO revocations (gateway, number, revoked, reason)
		SELECT c.gateway, c.number, ?2, 'another certificate for its key is revoked; found in a restore'
		FROM certificates c WHERE c.gateway = ?1 AND `+unrevoked+`
			AND EXISTS (SELECT 1 FROM certificates o JOIN revoked v ON v.gateway = o.gateway AND v.number = o.number
				WHERE o.gateway = c.gateway AND o.key = c.key)`, serial, g.now)
	return err
}

// settle revokes what a board enrolled that the gateway does not have any more. Where
// nobody noted the board, it is not the present one's as soon as there were two.
func (g merger) settle(serial string) error {
	if err := g.revokeKeys(serial); err != nil {
		return err
	}
	_, err := g.add(&g.m.Revocations, `INSERT INTO revocations (gateway, number, revoked, reason)
		SELECT c.gateway, c.number, ?2, 'enrolled by another board than the gateway has; found in a restore'
		FROM certificates c WHERE c.gateway = ?1 AND c.role = 'operational' AND `+unrevoked+`
			AND EXISTS (SELECT 1 FROM certificates f WHERE f.gateway = c.gateway AND f.role = 'factory' AND f.key IS NOT c.board)
			AND NOT EXISTS (SELECT 1 FROM certificates f WHERE f.gateway = c.gateway AND f.role = 'factory' AND f.key = c.board
				AND NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = f.gateway AND r.number = f.number))`, serial, g.now)
	return err
}
