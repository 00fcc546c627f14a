package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// TestAGatewayThatSendsRubbishIsRefusedAndNamed: records of 200 kB that nobody can read,
// as fast as they go. Those of other gateways, and its own good ones, pass.
func TestAGatewayThatSendsRubbishIsRefusedAndNamed(t *testing.T) {
	c := clockAt(t0)
	s := openAt(t, filepath.Join(t.TempDir(), "cloud.db"), c)
	defer s.Close()
	g := newGateway(t)
	rubbish := func(i int) []byte { return append(bytes.Repeat([]byte{0xFF}, 200_000), byte(i)) }
	kept := 0
	var over *store.QuotaError
	for i := range 100 {
		err := s.Append(t.Context(), "GW-1", rubbish(i))
		if err == nil {
			kept++
		} else if !errors.As(err, &over) || over.Gateway != "GW-1" {
			t.Fatal(err)
		}
	}
	if kept == 0 || kept > 50 {
		t.Errorf("%d of 100 were kept", kept)
	}
	keep(t, s, g.catalogueRecord(), g.block(t0))
	if err := s.Append(t.Context(), "GW-2", rubbish(0)); err != nil {
		t.Error(err)
	}
	alarms, err := s.Alarms(t.Context(), "GW-1")
	if err != nil || len(alarms) != 1 || !strings.Contains(alarms[0].Text, "quota of records that cannot be decoded") {
		t.Errorf("alarms %v, %v", alarms, err)
	}
	c.ms.Store(t0.Add(time.Hour).UnixMilli()) // there is room again
	if err := s.Append(t.Context(), "GW-1", rubbish(200)); err != nil {
		t.Error(err)
	}
}

// TestNewCataloguesHaveAQuota: the same one again costs nothing.
func TestNewCataloguesHaveAQuota(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cloud.db"), clockAt(t0))
	defer s.Close()
	g := newGateway(t)
	other := func(i int) {
		c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p", Name: fmt.Sprint(i, strings.Repeat("x", 200_000))}}})
		if err != nil {
			t.Fatal(err)
		}
		g.catalogue = c
	}
	var over *store.QuotaError
	refused := -1
	for i := range 100 {
		other(i)
		if err := s.Append(t.Context(), "GW-1", g.catalogueRecord()); errors.As(err, &over) {
			refused = i
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused < 20 {
		t.Fatalf("refused at %d", refused)
	}
	for i := range refused {
		other(i)
		keep(t, s, g.catalogueRecord())
	}
}

// TestWhatIsKeptBesideTheRecordsIsBounded: oddities, conflicts and events of links. All
// are counted.
func TestWhatIsKeptBesideTheRecordsIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s := openAt(t, path, clockAt(t0))
	g := newGateway(t)
	body := func(i int) []byte {
		return wire.AppendEvent(nil, telemetry.Event{Time: t0.Add(time.Duration(i) * time.Second), Link: "modem", Point: telemetry.DataUsed, Raw: 80})
	}
	const n = 1500
	for i := range n {
		keep(t, s, g.publish(wire.KindEvent, body(i)))
		if i < 300 {
			g.seq, g.epoch = 0, wire.Epoch{byte(i), byte(i >> 8), 7}
			keep(t, s, g.publish(wire.KindEvent, body(i)))
			g.seq = 0
			keep(t, s, g.publish(wire.KindEvent, body(i+1)), []byte{0xFF, byte(i), byte(i >> 8)})
		}
	}
	if c := count(t, s); c.Conflicts != 300 || c.Unreadable != 300 {
		t.Errorf("counted: %+v", c)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for table, most := range map[string]int{"oddities": 150, "conflicts": 64, "link_events": 1001} {
		var rows int
		if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&rows); err != nil || rows > most || rows < most/2 {
			t.Errorf("%d rows of %s, %v", rows, table, err)
		}
	}
}
