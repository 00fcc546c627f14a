package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// What decoded catalogues may hold of the memory: all of them, and those of one
// gateway. One more than that is decoded again when it is asked for.
const (
	mostCatalogueBytes        = 64 << 20
	mostCatalogueBytesGateway = 4 << 20
)

// catalogues remembers decoded catalogues: they never change under their name.
type catalogues struct {
	mu     sync.Mutex
	byName map[catalogueKey]remembered
	newest map[string]wire.Name // by gateway
	bytes  int                  // of byName
	of     map[string]int       // bytes of byName by gateway
}

type catalogueKey struct {
	gateway string
	name    wire.Name
}

type remembered struct {
	catalogue telemetry.Catalogue
	bytes     int
}

func (c *catalogues) get(k catalogueKey) (telemetry.Catalogue, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.byName[k]
	return r.catalogue, ok
}

// put remembers a catalogue and forgets others where it takes room: of the gateway
// itself first, so that no gateway takes the room of the rest.
func (c *catalogues) put(k catalogueKey, catalogue telemetry.Catalogue) {
	size := sizeOf(catalogue)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName, c.of = map[catalogueKey]remembered{}, map[string]int{}
	}
	c.drop(k)
	for old := range c.byName {
		if c.of[k.gateway]+size <= mostCatalogueBytesGateway {
			break
		}
		if old.gateway == k.gateway {
			c.drop(old)
		}
	}
	for old := range c.byName {
		if c.bytes+size <= mostCatalogueBytes {
			break
		}
		c.drop(old)
	}
	c.byName[k] = remembered{catalogue, size}
	c.bytes += size
	c.of[k.gateway] += size
}

// drop forgets a catalogue; mu is held.
func (c *catalogues) drop(k catalogueKey) {
	r, ok := c.byName[k]
	if !ok {
		return
	}
	delete(c.byName, k)
	c.bytes -= r.bytes
	if c.of[k.gateway] -= r.bytes; c.of[k.gateway] == 0 {
		delete(c.of, k.gateway)
	}
}

func (c *catalogues) forgetNewest(gateway string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newest, gateway)
}

// sizeOf is about how many bytes a decoded catalogue takes.
func sizeOf(c telemetry.Catalogue) int {
	const header, ofPump, ofGroup, ofSeries = 128, 96, 48, 112
	n := header + len(c.Pumps)*ofPump + len(c.Groups)*ofGroup
	for _, p := range c.Pumps {
		n += len(p.ID) + len(p.Name) + len(p.Family) + len(p.Bus)
	}
	for _, g := range c.Groups {
		n += len(g.Series) * ofSeries
		for _, s := range g.Series {
			n += len(s.Point) + len(s.Unit) + len(s.Enum)
		}
	}
	return n
}

// Catalogue is the newest catalogue of a gateway, an empty one when none came.
func (s *Store) Catalogue(ctx context.Context, gateway string) (telemetry.Catalogue, error) {
	return s.newestCatalogue(ctx, s.reader, gateway)
}

func (s *Store) newestCatalogue(ctx context.Context, q querier, gateway string) (telemetry.Catalogue, error) {
	s.catalogues.mu.Lock()
	name, ok := s.catalogues.newest[gateway]
	s.catalogues.mu.Unlock()
	_, inTransaction := q.(*sql.Tx)
	if !ok || inTransaction {
		var found []byte
		err := q.QueryRowContext(ctx, `SELECT name FROM catalogues WHERE gateway = ? ORDER BY n DESC LIMIT 1`, gateway).Scan(&found)
		if errors.Is(err, sql.ErrNoRows) {
			return telemetry.Catalogue{}, nil
		}
		if err != nil {
			return telemetry.Catalogue{}, err
		}
		if copy(name[:], found) != len(name) {
			return telemetry.Catalogue{}, fmt.Errorf("a catalogue of %s has a name of %d bytes", gateway, len(found))
		}
	}
	c, _, err := s.catalogue(ctx, q, gateway, name)
	if err == nil && !inTransaction { // what a transaction sees may not last
		s.catalogues.mu.Lock()
		defer s.catalogues.mu.Unlock()
		if s.catalogues.newest == nil {
			s.catalogues.newest = map[string]wire.Name{}
		}
		s.catalogues.newest[gateway] = name
	}
	return c, err
}

// catalogue is the catalogue of that name; ok is false while it has not come.
func (s *Store) catalogue(ctx context.Context, q querier, gateway string, name wire.Name) (c telemetry.Catalogue, ok bool, err error) {
	k := catalogueKey{gateway, name}
	if c, ok = s.catalogues.get(k); ok {
		return c, true, nil
	}
	var body []byte
	err = q.QueryRowContext(ctx, `SELECT body FROM catalogues WHERE gateway = ? AND name = ?`, gateway, name[:]).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if c, _, err = decode.ParseCatalogue(body); err != nil {
		return c, false, fmt.Errorf("catalogue %v of %s: %w", name, gateway, err)
	}
	s.catalogues.put(k, c)
	return c, true, nil
}

// keepCatalogue keeps a catalogue that came, as the newest of its gateway. Whichever
// comes later has the higher number, in one millisecond, too.
func keepCatalogue(tx *sql.Tx, gateway string, name wire.Name, body []byte, now int64) error {
	_, err := tx.Exec(`INSERT INTO catalogues (gateway, name, received, body, n)
		VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(n), 0) + 1 FROM catalogues WHERE gateway = ?1))
		ON CONFLICT DO UPDATE SET received = excluded.received, n = excluded.n`, gateway, name[:], now, body)
	return err
}
