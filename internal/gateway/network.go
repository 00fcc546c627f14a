package gateway

import (
	"context"
	"crypto/tls"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"penstock/internal/disk"
	"penstock/internal/status"
	"penstock/uplink/link"
)

// PowerUpSpread is the time over which gateways whose power came back together
// connect again: ten thousand make some 170 handshakes a second, and no alarm is
// later by more than this.
const PowerUpSpread = time.Minute

// justPowered bounds the age of a boot after which the power may have come back
// for a whole fleet. A process that was merely started again harms nobody.
const justPowered = 3 * time.Minute

// spread is how far the first connection is put off at most. A gateway that was
// never connected has an installer waiting in front of it.
func (g *Gateway) spread() time.Duration {
	if _, err := os.Stat(filepath.Join(g.opts.State, "state", "assignment.json")); err != nil {
		return 0
	}
	if up, err := uptime(); err != nil || up > justPowered {
		return 0
	}
	return PowerUpSpread
}

// uptime is how long ago the machine was booted.
func uptime() (time.Duration, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	return time.Duration(info.Uptime) * time.Second, nil
}

// metered tells whether what is sent now is paid for by the byte.
func (g *Gateway) metered() bool {
	for _, l := range g.links.Status() {
		if l.Current {
			return l.Metered
		}
	}
	return false
}

// openLinks makes the links of the configuration; without any, the gateway goes
// where the machine routes.
func (g *Gateway) openLinks() (err error) {
	var links []link.Link
	for i, l := range g.opts.Config.Links {
		links = append(links, link.NewDevice(link.DeviceConfig{Name: l.Name, Device: l.Device, Metered: l.Metered,
			PointToPoint: l.PointToPoint, First: i == 0, NameServers: l.NameServers, Budget: l.Budget}))
	}
	if len(links) == 0 {
		links = []link.Link{link.NewDevice(link.DeviceConfig{Name: "network"})}
	}
	dir := filepath.Join(g.opts.State, "state")
	if err := disk.MkdirAll(disk.OS, dir, 0o700); err != nil {
		return err
	}
	g.links, err = link.NewGroup(link.Config{Links: links, Probe: g.probe, Warn: g.warn, FS: disk.OS, Dir: dir,
		Clock: g.clock, Date: g.date, Rand: mathrand.Float64, Log: g.log.With("part", "links")})
	return err
}

// probe makes one TLS handshake over a link, with the endpoint or, before there is
// one, with the auth service.
func (g *Gateway) probe(ctx context.Context, l link.Link) error {
	address := g.session.Status().Endpoint
	if address == "" {
		u, err := url.Parse(g.identity.AuthURL())
		if err != nil {
			return err
		}
		if address = u.Host; u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	raw, err := l.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return err
		}
	}
	config := g.enrolled.ClientTLS(host)
	if _, err := g.enrolled.Certificate(); err != nil { // the auth service takes the factory identity, too
		config = g.identity.ClientTLS(host)
	}
	conn := tls.Client(raw, config)
	return conn.HandshakeContext(ctx)
}

// linkStatus is the links in everybody's words.
func linkStatus(all []link.Status) []status.Link {
	var links []status.Link
	for _, l := range all {
		links = append(links, status.Link{Name: l.Name, Current: l.Current, OK: l.Up, Since: l.Since, Problem: l.Problem,
			Advice: l.Advice, Month: l.Month, Bytes: l.Bytes, Budget: l.Budget, Metered: l.Metered})
	}
	return links
}

// warn tells the cloud of a link's budget. Events are dated by the uptime.
func (g *Gateway) warn(w link.Warning) error {
	w.Time = g.steady.Now()
	return g.herald.warn(w)
}

// date is the time of day by what our own service has signed, zero before it has.
func (g *Gateway) date() time.Time {
	booted, _, sure := g.time.Booted()
	if !sure {
		return time.Time{}
	}
	return booted.Add(g.clock.Uptime())
}
