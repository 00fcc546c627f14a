package store_test

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"testing"

	"penstock/uplink/wire"
)

// TestWhatALaterVersionSendsIsKeptAsItCame: a kind, a compression and fields that
// this version does not know are stored byte for byte, so that a later one can
// read them.
func TestWhatALaterVersionSendsIsKeptAsItCame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s, g := open(t, path), newGateway(t)
	field := []byte{0xF8, 0x3F, 0x01} // number 1023, a varint
	kind := g.publish(wire.Kind(77), []byte("of a later version"))
	outer := append(g.block(t0), field...)
	b := wire.NewBuilder(g.catalogue)
	b.Open(t0)
	inner := g.publish(wire.KindBlock, append(bytes.Clone(b.Seal(t0)), field...))
	g.seq++
	packed := wire.AppendRecord(nil, g.epoch, wire.History, g.seq, []byte{0x20, 1, 0x28, 9, 0x32, 1, 'x'}) // compression 9
	sent := [][]byte{kind, outer, inner, packed}
	keep(t, s, sent...)
	keep(t, s, sent...) // and repetitions are dropped by their name, as ever
	if c := count(t, s); int(c.Records) != len(sent) {
		t.Errorf("counters %+v", c)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i, want := range sent {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM records WHERE publish = ?`, want).Scan(&n); err != nil || n != 1 {
			t.Errorf("publish %d is there %d times, %v", i, n, err)
		}
	}
}
