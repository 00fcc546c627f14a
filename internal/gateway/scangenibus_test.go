package gateway

import (
	"strings"
	"testing"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/profile"
)

func TestAScanSaysWhatAUnitIsAndHowThatIsKnown(t *testing.T) {
	for _, tc := range []struct {
		id      genibus.Identity
		verbose bool
		want    []string
		not     string
	}{
		{genibus.Identity{Address: 32, Family: 1, Type: 10, Version: 2, Name: "MAGNA3", Serial: "123"}, false,
			[]string{" 32  family 1, type 10, version 2 (geni-magna3: MAGNA3 circulator) \"MAGNA3\" \"123\""}, "class 2"},
		{genibus.Identity{Address: 40, Family: 7, Type: 1, Buffer: 70}, true,
			[]string{"geni-mp204", "buffer 70 bytes", "class 2, item 65  A: from the maker's document", "command reset_alarm"}, "uncertain"},
		{genibus.Identity{Address: 41, Family: 1, Type: 10}, true, []string{"C: from a third party", "uncertain: OpenEMS"}, "B:"},
		{genibus.Identity{Address: 42, Family: 99, Type: 3}, false, []string{"family 99, type 3", "no family of ours; geni-generic"}, "class 2"},
	} {
		var b strings.Builder
		showUnit(&b, profile.Builtin(), tc.id, tc.verbose)
		for _, want := range tc.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in:\n%s", want, &b)
			}
		}
		if strings.Contains(b.String(), tc.not) {
			t.Errorf("%q is in:\n%s", tc.not, &b)
		}
	}
}
