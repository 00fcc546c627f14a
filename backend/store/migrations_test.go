package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/pressly/goose/v3"

	"penstock/backend/store"
)

// rowsOf are rows as a database of each schema version may hold them: what a
// migration makes room for is filled right after it, and has to outlive all that
// follow.
var rowsOf = map[int64][]string{
	1: {
		`INSERT INTO records VALUES ('GW-1', x'0102030405060708', 2, 1, 1, 1, 1000, 900, 990, 40, x'0a0b'),
			('GW-1', x'0102030405060708', 1, 1, 3, 1, 1001, 0, 900, 0, x''), ('GW-2', x'ff02030405060708', 2, 9223372036854775807, 99, 0, 1002, 1002, 1002, 0, x'00')`,
		`INSERT INTO catalogues VALUES ('GW-1', x'aa', 1000, x'bb'), ('GW-2', x'aa', 1001, x'bb')`,
		`INSERT INTO oddities VALUES ('GW-1', x'01', 1000, 1, 'is known with other content', x'02'), ('GW-9', x'03', 1001, 0, 'no name', x'')`,
		`INSERT INTO presence VALUES ('GW-1', 1, 1000, 17, x'7b7d'), ('GW-2', 0, 1001, 0, x'')`,
	},
	2: {
		`INSERT INTO gateways VALUES ('GW-1', 'cim550', 'lab', 1), ('GW-2', 'cim280', 'imx6ul', 2), ('GW-3', 'cim550', 'rpi', 3)`,
		`INSERT INTO certificates VALUES ('01', 'GW-1', 'factory', x'f1', x'30', 1, 4102444800000, 1), ('02', 'GW-1', 'operational', x'a1', x'31', 1, 4102444800000, 1),
			('03', 'GW-2', 'factory', x'f2', x'32', 1, 4102444800000, 1), ('04', 'GW-2', 'operational', x'a2', x'33', 1, 4102444800000, 2),
			('05', 'GW-3', 'factory', x'f3', x'34', 1, 4102444800000, 3), ('06', 'GW-3', 'operational', x'a3', x'35', 1, 4102444800000, 3)`,
		// GW-1 is revoked whole, of GW-2 one certificate, of GW-3 nothing.
		`INSERT INTO revocations (id, gateway, number, revoked, reason) VALUES (3, 'GW-2', '04', 1000, 'key lost'), (7, 'GW-1', '', 2000, 'stolen'), (9, 'GW-1', '02', 3000, 'stolen, too')`,
	},
	3: {
		`INSERT INTO accounts (id, email, password, role, generation, added) VALUES (1, 'a@example.com', '$argon2id$x', 'administrator', 3, 1), (5, 'v@example.com', '$argon2id$y', 'viewer', 1, 2)`,
		`INSERT INTO sessions VALUES ('hash', x'01', 1000, 4102444800000)`,
	},
	10: {
		`INSERT INTO owners VALUES ('GW-1', 2)`,
		`INSERT INTO commands VALUES (1, x'00', 'GW-1', 'bus1-1', 'setpoint', '55 %', 2, 'a@example.com', 1, 2, 3, 1, 4, 5500, 'done'),
			(2, x'01', 'GW-3', 'bus1-1', 'start', '', 0, 'cli', 1, 4102444800000, NULL, NULL, NULL, NULL, NULL)`,
		`INSERT INTO watches VALUES ('GW-1', 1000)`,
		`INSERT INTO conflicts VALUES ('GW-1', x'0102030405060708', 1000)`,
	},
	11: {`INSERT INTO reinstatements VALUES (7, 4000, 'found again')`},
	15: {`INSERT INTO clones (gateway, noticed, reason) VALUES ('GW-1', 1000, 'two at once')`},
	16: {`INSERT INTO arrivals VALUES ('GW-1', x'0102030405060708', 2, 2, 1, 1, 1003, 990, 999, 40, x'0c')`},
	20: {`INSERT INTO link_events VALUES ('GW-1', 1000, 'modem', 'data_budget', 80)`},
	21: {`INSERT INTO claims VALUES (x'c1', 'GW-1', 1, 2), (x'c2', 'GW-1', 2, NULL), (x'c3', 'GW-3', 3, NULL)`},
	31: {`INSERT INTO oddity_counts VALUES ('GW-7', 1, 2)`, `INSERT INTO quotas VALUES ('GW-7', 'new catalogues', 1, 2)`},
	32: {}, // it fills its own table
	30: {`INSERT INTO newest VALUES ('GW-1', 990, 0, x'0000')`},
}

// atVersion is a database at path whose schema is of a version, with the rows of
// all versions up to it.
func atVersion(t *testing.T, path string, version int64) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	up := migrator(t, db)
	for _, m := range up.ListSources() {
		if m.Version > version {
			break
		}
		if _, err := up.UpTo(t.Context(), m.Version); err != nil {
			t.Fatal(err)
		}
		fill(t, db, m.Version)
	}
	return db
}

func migrator(t *testing.T, db *sql.DB) *goose.Provider {
	t.Helper()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fill(t *testing.T, db *sql.DB, version int64) {
	t.Helper()
	for _, statement := range rowsOf[version] {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("version %d: %v\n%s", version, err, statement)
		}
	}
}

// row is a row by column.
type row map[string]any

// ask is what a query finds.
func ask(t *testing.T, db *sql.DB, query string) []row {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	found := []row{}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		r := row{}
		for i, c := range columns {
			r[c] = values[i]
		}
		found = append(found, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// contents is all that a database holds, by table and view: what was a table may
// become a view of others.
func contents(t *testing.T, db *sql.DB) map[string][]row {
	t.Helper()
	// Which ids were given before must not be forgotten either.
	all := map[string][]row{ids: ask(t, db, `SELECT * FROM sqlite_sequence WHERE name NOT LIKE 'goose%'`)}
	for _, r := range ask(t, db, `SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%'`) {
		table := r["name"].(string)
		all[table] = ask(t, db, `SELECT * FROM `+table)
	}
	return all
}

// ids stands for SQLite's own table of the ids that were given last.
const ids = "sqlite_sequence"

// TestNoMigrationLosesARow applies one migration after the other to a database in
// which every table has rows: each row is there afterwards, with all the columns
// that it had.
func TestNoMigrationLosesARow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	db := atVersion(t, path, 0)
	up := migrator(t, db)
	before := map[string][]row{}
	for _, m := range up.ListSources() {
		if _, err := up.UpTo(t.Context(), m.Version); err != nil {
			t.Fatalf("to version %d: %v", m.Version, err)
		}
		after := contents(t, db)
		for table, old := range before {
			if now, there := after[table]; !there {
				t.Errorf("version %d has no table %s any more", m.Version, table)
			} else if table != ids && len(now) < len(old) {
				t.Errorf("version %d: %d of %d rows of %s are left", m.Version, len(now), len(old), table)
			}
			for _, r := range old {
				if !slices.ContainsFunc(after[table], r.within) {
					t.Errorf("version %d: %s lost or changed %v; it has %v", m.Version, table, r, after[table])
				}
			}
		}
		fill(t, db, m.Version)
		before = contents(t, db)
		for _, table := range slices.Sorted(maps.Keys(before)) {
			if len(before[table]) == 0 && table != ids {
				t.Errorf("version %d: no row of %s is migrated; give it some in rowsOf", m.Version, table)
			}
		}
		var problems int
		if err := db.QueryRow(`SELECT count(*) FROM pragma_foreign_key_check`).Scan(&problems); err != nil || problems > 0 {
			t.Errorf("version %d: %d rows refer to nothing, %v", m.Version, problems, err)
		}
	}
}

// within tells whether a row has all that r has; it may have more.
func (r row) within(other row) bool {
	for c, v := range r {
		if !reflect.DeepEqual(other[c], v) {
			return false
		}
	}
	return true
}

// TestARevocationOfAnOldDatabaseStays: version 11 builds the table of revocations
// anew.
func TestARevocationOfAnOldDatabaseStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	old := atVersion(t, path, 10)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	standing := func(gateway, number, reason string) {
		t.Helper()
		err := s.Standing(t.Context(), gateway, number)
		var revoked *store.RevokedError
		switch {
		case reason == "" && err != nil, reason != "" && (!errors.As(err, &revoked) || revoked.Reason != reason):
			t.Errorf("%s with certificate %s: %v, expected %q", gateway, number, err, reason)
		}
	}
	standing("GW-1", "01", "stolen")
	standing("GW-1", "02", "stolen")
	standing("GW-2", "03", "")
	standing("GW-2", "04", "key lost")
	standing("GW-3", "05", "")
	standing("GW-3", "06", "")

	// Ids go on, so that whoever looked up to one of the old misses nothing.
	if err := errors.Join(s.Unrevoke(t.Context(), "GW-1", "found again"), s.Revoke(t.Context(), "GW-1", "stolen again"), s.Revoke(t.Context(), "GW-3", "lost")); err != nil {
		t.Fatal(err)
	}
	standing("GW-1", "01", "stolen again")
	standing("GW-3", "06", "lost")
	all, err := s.Revocations(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, r := range all {
		told = append(told, fmt.Sprintf("%d %s/%s lifted %v", r.ID, r.Gateway, r.Number, !r.Lifted.IsZero()))
	}
	want := []string{"3 GW-2/04 lifted false", "7 GW-1/ lifted true", "9 GW-1/02 lifted false", "10 GW-1/ lifted false", "11 GW-3/ lifted false"}
	if !slices.Equal(told, want) {
		t.Errorf("the revocations are %q, expected %q", told, want)
	}
}
