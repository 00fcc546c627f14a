package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// askTime bounds a question to one name server.
const askTime = 3 * time.Second

// resolver looks names up at a device's name servers, over that device. Each
// question goes to the next of them, so that one that hangs costs its turn.
func resolver(device string, servers func() ([]netip.Addr, error)) *net.Resolver {
	var turn atomic.Uint32
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			all, err := servers()
			if err != nil {
				return nil, err
			}
			// A and AAAA are asked for together, of the same server.
			server := all[int((turn.Add(1)-1)/2)%len(all)]
			d := dialer(device)
			d.Timeout = askTime
			conn, err := d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
			if udp, ok := conn.(*net.UDPConn); ok {
				return &impatient{udp}, err
			}
			return conn, err
		},
	}
}

// impatient shortens the time that the resolver waits for an answer.
type impatient struct{ *net.UDPConn }

func (c *impatient) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		t = t.Add(askTime - resolverTime)
	}
	return c.UDPConn.SetDeadline(t)
}

// resolverTime is what Go's resolver grants a question by default.
const resolverTime = 5 * time.Second

// leases are the files in which the usual DHCP clients and pppd leave a device's
// name servers; %s is the device, %d its index.
var leases = []string{
	"/run/penstock/resolv.%s",
	"/run/systemd/netif/leases/%d",
	"/run/dhcpcd/resolv.conf/%s.dhcp",
	"/run/resolvconf/interfaces/%s.dhclient",
	"/run/resolvconf/interface/%s.dhclient",
	"/run/resolvconf/interface/%s.udhcpc",
}

// leaseServers finds a device's name servers. What the machine as a whole uses
// (/etc/resolv.conf) is the last resort, without a stub on 127/8: the stub asks
// over the route that it likes.
func leaseServers(device string) ([]netip.Addr, error) {
	var index int
	if i, err := net.InterfaceByName(device); err == nil {
		index = i.Index
	}
	files := []string{}
	for _, l := range leases {
		if strings.Contains(l, "%d") {
			files = append(files, fmt.Sprintf(l, index))
		} else {
			files = append(files, fmt.Sprintf(l, device))
		}
	}
	if strings.HasPrefix(device, "ppp") {
		files = append(files, "/etc/ppp/resolv.conf")
	}
	for _, file := range append(files, "/etc/resolv.conf") {
		servers, err := readServers(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(servers) > 0 {
			return servers, nil
		}
	}
	return nil, fmt.Errorf("no name server is known for %s: its lease names none; name one as dns in the configuration", device)
}

// readServers reads "nameserver ADDRESS" lines, and the DNS= line of a lease of
// systemd-networkd.
func readServers(file string) (servers []netip.Addr, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := s.Text()
		var words []string
		if list, ok := strings.CutPrefix(line, "DNS="); ok {
			words = strings.Fields(list)
		} else if w := strings.Fields(line); len(w) >= 2 && w[0] == "nameserver" {
			words = w[1:2]
		}
		for _, w := range words {
			if a, err := netip.ParseAddr(w); err == nil && !a.IsLoopback() && !slices.Contains(servers, a) {
				servers = append(servers, a)
			}
		}
	}
	return servers, s.Err()
}
