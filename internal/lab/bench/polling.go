package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/fault"
)

// polling is the gateway's scheduler and master on a line of virtual pumps in
// memory, on a clock that moves only when somebody waits, with a judge who knows
// what the pumps served. Hours take seconds. A seed plays the same hours again.
//
// The pumps are marked (pumpsim.PumpOptions): each value tells which register it is
// and which answer it was in.
type polling struct {
	judge    judge
	protocol pumpsim.Protocol
	mode     fieldbus.Mode
	clk      *linetest.Clock
	sim      *pumpsim.Simulator
	pumps    []polledPump
	devices  []poll.Device

	// What a gateway keeps on disk of what was learnt, and from where (poll.Bus.Learned).
	runs    int
	learned map[int]lateness.Learned
	keepAt  time.Time // when it is next kept
	bus     *poll.Bus // that runs

	stopAt time.Time // when the bus that runs is stopped in order
	killAt time.Time // when it is killed; zero: never
	stop   context.CancelFunc
	port   fieldbus.Port // that is open; a kill closes it
	wire   time.Duration // that requests and answers took
}

// polledPump is a pump of a polled line: its model, and the family that reads it.
type polledPump struct{ model, family string }

// The pumps that are polled, by protocol. The first ones are used where fewer do.
var polledPumps = map[pumpsim.Protocol][]polledPump{
	pumpsim.Modbus:  {{"epump", "cim-epump"}, {"magna3", "cim-epump"}, {"booster", "cim-booster"}},
	pumpsim.GENIbus: {{"magna3", "geni-magna3"}, {"epump", "geni-mge"}, {"mp204", "geni-mp204"}},
}

// protocols are those that are measured, in the order of the figures.
var protocols = []pumpsim.Protocol{pumpsim.Modbus, pumpsim.GENIbus}

// newPolling makes a line with so many pumps and faults as fault.Parse reads them.
func newPolling(protocol pumpsim.Protocol, pumps int, faults string, seed int64) (*polling, error) {
	p := &polling{protocol: protocol, mode: fieldbus.Default, clk: linetest.NewClock(), pumps: polledPumps[protocol][:pumps]}
	first := 1
	if protocol == pumpsim.GENIbus {
		p.mode, first = geniMode, 32
	}
	rules, err := fault.Parse(faults)
	if err != nil {
		return nil, err
	}
	p.sim, err = pumpsim.New(pumpsim.Options{Protocol: protocol, Seed: seed, Faults: rules, Clock: p.clk, OnServed: p.judge.serve})
	if err != nil {
		return nil, err
	}
	for i, pump := range p.pumps {
		address := first + i
		if _, err := p.sim.AddPump(pumpsim.PumpOptions{Address: address, Model: pump.model, Marked: true}); err != nil {
			return nil, err
		}
		family, ok := profile.Builtin().Lookup(pump.family)
		if !ok {
			return nil, fmt.Errorf("there is no family %s", pump.family)
		}
		p.devices = append(p.devices, poll.Device{Address: address, Profile: family})
	}
	p.judge.init(p.clk.Now, p.devices)
	return p, nil
}

// setFaults replaces the faults of the line from now on.
func (p *polling) setFaults(faults string, seed int64) error {
	rules, err := fault.Parse(faults)
	if err == nil {
		p.sim.SetFaults(rules, seed)
	}
	return err
}

// killed is what a killed bus panics with.
type killed struct{}

// run has a new bus poll the line for a time. It is killed at the end, or stopped
// in order. again says that a bus polled before and was killed.
func (p *polling) run(ctx context.Context, d time.Duration, kill, again bool) (err error) {
	end := p.clk.Now().Add(d)
	p.stopAt, p.killAt = end, time.Time{}
	if kill {
		p.stopAt, p.killAt = time.Time{}, end
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	p.stop = stop
	devices := slices.Clone(p.devices)
	for i := range devices {
		if l, ok := p.learned[devices[i].Address]; ok {
			devices[i].Learned = &l
		}
	}
	bus, err := poll.NewBus(poll.Config{Name: "bus", Port: "in memory", Mode: p.mode, Protocol: profile.Protocol(p.protocol), Devices: devices},
		poll.Deps{Clock: lived{p}, Log: slog.New(slog.DiscardHandler), Open: p.open,
			Rescaled: func() { p.judge.begin(p.bus.Groups()) }})
	if err != nil {
		return err
	}
	if again {
		p.runs++
		bus.Owed(p.runs)
	}
	p.bus, p.keepAt = bus, p.clk.Now().Add(keepEvery)
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case killed:
			err = p.bury()
		default:
			panic(r)
		}
	}()
	p.judge.begin(bus.Groups())
	if err := bus.Run(running, p.judge.take); err != nil {
		return err
	}
	return ctx.Err()
}

// bury does what the system does for a process that was killed: it closes its port.
func (p *polling) bury() error {
	if p.port == nil {
		return nil
	}
	err := p.port.Close()
	p.port = nil
	if errors.Is(err, syscall.EIO) {
		return nil // it had vanished before
	}
	return err
}

// keepEvery is how often a gateway keeps what was learnt. What it learns in a life
// that is shorter is lost when it is killed.
const keepEvery = time.Minute

// passed stops or kills the bus when its time has come.
func (p *polling) passed() {
	now := p.clk.Now()
	if !now.Before(p.keepAt) {
		p.learned, p.keepAt = p.bus.Learned(), now.Add(keepEvery)
	}
	if !p.killAt.IsZero() && !now.Before(p.killAt) {
		panic(killed{})
	}
	if !p.stopAt.IsZero() && !now.Before(p.stopAt) {
		p.stop()
	}
}

// within shortens a wait so that it does not go beyond a kill.
func (p *polling) within(d time.Duration) time.Duration {
	if p.killAt.IsZero() {
		return d
	}
	return min(d, p.killAt.Sub(p.clk.Now()))
}

// lived is the clock of a bus that may be killed.
type lived struct{ p *polling }

func (l lived) Now() time.Time { return l.p.clk.Now() }

func (l lived) Sleep(ctx context.Context, d time.Duration) error {
	err := l.p.clk.Sleep(ctx, l.p.within(d))
	l.p.passed()
	return err
}

// open opens the line for a bus that may be killed.
func (p *polling) open(path string, mode fieldbus.Mode) (fieldbus.Port, error) {
	port, err := p.sim.Open(path, mode)
	if err != nil {
		return nil, err
	}
	p.port = port
	return &livedPort{Port: port, p: p}, nil
}

// livedPort is the port of a bus that may be killed. It sees what the bus sends.
type livedPort struct {
	fieldbus.Port
	p       *polling
	timeout time.Duration
}

func (l *livedPort) SetReadTimeout(d time.Duration) error {
	l.timeout = d
	return l.Port.SetReadTimeout(d)
}

func (l *livedPort) Read(b []byte) (int, error) {
	if d := l.p.within(l.timeout); d != l.timeout {
		if err := l.Port.SetReadTimeout(d); err != nil {
			return 0, err
		}
	}
	n, err := l.Port.Read(b)
	l.p.wire += l.p.mode.Wire(n)
	l.p.passed()
	return n, err
}

func (l *livedPort) Write(b []byte) (int, error) {
	l.p.passed()
	to := 0 // where the address stands
	if l.p.protocol == pumpsim.GENIbus {
		to = 2
	}
	if len(b) > to {
		l.p.judge.ask(int(b[to]))
	}
	l.p.wire += l.p.mode.Wire(len(b))
	return l.Port.Write(b)
}

func (l *livedPort) Close() error {
	l.p.port = nil
	return l.Port.Close()
}
