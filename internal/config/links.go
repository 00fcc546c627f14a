package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// Link is one way to the cloud. Without any the gateway goes where the machine
// routes.
type Link struct {
	Name         string
	Device       string // e.g. eth0
	PointToPoint bool   // such as ppp0: needs no default route
	Metered      bool
	Budget       int64 // bytes in a month, 0 for no limit
	NameServers  []netip.Addr
}

// link reads one link; links stand in order of preference.
func (r *reader) link(c *Config) func(n ast.Node, path string) {
	return func(n ast.Node, path string) {
		l := Link{}
		r.mapping(n, path, map[string]field{
			"name":           r.text(&l.Name, regexp.MustCompile(`^[a-z0-9-]{1,16}$`), "1 to 16 of a-z, 0-9 and -"),
			"device":         r.text(&l.Device, regexp.MustCompile(`^[^/\s]{1,15}$`), "a network device, such as eth0"),
			"point_to_point": r.yesNo(&l.PointToPoint),
			"metered":        r.yesNo(&l.Metered),
			"budget":         r.size(&l.Budget, 1<<20, 1<<40),
			"dns": r.list(func(n ast.Node, path string) {
				const allowed = "the address of a name server, such as 192.0.2.1; not of this machine"
				s, ok := r.scalar(n, path, allowed)
				if !ok {
					return
				}
				a, err := netip.ParseAddr(s)
				if err != nil || a.IsLoopback() || a.IsUnspecified() {
					r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
					return
				}
				l.NameServers = append(l.NameServers, a)
			}),
		}, "device")
		if l.Name == "" {
			l.Name = l.Device
		}
		for _, other := range c.Links {
			if l.Name == other.Name {
				r.fail(n, path+".name", "%q is taken by another link; names are unique", l.Name)
			}
			if l.Device == other.Device {
				r.fail(n, path+".device", "%s is taken by link %s; a device is one link", l.Device, other.Name)
			}
		}
		c.Links = append(c.Links, l)
	}
}

func (r *reader) yesNo(dst *bool) field {
	return func(n ast.Node, path string) {
		const allowed = "true or false"
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		v, err := strconv.ParseBool(s)
		if err != nil || fmt.Sprint(v) != s {
			r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
			return
		}
		*dst = v
	}
}
