package store_test

import (
	"testing"
	"time"

	"penstock/backend/store"
)

// TestTheOwnersOfAGatewayOutliveARestore: a gateway that has heard from its third owner
// takes no command that says it is of the first. The count never goes back.
func TestTheOwnersOfAGatewayOutliveARestore(t *testing.T) {
	owner := func(s *store.Store) uint64 {
		t.Helper()
		c, err := s.AddCommand(t.Context(), "GW-1", "p", "stop", "", "test", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return c.Owner
	}
	from, to := temporary(t), temporary(t)
	if err := from.AddGateway(t.Context(), store.Gateway{Serial: "GW-1", Model: "cim550", Board: "lab"},
		store.Certificate{Number: "01", Gateway: "GW-1", Role: "factory", Key: []byte{1}, NotAfter: t0.AddDate(50, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := from.ChangeOwner(t.Context(), "GW-1"); err != nil {
			t.Fatal(err)
		}
	}
	registry, err := from.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for again := range 2 { // the second time nothing changes
		m, err := to.MergeRegistry(t.Context(), registry, &store.Since{})
		if err != nil || m.Owners != 1-again || owner(to) != 2 {
			t.Errorf("merged %+v, %v; owner %d", m, err, owner(to))
		}
	}
	if err := to.ChangeOwner(t.Context(), "GW-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := to.MergeRegistry(t.Context(), registry, &store.Since{}); err != nil || owner(to) != 3 {
		t.Errorf("an older backup: %v; owner %d", err, owner(to))
	}
}
