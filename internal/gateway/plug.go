package gateway

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/discover"
	"penstock/fieldbus/poll"
	"penstock/internal/config"
	"penstock/internal/disk"
)

// ErrFound: pumps were found on a line that nobody has described, and are kept.
// Start the gateway again, in this process: it polls them.
var ErrFound = errors.New("pumps were found")

// adapters are the serial ports that a gateway without a configuration looks at:
// those that somebody has plugged in. A port that is soldered in may be a
// console or a modem, and has to be named.
const adapters = "/dev/ttyUSB*"

// How long a search that found nobody rests: it starts with the first, and
// doubles.
const (
	restFirst = 30 * time.Second
	restMost  = 10 * time.Minute
)

// plug is the search for pumps on lines that the configuration does not describe.
type plug struct {
	kept  *discover.Kept // owned by the search's goroutine once that runs
	ports []string       // that the configuration names without saying what is on them
	// auto tells that nothing is configured, so that adapters are searched, but for
	// those that are polled already.
	auto   bool
	polled []string // those of which the adapter is not known
	// adapters are those of the buses, by bus name; found is what a search has found
	// at an address, by standingKey.
	adapters map[string]string
	found    map[string]poll.Identity

	mu    sync.Mutex
	doing string // guarded by mu: what the search is at, "" when there is none
}

// furnish adds to the configuration what was found before, and notes which lines
// are still to be searched: Modbus buses without pumps, and, where no bus is
// configured, every adapter.
func (g *Gateway) furnish() {
	kept, err := discover.Load(disk.OS, filepath.Join(g.opts.State, "state", "pumps.json"))
	if err != nil {
		g.log.Warn("what was found before cannot be used; searching again", "err", err)
	}
	where := func(adapter string) string { return portOf(sysfs, adapters, adapter) }
	if err := kept.Adopt(func(port string) string { return adapterOf(sysfs, port) }, where); err != nil {
		g.log.Warn("the adapters of the lines cannot be kept", "err", err)
	}
	g.plug.kept, g.plug.adapters, g.plug.found = kept, map[string]string{}, map[string]poll.Identity{}
	buses := slices.Clone(g.opts.Config.Buses)
	if g.plug.auto = len(buses) == 0; g.plug.auto {
		// The adapter may be away at the moment; the bus's name stays its.
		for i, l := range kept.Lines() {
			buses = append(buses, config.Bus{Name: fmt.Sprintf("bus%d", i+1), Port: l.Port, Protocol: "modbus"})
		}
	}
	var described []config.Bus
	for i, b := range buses {
		if len(b.Pumps) == 0 && b.Protocol == "modbus" {
			line, ok := kept.Line(b.Port, adapterOf(sysfs, b.Port))
			if g.plug.auto { // the bus is one of the lines, wherever its adapter is
				line, ok = kept.Lines()[i], true
			}
			if !ok || !fill(&b, line) {
				g.plug.ports = append(g.plug.ports, b.Port)
				continue
			}
			if g.plug.auto && line.Adapter != "" {
				g.plug.adapters[b.Name] = line.Adapter
			}
			for _, d := range line.Devices {
				g.plug.found[standingKey(g.plug.adapters[b.Name], b.Port, d.Address)] = poll.Identity{Family: d.Family, Type: d.Type, Version: d.Version}
			}
		}
		described = append(described, b)
		if g.plug.adapters[b.Name] == "" {
			g.plug.polled = append(g.plug.polled, b.Port)
		}
	}
	g.opts.Config.Buses = described
}

// lines are the ports to search now.
func (p *plug) lines() []string {
	if !p.auto {
		return p.ports
	}
	plugged, _ := filepath.Glob(adapters) // its one error is a bad pattern
	return slices.DeleteFunc(plugged, func(port string) bool {
		if isModem(sysfs, port) {
			return true
		}
		adapter := adapterOf(sysfs, port)
		for _, a := range p.adapters {
			if a != "" && a == adapter {
				return true
			}
		}
		return slices.Contains(p.polled, port)
	})
}

// fill describes a bus by what was found on its line. It tells whether anything
// there can be polled.
func fill(b *config.Bus, line discover.Line) bool {
	b.Speed, b.StopBits = line.Mode.Baud, line.Mode.StopBits
	b.Parity = map[fieldbus.Parity]string{fieldbus.NoParity: "none", fieldbus.EvenParity: "even", fieldbus.OddParity: "odd"}[line.Mode.Parity]
	for _, d := range line.Devices {
		if d.Profile != "" {
			b.Pumps = append(b.Pumps, config.Pump{Address: d.Address, Profile: d.Profile,
				ReplyDelay: time.Duration(d.ReplyDelay) * time.Millisecond})
		}
	}
	return len(b.Pumps) > 0
}

// search looks for pumps, again and again, until it has found some on any of its
// lines; then it is done, and returns true.
func (g *Gateway) search(ctx context.Context) bool {
	defer g.plug.say("")
	for rest := restFirst; g.plug.auto || len(g.plug.ports) > 0; rest = min(2*rest, restMost) {
		found, ports := false, g.plug.lines()
		for _, port := range ports {
			if g.searchLine(ctx, port) {
				found = true
			}
			if ctx.Err() != nil {
				return false
			}
		}
		if found {
			return true
		}
		switch {
		case len(ports) > 0:
			g.plug.say(fmt.Sprintf("nobody was found on %s; trying again in %v", strings.Join(ports, ", "), rest))
		case len(g.plug.polled)+len(g.plug.adapters) == 0:
			g.plug.say("no bus is configured, and no adapter is plugged in (" + adapters + ")")
			rest = restFirst / 2 // until the next look; nothing is asked
		default:
			g.plug.say("")
		}
		if g.clock.Sleep(ctx, rest) != nil {
			return false
		}
	}
	<-ctx.Done()
	return false
}

// searchLine searches one line and keeps what it found. It tells whether that can
// be polled.
func (g *Gateway) searchLine(ctx context.Context, port string) bool {
	log := g.log.With("part", "discovery", "port", port)
	log.Info("looking for pumps; listening first")
	line := fieldbus.NewLine(port, discover.Modes[0], fieldbus.OpenSerial, g.clock)
	defer line.Close()
	r, err := discover.Run(ctx, discover.Config{Line: line, Library: g.opts.Families, Progress: func(p discover.Progress) {
		what := fmt.Sprintf("asking for pumps on %s at %s", port, p.Mode)
		if p.Listening {
			what = "listening on " + port + " before asking for pumps"
		}
		g.plug.say(what)
	}})
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		log.Warn("the search has stopped", "err", err)
		return false
	}
	usable := false
	for _, d := range r.Devices {
		if d.Profile == "" {
			log.Warn("a device answers that no family fits; name its family in the configuration", "address", d.Address, "mode", d.Mode.String())
			continue
		}
		log.Info("a pump was found", "address", d.Address, "mode", d.Mode.String(), "family", d.Profile)
		usable = true
	}
	if len(r.Devices) == 0 {
		log.Warn("nobody was found", "because", r.Trouble.Text())
	}
	if !usable {
		return false
	}
	if _, err := g.plug.kept.Keep(port, adapterOf(sysfs, port), r.Devices, g.time.Now()); err != nil {
		log.Error("what was found cannot be kept", "err", err)
		return false
	}
	return true
}

func (p *plug) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing = what
}

func (p *plug) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doing
}
