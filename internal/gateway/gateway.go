// Package gateway wires the firmware: it is the story of a reading from the
// serial line to the endpoint, told once.
//
// The buses poll the pumps and hand each reading to the recorder. The recorder
// seals a block every reporting period (every second while somebody looks) and
// appends it to the queue, on disk; an alarm goes there at once. The session
// publishes what the queue holds and moves its cursor when the endpoint has stored
// it. What comes down, a command above all, is carried out on the bus of its pump,
// and its result goes the way of an alarm. Nothing here decides how any of that is done; that is the
// business of fieldbus, uplink and certs, which do not know one another.
//
// The gateway opens connections and accepts none: its only door is the Unix
// socket of internal/local.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/certs/operational"
	"penstock/certs/trust"
	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/config"
	"penstock/internal/disk"
	"penstock/internal/local"
	"penstock/internal/status"
	"penstock/internal/telemetry"
	"penstock/uplink"
	"penstock/uplink/command"
	"penstock/uplink/link"
	"penstock/uplink/queue"
	"penstock/uplink/stamp"
	"penstock/uplink/wire"
)

// drainTime bounds how long a stopping gateway waits for its last records to be
// acknowledged. What is not, waits on disk for the next start.
const drainTime = 5 * time.Second

// Options are what the command line decides.
type Options struct {
	State    string // folder of what must survive
	Config   config.Config
	Families *profile.Library // that the configuration chose from
	Version  string
	Log      *slog.Logger
	Machine  clock.Machine // nil: clock.System
}

// Gateway is a running firmware.
type Gateway struct {
	opts      Options
	clock     clock.Machine
	steady    clock.Clock // the machine's uptime, by which pumps are read
	log       *slog.Logger
	started   time.Time
	time      *timekeeper
	keys      *keys.Choice
	identity  *certs.Identity // of the factory
	enrolled  *operational.Identity
	trust     *trust.Keeper
	queue     *stamp.Queue
	buses     []*poll.Bus
	offsets   []int // of each bus's first group in the catalogue
	paces     *paces
	standings *standings
	pumpKeys  []map[int]string // of each bus's pumps in paces, by address
	recorder  *recorder
	rescaling sync.Mutex // one bus at a time puts its scales into force
	herald    *herald
	commands  *command.Executor
	links     *link.Group
	session   *uplink.Session
	plug      plug
}

// New builds a gateway from its state folder and configuration. It opens no
// port and no connection yet. Run closes what it opened.
func New(o Options) (*Gateway, error) {
	g := &Gateway{opts: o, clock: o.Machine, log: o.Log, keys: keysOf(o.State, "")}
	if g.clock == nil {
		g.clock = clock.System
	}
	g.steady = clock.SinceBoot(g.clock)
	g.started = g.steady.Now()
	err := g.openTime()
	if err != nil {
		return nil, err
	}
	if g.identity, err = certs.Load(disk.OS, filepath.Join(o.State, "identity"), g.keys, g.time.Now); err != nil {
		return nil, err
	}
	g.furnish()
	g.standings = openStandings(disk.OS, filepath.Join(o.State, "state"), o.Log)
	g.paces = openPaces(disk.OS, filepath.Join(o.State, "state"), o.Log)
	catalogue, err := g.makeBuses()
	if err != nil {
		return nil, err
	}
	if err := g.openQueue(); err != nil {
		return nil, err
	}
	if err := g.openCommands(); err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	g.herald = newHerald(g.queue, catalogue.Meaning(), g.steady, g.log)
	g.recorder = newRecorder(g.queue, catalogue, o.Config.ReportEvery, g.settled, g.steady, g.log)
	if err := g.openLinks(); err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	g.openTrust()
	if err := g.openEnrolled(); err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	g.session, err = uplink.NewSession(uplink.Config{
		Serial:  g.identity.Serial(),
		AuthURL: g.identity.AuthURL(),
		Queue:   g.queue,
		TLS:     g.enrolled.SessionTLS,
		Outcome: g.enrolled.Outcome,
		FS:      disk.OS,
		Dir:     filepath.Join(o.State, "state"),
		State:   g.state,
		Down:    g.down,
		Links:   g.links,
		Spread:  g.spread(),
		Failed:  g.trust.Doubt,
		Clock:   g.clock,
		Rand:    mathrand.Float64,
		Log:     g.log.With("part", "uplink"),
	})
	if err != nil {
		return nil, errors.Join(err, g.queue.Close())
	}
	return g, nil
}

// makeBuses builds the buses and the catalogue of all that they read.
func (g *Gateway) makeBuses() (*wire.Catalogue, error) {
	for _, b := range g.opts.Config.Buses {
		m, err := mode(b.Speed, b.Parity, b.StopBits)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Name, err)
		}
		cfg := poll.Config{Name: b.Name, Port: b.Port, Mode: m, Protocol: profile.Protocol(b.Protocol)}
		keys := map[int]string{}
		for _, p := range b.Pumps {
			family, err := findProfile(g.opts.Families, p.Profile)
			if err != nil {
				return nil, err
			}
			id := standingKey(g.plug.adapters[b.Name], b.Port, p.Address)
			device := poll.Device{Name: p.Name, Address: p.Address, Profile: family, ReplyDelay: p.ReplyDelay, Pause: p.Pause}
			keys[p.Address] = pumpKey(b.Port, device)
			device.Standing = g.standings.of(id, g.plug.found[id])
			device.Learned = g.paces.of(keys[p.Address])
			cfg.Devices = append(cfg.Devices, device)
		}
		g.pumpKeys = append(g.pumpKeys, keys)
		bus, err := poll.NewBus(cfg, poll.Deps{
			Clock: g.steady, Log: g.log.With("bus", b.Name), Rescaled: g.rescaled,
			Open: openAdapter(sysfs, adapters, g.plug.adapters[b.Name]),
			Identified: func(address int, pump string, s poll.Standing) {
				g.standings.keep(standingKey(g.plug.adapters[b.Name], b.Port, address), s)
				g.herald.exchanged(pump, s)
			},
			Family: func(id poll.Identity) string { return fittingFamily(g.opts.Families, profile.Protocol(b.Protocol), id) },
		})
		if err != nil {
			return nil, err
		}
		before := 0
		if n := len(g.buses); n > 0 {
			before = g.offsets[n-1] + len(g.buses[n-1].Groups())
		}
		g.offsets = append(g.offsets, before)
		g.buses = append(g.buses, bus)
	}
	return g.catalogue()
}

// fittingFamily names the family that fits a device; "" where none does.
func fittingFamily(l *profile.Library, protocol profile.Protocol, id poll.Identity) string {
	if p, ok := l.Choose(protocol, id.Family, id.Type, id.Version); ok {
		return p.Name
	}
	return ""
}

// catalogue says what the buses read, as they know it now.
func (g *Gateway) catalogue() (*wire.Catalogue, error) {
	var c telemetry.Catalogue
	for _, bus := range g.buses {
		c.Pumps = append(c.Pumps, bus.Pumps()...)
		c.Groups = append(c.Groups, bus.Groups()...)
	}
	return wire.NewCatalogue(c)
}

// rescaled puts scales into force that a pump has told of itself. A bus calls it
// between two readings.
func (g *Gateway) rescaled() {
	g.rescaling.Lock()
	defer g.rescaling.Unlock()
	c, err := g.catalogue()
	if err != nil {
		g.log.Error("the pumps' new scales cannot be told to the cloud", "err", err)
		return
	}
	g.recorder.turn(c)
	g.herald.learn(c.Meaning())
}

func (g *Gateway) openQueue() (err error) {
	var found queue.Recovery
	g.queue, found, err = stamp.Open(disk.OS, filepath.Join(g.opts.State, "queue"), queue.Options{
		Limit:     g.opts.Config.QueueLimit,
		MaxRecord: wire.MaxRecord,
		Rand:      rand.Reader,
		EncodeGap: wire.GapPayload,
		Log:       g.log.With("part", "queue"),
	}, g.time)
	if err != nil {
		return fmt.Errorf("the queue: %w", err)
	}
	if g.queue.Again() && !found.Clean {
		run := g.paces.begin()
		for _, bus := range g.buses {
			bus.Owed(run) // the gateway was killed a moment ago, perhaps while it asked
		}
	}
	for _, gap := range found.Gaps {
		g.log.Warn("readings are lost for good; the cloud is told", "reason", gap.Reason, "from", gap.From, "to", gap.To)
	}
	return nil
}

// Run works until ctx ends, then stops in the order in which nothing is lost:
// the buses finish what they are asking, the open block is sealed, the session
// gets a moment to deliver, the queue is closed. It returns ErrFound when it has
// found pumps that it was not made for.
func (g *Gateway) Run(ctx context.Context, socket string) error {
	failed := make(chan error, 1)
	doorCtx, closeDoor := context.WithCancel(context.WithoutCancel(ctx))
	door := start(func() {
		if err := local.Serve(doorCtx, socket, g, g.log); err != nil {
			failed <- err
		}
	})

	ctx, stop := context.WithCancelCause(ctx)
	sessionCtx, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	polling := start(func() { g.poll(ctx) })
	learning := start(func() { g.paces.keep(g.steady, g.learned, polling) })
	recording := start(func() { g.recorder.run(ctx, polling) })
	heralding := start(func() { g.herald.run(ctx, polling) })
	commanding := start(func() { g.commands.Run(ctx) })
	linking := start(func() { g.links.Run(sessionCtx) })
	keepingTime := start(func() { g.keepTime(sessionCtx) })
	keepingTrust := start(func() { g.keepTrust(sessionCtx) })
	enrolling := start(func() { g.enrolled.Run(sessionCtx) })
	publishing := start(func() {
		g.time.firstTried(sessionCtx)
		select {
		case <-g.enrolled.Ready():
			_ = g.session.Run(sessionCtx) // it ends with its context and not before
		case <-sessionCtx.Done():
		}
	})

	found := make(chan struct{})
	searching := start(func() {
		if g.search(ctx) {
			close(found)
		}
	})

	var err error
	select {
	case err = <-failed:
	case <-found:
		err = ErrFound
	case <-ctx.Done():
	}
	g.log.Info("stopping")
	stop(err)
	<-searching
	<-recording
	<-learning
	<-heralding
	<-commanding
	select {
	case <-g.enrolled.Ready():
		drain, cancel := context.WithTimeout(sessionCtx, drainTime)
		if err := g.session.Drain(drain); err != nil {
			g.log.Info("what is not delivered waits on disk", "err", err)
		}
		cancel()
	default: // nobody has ever let it in
	}
	hangUp()
	<-publishing
	<-enrolling
	<-linking
	<-keepingTime
	<-keepingTrust
	closeDoor()
	<-door
	return errors.Join(err, g.queue.Close())
}

// start runs f and returns a channel that is closed when it has ended.
func start(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// poll runs the buses until ctx ends.
func (g *Gateway) poll(ctx context.Context) {
	// A bus that waits for bytes keeps its processor slot (fieldbus, wait_linux.go).
	runtime.GOMAXPROCS(runtime.NumCPU() + len(g.buses))
	var wg sync.WaitGroup
	for i, bus := range g.buses {
		wg.Go(func() {
			err := bus.Run(ctx, func(r telemetry.Reading) {
				r.Group += g.offsets[i]
				g.herald.see(r)
				g.recorder.add(r)
			})
			if err != nil && ctx.Err() == nil {
				g.log.Error("a bus has stopped", "bus", bus.Status().Name, "err", err)
			}
		})
	}
	wg.Wait()
}

// onItsWay bounds how long ago a transaction was begun whose readings are not
// delivered yet: the longest frame at 1200 bit/s takes 2.5 s.
const onItsWay = 3 * time.Second

// settled is a time before which no reading is still on its way. After a power
// cut the gap begins there, so that it covers what was being asked for, too.
func (g *Gateway) settled() time.Time { return g.steady.Now().Add(-onItsWay) }

// state is the JSON of the state topic.
func (g *Gateway) state(session uint64, online bool) []byte {
	s := status.State{Online: online, Session: session, Version: g.opts.Version, Model: g.identity.Model()}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // plain fields only
	}
	return b
}
