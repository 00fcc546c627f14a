package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Link is one way out. Its methods may be called from any goroutine.
type Link interface {
	// Name is what people call it: "ethernet", "modem".
	Name() string
	// Dial opens a TCP connection over this link and no other, its name looked up
	// over this link, too.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Ready is nil when the link could carry something: the device is there and
	// has carrier. It costs nothing and asks nobody.
	Ready() error
	// Traits say what the link is like.
	Traits() Traits
	// Bytes are the bytes that went over it, both ways. They may begin anew at 0.
	Bytes() (uint64, error)
	// Problems are what an installer has to see to, such as a route that is not
	// there.
	Problems() []string
}

// Traits are what a link is like.
type Traits struct {
	Metered   bool          // each byte is paid for
	KeepAlive time.Duration // how long a session over it may be idle; 0: the session's default
	Budget    int64         // bytes in a month, 0 for no limit
}

// Keepalives: a dead ethernet session is noticed within 20 s;
// on a metered link telemetry is the keepalive, and only an idle session pings.
const meteredKeepAlive = 240 * time.Second

// DeviceConfig describes a network device as a link.
type DeviceConfig struct {
	Name         string
	Device       string // "eth0"; "": whatever the machine routes
	Metered      bool
	PointToPoint bool         // it needs no default route
	First        bool         // it is the most preferred of several
	NameServers  []netip.Addr // none: those of its lease
	Budget       int64        // bytes in a month, 0 for no limit
}

// Device is a Link by a network device of the machine.
type Device struct {
	cfg      DeviceConfig
	resolver *net.Resolver // nil: the machine's
	own      atomic.Uint64 // bytes of our connections, where no device is named
	flags    func(device string) (net.Flags, error)
	proc     string // /proc, but for tests
}

var _ Link = (*Device)(nil)

// NewDevice makes a link of a device. The device need not be there yet.
func NewDevice(cfg DeviceConfig) *Device {
	d := &Device{cfg: cfg, flags: flagsOf, proc: "/proc"}
	if cfg.Device != "" {
		d.resolver = resolver(cfg.Device, func() ([]netip.Addr, error) {
			if len(cfg.NameServers) > 0 {
				return cfg.NameServers, nil
			}
			return leaseServers(cfg.Device)
		})
	}
	return d
}

func (d *Device) Name() string { return d.cfg.Name }

func (d *Device) Traits() Traits {
	t := Traits{Metered: d.cfg.Metered, Budget: d.cfg.Budget}
	if t.Metered {
		t.KeepAlive = meteredKeepAlive
	}
	return t
}

func (d *Device) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := dialer(d.cfg.Device)
	dial.Resolver = d.resolver
	c, err := dial.DialContext(ctx, network, address)
	var lookup *net.DNSError
	if errors.As(err, &lookup) && d.resolver != nil {
		lookup.Server = "the name servers of " + d.cfg.Device // it names the machine's, which were not asked
	}
	if err != nil {
		return nil, explain(err)
	}
	if d.cfg.Device != "" {
		return c, nil
	}
	return &counted{c, &d.own}, nil
}

// explain says why a name of the multicast kind is not found.
func explain(err error) error {
	var lookup *net.DNSError
	if errors.As(err, &lookup) && strings.HasSuffix(strings.ToLower(strings.TrimSuffix(lookup.Name, ".")), ".local") {
		return fmt.Errorf("%w; names in .local are looked up at name servers only, which seldom know them: use the address, or a name that the network's DNS knows", err)
	}
	return err
}

// counted counts what the kernel does not count for us alone.
type counted struct {
	net.Conn
	n *atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(uint64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n.Add(uint64(n))
	return n, err
}

func (d *Device) Ready() error {
	if d.cfg.Device == "" {
		return nil
	}
	flags, err := d.flags(d.cfg.Device)
	switch {
	case err != nil:
		return fmt.Errorf("there is no device %s", d.cfg.Device)
	case flags&net.FlagUp == 0:
		return fmt.Errorf("%s is not up", d.cfg.Device)
	case flags&net.FlagRunning == 0:
		return fmt.Errorf("%s has no carrier; is the cable in?", d.cfg.Device)
	}
	return nil
}

func flagsOf(device string) (net.Flags, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0, err
	}
	return i.Flags, nil
}

// Bytes reads /proc/net/dev, which shows the devices that this process can use;
// /sys may show those of another network namespace.
func (d *Device) Bytes() (uint64, error) {
	if d.cfg.Device == "" {
		return d.own.Load(), nil
	}
	f, err := os.Open(filepath.Join(d.proc, "net/dev"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		counters, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), d.cfg.Device+":")
		if !ok {
			continue
		}
		const received, sent = 0, 8 // columns
		w := strings.Fields(counters)
		if len(w) <= sent {
			return 0, fmt.Errorf("/proc/net/dev has %d counters of %s", len(w), d.cfg.Device)
		}
		var sum uint64
		for _, column := range []int{received, sent} {
			n, err := strconv.ParseUint(w[column], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/net/dev: %s: %w", d.cfg.Device, err)
			}
			sum += n
		}
		return sum, nil
	}
	return 0, fmt.Errorf("there is no device %s", d.cfg.Device)
}

// Problems looks at what the kernel needs to carry this link's packets.
func (d *Device) Problems() (problems []string) {
	if d.cfg.Device == "" || d.Ready() != nil {
		return nil
	}
	own, found, err := d.defaultRoute(d.cfg.Device)
	switch {
	case err != nil:
		problems = append(problems, "the routes cannot be read: "+err.Error())
	case !found && !d.cfg.PointToPoint:
		problems = append(problems, fmt.Sprintf("no default route leads over %s; the kernel sends nothing there", d.cfg.Device))
	case found && !d.cfg.First:
		if best, _, err := d.defaultRoute(""); err == nil && best == own {
			problems = append(problems, fmt.Sprintf("the default route over %s (metric %d) is the machine's first; give it a higher metric than the preferred link's", d.cfg.Device, own.metric))
		}
	}
	for _, dev := range []string{"all", d.cfg.Device} {
		file := filepath.Join("sys/net/ipv4/conf", dev, "rp_filter")
		if b, err := os.ReadFile(filepath.Join(d.proc, file)); err == nil && strings.TrimSpace(string(b)) == "1" {
			problems = append(problems, fmt.Sprintf("%s is 1, so the kernel drops answers that come in on %s while another device has the better route; set it to 2", file, d.cfg.Device))
		}
	}
	return problems
}
