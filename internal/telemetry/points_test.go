package telemetry

import (
	"math/big"
	"regexp"
	"testing"
)

func TestVocabularyIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Points {
		if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(p.Name) {
			t.Errorf("%q is not a name", p.Name)
		}
		if seen[p.Name] {
			t.Errorf("%s stands twice", p.Name)
		}
		seen[p.Name] = true
		if p.Meaning == "" {
			t.Errorf("%s has no meaning", p.Name)
		}
		if _, ok := units[p.Unit]; !ok {
			t.Errorf("%s is in %q, which no unit converts to", p.Name, p.Unit)
		}
		coded := p.Kind == Code || p.Kind == Flag
		if coded != (p.Enum != "") || coded && enumerations[p.Enum] == nil {
			t.Errorf("%s: kind %d with the enumeration %q", p.Name, p.Kind, p.Enum)
		}
		if p.Kind != Gauge && p.Kind != Counter && p.Unit != "1" {
			t.Errorf("%s: a code with the unit %q", p.Name, p.Unit)
		}
	}
}

func TestWordsWithANumber(t *testing.T) {
	if p, ok := LookupPoint("pump3_speed"); !ok || p.Name != "pump3_speed" || p.Unit != "/min" {
		t.Errorf("pump3_speed: %v %v", p, ok)
	}
	if p, ok := LookupPoint("register0"); !ok || p.Unit != "1" {
		t.Errorf("register0: %v %v", p, ok)
	}
	for _, name := range []string{"register", "register-1", "register007", "register65536", "register1e3", "pump0_speed", "pump9_speed", "pump3speed", "pump3_", "pump33_speed", "pump3_pump3_speed", "speeed", ""} {
		if p, ok := LookupPoint(name); ok {
			t.Errorf("%q was taken for %v", name, p)
		}
	}
}

func TestScalesAreExact(t *testing.T) {
	for _, tc := range []struct {
		step, offset, from, to string
		want                   Scale
	}{
		{"1/100", "0", "K", "Cel", Scale{1, -27315, 100}},
		{"1", "0", "K", "K", Scale{1, 0, 1}},
		{"1/1000", "0", "bar", "m[H2O]", Scale{2000, 0, 196133}},
		{"1/1000", "-1", "bar", "bar", Scale{1, -1000, 1000}},
		{"0.1", "0", "m3/h", "m3/h", Scale{1, 0, 10}},
		{"1", "0", "L/s", "m3/h", Scale{18, 0, 5}},
		{"10", "0", "W", "W", Scale{10, 0, 1}},
		{"1", "0", "MW.h", "kW.h", Scale{1000, 0, 1}},
		{"1", "0", "[degF]", "Cel", Scale{5, -160, 9}},
		{"1", "0", "1", "1", Scale{1, 0, 1}},
		{"1", "0", "[gal_us]/min", "m3/h", Scale{1419529419, 0, 6250000000}},
	} {
		got, err := NewScale(rat(tc.step), rat(tc.offset), tc.from, tc.to)
		if err != nil || got != tc.want {
			t.Errorf("%s %s in %s: got %v, %v; want %v", tc.step, tc.from, tc.to, got, err, tc.want)
		}
	}
	if _, err := NewScale(rat("1"), rat("0"), "bar", "m3/h"); err == nil {
		t.Error("a pressure was taken for a flow")
	}
	if _, err := NewScale(rat("1"), rat("0"), "furlong", "m"); err == nil {
		t.Error("a furlong was taken for something")
	}
}

func TestRawIsTheInverseOfValue(t *testing.T) {
	for _, s := range []Scale{Unit, {1, -27315, 100}, {2000, 0, 196133}, {10, 0, 1}, {-1, 3, 7}} {
		for _, raw := range []int64{-70000, -1, 0, 1, 3210, 65535, 1 << 40} {
			if got, exact := s.Raw(s.Exact(raw)); !exact || got.Int64() != raw {
				t.Errorf("%v: %d came back as %v, exact %v", s, raw, got, exact)
			}
		}
	}
	if got, exact := (Scale{1, 0, 10}).Raw(rat("1.26")); exact || got.Cmp(big.NewInt(13)) != 0 {
		t.Errorf("1.26 in steps of 0.1 became %v, exact %v", got, exact)
	}
}
