package profile

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"penstock/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the tables in docs/profiles.md")

const guide = "../../docs/profiles.md"

// TestTablesOfTheGuideAreCurrent compares the vocabulary and the list of doubts
// in docs/profiles.md with the program. Rewrite them with
// go test ./fieldbus/profile -update.
func TestTablesOfTheGuideAreCurrent(t *testing.T) {
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceTable(t, string(text), "vocabulary", vocabulary())
	want = replaceTable(t, want, "uncertain", doubts())
	if *update {
		if err := os.WriteFile(guide, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want != string(text) && !*update {
		t.Error("docs/profiles.md is not current; run go test ./fieldbus/profile -update")
	}
}

func replaceTable(t *testing.T, text, name, table string) string {
	t.Helper()
	from := strings.Index(text, "<!-- "+name+":")
	if from < 0 {
		t.Fatalf("no mark %q in the guide", name)
	}
	from += strings.Index(text[from:], "\n") + 1
	to := from + strings.Index(text[from:], "<!-- end -->")
	return text[:from] + table + text[to:]
}

func vocabulary() string {
	var b strings.Builder
	b.WriteString("| word | unit | meaning |\n|---|---|---|\n")
	for _, p := range telemetry.Points {
		unit := p.Unit
		switch p.Kind {
		case telemetry.Code:
			unit = "code"
		case telemetry.Flag:
			unit = "off, on"
		case telemetry.Bits:
			unit = "bits"
		}
		if p.Kind == telemetry.Counter && unit == "1" {
			unit = "count"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Name, unit, p.Meaning)
	}
	return b.String()
}

func doubts() string {
	var b strings.Builder
	b.WriteString("| family | register, or class and item | point | why |\n|---|---|---|---|\n")
	l := Builtin()
	for _, name := range l.Names() {
		p, _ := l.Lookup(name)
		for _, it := range p.Items {
			if it.Uncertain != "" && it.Geni != nil {
				fmt.Fprintf(&b, "| `%s` | %d, %d | `%s` | %s |\n", name, it.Geni.Class, it.Geni.IDs[0], it.Point.Name, it.Uncertain)
			} else if it.Uncertain != "" {
				fmt.Fprintf(&b, "| `%s` | %d | `%s` | %s |\n", name, it.Register, it.Point.Name, it.Uncertain)
			}
		}
		for _, c := range p.Commands {
			if c.Uncertain != "" {
				fmt.Fprintf(&b, "| `%s` | %d | command `%s` | %s |\n", name, c.Register, c.Name, c.Uncertain)
			}
		}
	}
	return b.String()
}
