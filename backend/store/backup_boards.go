package store

import "fmt"

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

func (g merger) certificate(c RegisteredCertificate) (added bool, err error) {
	return g.add(&g.m.Certificates, `INSERT INTO certificates (number, gateway, role, key, der, not_before, not_after, issued, board)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.Number, c.Gateway, c.Role, blob(c.Key), blob(c.DER), c.NotBefore, c.NotAfter, c.Issued, c.Board)
}

// settle revokes what may not be let in now that everything is here. Nothing is judged
// earlier: in which order a backup lists certificates is said by clocks, which may
// have been wrong.
func (g merger) settle(gateways []RegisteredGateway, fresh []RegisteredCertificate) error {
	for _, gw := range gateways {
		if err := g.revokeKeys(gw.Serial); err != nil {
			return fmt.Errorf("the revoked keys of %s: %w", gw.Serial, err)
		}
	}
	for _, c := range fresh {
		if err := g.judge(c); err != nil {
			return fmt.Errorf("certificate %s of %s: %w", c.Number, c.Gateway, err)
		}
	}
	for _, gw := range gateways {
		if err := g.settleBoards(gw.Serial); err != nil {
			return fmt.Errorf("the boards of %s: %w", gw.Serial, err)
		}
	}
	return nil
}

// judge revokes a certificate that came back where it would have been revoked had it
// been here: letting the gateway in again revoked the operational certificates of
// before, and another board its other keys.
func (g merger) judge(c RegisteredCertificate) error {
	if c.Role == "operational" {
		if before, err := g.is(`SELECT 1 FROM revocations r JOIN reinstatements l ON l.revocation = r.id
			WHERE r.gateway = ? AND r.number = '' AND l.lifted >= ?`, c.Gateway, c.Issued); err != nil {
			return err
		} else if before {
			return g.revoke(c.Gateway, c.Number, "of before the gateway was let in again; found in a backup")
		}
		return nil
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

// settleBoards revokes what a board enrolled that the gateway does not have any more.
// What nobody noted the board of is kept only where the gateway had no other.
func (g merger) settleBoards(serial string) error {
	if err := g.revokeKeys(serial); err != nil {
		return err
	}
	_, err := g.add(&g.m.Revocations, `INSERT INTO revocations (gateway, number, revoked, reason)
		SELECT c.gateway, c.number, ?2, 'enrolled by another board than the gateway has; found in a restore'
		FROM certificates c WHERE c.gateway = ?1 AND c.role = 'operational' AND `+unrevoked+`
			AND EXISTS (SELECT 1 FROM certificates f WHERE f.gateway = c.gateway AND f.role = 'factory' AND f.key <> coalesce(c.board,
				(SELECT min(o.key) FROM certificates o WHERE o.gateway = c.gateway AND o.role = 'factory')))
			AND NOT EXISTS (SELECT 1 FROM certificates f WHERE f.gateway = c.gateway AND f.role = 'factory' AND f.key = c.board
				AND NOT EXISTS (SELECT 1 FROM revoked r WHERE r.gateway = f.gateway AND r.number = f.number))`, serial, g.now)
	return err
}
