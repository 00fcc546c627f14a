package store

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

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
		"a gateway with its latest": {gatewayColumns + `WHERE g.serial = ?`, []string{"COVERING INDEX records_by_time", "COVERING INDEX arrivals_by_time"}},
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
