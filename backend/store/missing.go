package store

import (
	"context"
	"sync"

	"penstock/uplink/wire"
)

// missing is what this process knows of catalogues that have not come: of each
// gateway the one that its latest block names. A restart forgets it, and the
// gateway's next block tells it again.
type missing struct {
	mu     sync.Mutex
	byName map[string]wire.Name // guarded by mu; by gateway
}

// note takes in the blocks of a commit whose catalogue had not come when they did. It
// tells whether a gateway is new among those.
func (m *missing) note(group []*incoming) (more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range group {
		if !in.index.awaits {
			continue
		}
		if m.byName == nil {
			m.byName = map[string]wire.Name{}
		}
		_, known := m.byName[in.gateway]
		more = more || !known
		m.byName[in.gateway] = in.index.catalogueName
	}
	return more
}

// missingCatalogues lists the gateways whose latest block cannot be read. A catalogue
// may have come since, in the commit of its block, even.
func (s *Store) missingCatalogues(ctx context.Context) ([]string, error) {
	s.missing.mu.Lock()
	noted := make(map[string]wire.Name, len(s.missing.byName))
	for gateway, name := range s.missing.byName {
		noted[gateway] = name
	}
	s.missing.mu.Unlock()
	var gateways []string
	for gateway, name := range noted {
		_, ok, err := s.catalogue(ctx, s.reader, gateway, name)
		if err != nil {
			s.log.Warn("a catalogue cannot be read", "gateway", gateway, "err", bounded(err.Error()))
			ok = true // asking does not mend it
		}
		if !ok {
			gateways = append(gateways, gateway)
			continue
		}
		s.missing.mu.Lock()
		if s.missing.byName[gateway] == name {
			delete(s.missing.byName, gateway)
		}
		s.missing.mu.Unlock()
	}
	return gateways, nil
}
