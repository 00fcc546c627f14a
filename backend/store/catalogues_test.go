package store

import (
	"fmt"
	"testing"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// TestRememberedCataloguesAreBounded: one gateway takes its own room only, however many
// catalogues it tells, and all of them no more than there is.
func TestRememberedCataloguesAreBounded(t *testing.T) {
	large := telemetry.Catalogue{Groups: []telemetry.Group{{Series: make([]telemetry.Series, wire.MaxSeries)}}}
	small := telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}}
	var c catalogues
	mine := catalogueKey{"GW-1", wire.Name{1}}
	c.put(mine, small)
	for i := range 100 {
		c.put(catalogueKey{"GW-2", wire.Name{byte(i)}}, large)
	}
	if _, ok := c.get(mine); !ok {
		t.Error("another gateway's catalogues took the place of mine")
	}
	if _, ok := c.get(catalogueKey{"GW-2", wire.Name{99}}); !ok {
		t.Error("the last one is not remembered")
	}
	if n := c.of["GW-2"]; n > mostCatalogueBytesGateway {
		t.Errorf("one gateway has %d bytes", n)
	}
	for i := range 200 {
		c.put(catalogueKey{fmt.Sprint("GW-", 10+i), wire.Name{}}, large)
	}
	sum := 0
	for _, r := range c.byName {
		sum += r.bytes
	}
	if c.bytes != sum || sum > mostCatalogueBytes {
		t.Errorf("%d bytes, counted as %d", sum, c.bytes)
	}
}
