package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestASiteBringsItsOwnFamilies: a file adds a family or takes the place of one of
// ours; a mistake in it is told with file, line and key, and nothing is used.
func TestASiteBringsItsOwnFamilies(t *testing.T) {
	if l, err := Families(filepath.Join(t.TempDir(), "none")); err != nil || len(l.Names()) == 0 {
		t.Fatalf("without a folder: %v", err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const own = `title: A pump of this site
source: its data sheet
numbering: 1
blocks:
  - {name: all, registers: 1-10}
points:
  - {point: speed, register: 3, scale: 1 /min}
`
	write("site-pump.yaml", own)
	write("cim-epump.yaml", own)
	l, err := Families(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"site-pump", "cim-epump"} {
		if p, err := findProfile(l, name); err != nil || p.Title != "A pump of this site" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := findProfile(l, "nobody"); err == nil || !strings.Contains(err.Error(), "site-pump") {
		t.Errorf("the families that there are are not named: %v", err)
	}
	write("site-pump.yaml", strings.Replace(own, "register: 3", "register: 33", 1))
	if _, err := Families(dir); err == nil || !strings.Contains(err.Error(), "site-pump.yaml:7") || !strings.Contains(err.Error(), "points[0]") {
		t.Errorf("a register outside of every block: %v", err)
	}
}
