package bench

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"penstock/internal/lab/trace"
)

// TestPackedColumnsPayOnTheCommittedTrace: what docs/decisions/0050 says of it.
func TestPackedColumnsPayOnTheCommittedTrace(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "..", "..", trace.File))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hour, err := trace.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, period := range wirePeriods {
		coded, err := codings(hour, period)
		if err != nil {
			t.Fatal(err)
		}
		n := float64(hour.Count())
		t.Logf("%v: packed %.3f, deflated %.3f, plain %.3f bytes a reading", period, float64(coded["packed"])/n, float64(coded["deflated"])/n, float64(coded["plain"])/n)
		if period >= time.Minute && (coded["packed"] >= coded["deflated"] || coded["deflated"] >= coded["plain"]) {
			t.Errorf("%v: %v", period, coded)
		}
	}
}
