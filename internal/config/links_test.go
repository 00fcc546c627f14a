package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestLinksStandInOrderOfPreference(t *testing.T) {
	c, err := Parse("c.yaml", []byte(`
links:
  - device: eth0
  - {name: modem, device: ppp0, point_to_point: true, metered: true, budget: 100MB, dns: [192.0.2.1, "2001:db8::1"]}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Link{{Name: "eth0", Device: "eth0"}, {Name: "modem", Device: "ppp0", PointToPoint: true, Metered: true, Budget: 100 << 20,
		NameServers: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}}
	if !reflect.DeepEqual(c.Links, want) {
		t.Errorf("%+v", c.Links)
	}
}

func TestMistakesInLinksAreSaid(t *testing.T) {
	for text, want := range map[string]string{
		"links:\n  - {name: a}\n":                                      "links[0].device: this key is required",
		"links:\n  - {device: eth0}\n  - {name: b, device: eth0}\n":    "eth0 is taken by link eth0",
		"links:\n  - {device: eth0}\n  - {name: eth0, device: eth1}\n": `"eth0" is taken by another link`,
		"links:\n  - {device: eth0, metered: yes please}\n":            "allowed: true or false",
		"links:\n  - {device: eth0, dns: [127.0.0.53]}\n":              "not of this machine",
		"links:\n  - {device: eth0, dns: [dns.example.com]}\n":         `links[0].dns[0]: "dns.example.com" is not allowed`,
		"links:\n  - {device: eth0, budget: lots}\n":                   "a size",
		"links:\n  - {device: a/b}\n":                                  "a network device",
		"links:\n  - {device: eth0, speed: 100}\n":                     "unknown key",
	} {
		if _, err := Parse("c.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
