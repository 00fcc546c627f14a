package store

import (
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"penstock/internal/clock"
)

// TestNoQuestionAboutAGatewayReadsTheOthers: each is answered from an index, in
// both places where records are.
func TestNoQuestionAboutAGatewayReadsTheOthers(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const filed, arrived = "filed USING INDEX records_by_time (gateway=? AND kind=?", "arrivals USING INDEX arrivals_by_time (gateway=? AND kind=?"
	for name, q := range map[string]struct {
		query  string
		expect []string // of the plan
	}{
		"readings of a time":        {blockColumns + blocksOfTime, []string{"MERGE", filed + " AND latest>? AND latest<?)", arrived + " AND latest>? AND latest<?)"}},
		"latest readings":           {blockColumns + newestBlocks, []string{"MERGE", filed, arrived}},
		"all readings":              {blockColumns + `ORDER BY latest`, []string{"MERGE", filed, arrived}},
		"gaps":                      {gapsOfTime, []string{filed + " AND latest>?)", arrived + " AND latest>?)"}},
		"counters":                  {recordCounts, []string{"filed USING PRIMARY KEY (gateway=?)", "arrivals USING INDEX arrivals_by_time (gateway=?)"}},
		"records of a kind":         {recordsOfKind, []string{"filed USING COVERING INDEX", "arrivals USING COVERING INDEX"}},
		"a gateway with its latest": {gatewayColumns + `WHERE g.serial = ?`, []string{"n USING INDEX sqlite_autoindex_newest_1 (gateway=?)"}},
	} {
		plan := plan(t, s, q.query)
		for _, part := range q.expect {
			if !strings.Contains(plan, part) {
				t.Errorf("%s: no %q in\n%s", name, part, plan)
			}
		}
		sorts := strings.Contains(plan, "TEMP B-TREE") && !strings.HasPrefix(name, "gaps") // there are few
		if strings.Contains(plan, "SCAN filed") || strings.Contains(plan, "SCAN arrivals") || sorts {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}

func plan(t *testing.T, s *Store, query string) string {
	t.Helper()
	args := make([]any, 9)
	for i := range args {
		args[i] = i + 1
	}
	rows, err := s.reader.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}

// TestRecordsOfAnEarlierSchemaStayWhereTheyAre: what was stored before there were
// arrivals is filed, and back again when the schema goes back.
func TestRecordsOfAnEarlierSchemaStayWhereTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	db, err := open(path, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		t.Fatal(err)
	}
	const before = 15 // the schema before 0016_arrivals.sql
	if _, err := p.UpTo(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	const insert = `INSERT INTO %s (gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish)
		VALUES ('GW-1', x'01', 2, %d, 1, 1, 0, 0, 0, 7, x'02')`
	if _, err := db.Exec(fmt.Sprintf(insert, "records", 1)); err != nil {
		t.Fatal(err)
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if count("filed") != 1 || count("arrivals") != 0 || count("records") != 1 {
		t.Errorf("%d filed, %d arrived, %d together", count("filed"), count("arrivals"), count("records"))
	}
	if _, err := db.Exec(fmt.Sprintf(insert, "arrivals", 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if count("records") != 2 {
		t.Errorf("%d records after going back; want 2", count("records"))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c, err := s.Counters(t.Context(), "GW-1"); err != nil || c.Records != 2 || c.Readings != 14 {
		t.Errorf("%+v, %v", c, err)
	}
}
