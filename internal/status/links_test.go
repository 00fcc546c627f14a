package status_test

import (
	"strings"
	"testing"
	"time"

	"penstock/internal/status"
)

func TestLinksAreShownWithWhatTheyUseAndNeed(t *testing.T) {
	s := snapshot()
	s.Links = []status.Link{
		{Name: "ethernet", Since: s.Time.Add(-5 * time.Minute), Problem: "eth0 has no carrier; is the cable in?", Month: "2026-11", Bytes: 5 << 20},
		{Name: "modem", Current: true, OK: true, Metered: true, Since: s.Time.Add(-time.Hour), Month: "2026-11", Bytes: 85 << 20, Budget: 100 << 20,
			Advice: []string{"85 MB of the 100 MB for 2026-11 are used"}},
	}
	var b strings.Builder
	if err := status.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ethernet: down for 5 min: eth0 has no carrier; is the cable in?; 5120 kB in 2026-11",
		"modem: ok for 1 h 0 min, in use; 85 MB of 100 MB in 2026-11",
		"85 MB of the 100 MB for 2026-11 are used",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, &b)
		}
	}
}
