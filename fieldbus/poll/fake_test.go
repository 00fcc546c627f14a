package poll

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// nullPort is a port that carries nothing: fakeMaster answers in its place.
type nullPort struct{}

func (nullPort) Read([]byte) (int, error)           { return 0, nil }
func (nullPort) Write(p []byte) (int, error)        { return len(p), nil }
func (nullPort) SetReadTimeout(time.Duration) error { return nil }
func (nullPort) ResetInputBuffer() error            { return nil }
func (nullPort) Drain() error                       { return nil }
func (nullPort) Close() error                       { return nil }

// fakeMaster answers from maps of registers, in the time that the wire takes.
// Its waits go through the clock, so that a synctest bubble can play them.
type fakeMaster struct {
	clk        clock.Clock
	mode       fieldbus.Mode
	turnaround time.Duration
	timeout    time.Duration
	quiet      time.Duration

	mu      sync.Mutex
	pumps   map[byte]*fakePump
	reads   []fakeRead
	spent   map[byte]time.Duration     // on requests that nobody answered
	err     error                      // of every transaction, when set
	spoil   func(modbus.Request) error // if not nil, the answer to a read in place of its own
	pending map[byte]fakePending
}

type fakePending struct {
	request modbus.Request
	first   time.Time
	until   time.Time
}

type fakePump struct {
	regs    map[uint16]uint16
	refused map[uint16]bool
	dead    bool
	lost    bool // its module hears it no more
	lose    int  // so many requests
	write   func(register, value uint16) error
}

type fakeRead struct {
	modbus.Request
	at, end time.Time
	err     error
}

func newFakeMaster(clk clock.Clock) *fakeMaster {
	return &fakeMaster{
		clk: clk, mode: fieldbus.Default, turnaround: 5 * time.Millisecond, timeout: 250 * time.Millisecond, quiet: time.Second,
		pumps: map[byte]*fakePump{}, spent: map[byte]time.Duration{}, pending: map[byte]fakePending{},
	}
}

// pump makes a pump that knows every register of a family's blocks.
func (m *fakeMaster) pump(address byte, p *profile.Profile) *fakePump {
	f := &fakePump{regs: map[uint16]uint16{}, refused: map[uint16]bool{}}
	for _, b := range p.Blocks {
		for r := b.First; r <= b.Last; r++ {
			f.regs[p.Wire(r)] = uint16(r)
		}
	}
	f.write = func(register, value uint16) error { f.regs[register] = value; return nil }
	m.pumps[address] = f
	return f
}

func (m *fakeMaster) Read(ctx context.Context, r modbus.Request, dst []uint16) (time.Time, error) {
	at := m.clk.Now()
	m.mu.Lock()
	p, pending, err := m.pumps[r.Address], m.pending[r.Address], m.err
	silent := p == nil || p.dead || p.lose > 0
	m.mu.Unlock()
	if err != nil {
		return at, err
	}
	if same(pending.request, r) && at.Before(pending.until) {
		at = pending.first
	}
	began := m.clk.Now()
	if silent {
		m.wait(m.mode.Wire(8) + m.timeout)
		m.mu.Lock()
		if p != nil && p.lose > 0 {
			p.lose--
		}
		m.spent[r.Address] += m.clk.Now().Sub(began)
		m.pending[r.Address] = fakePending{r, at, m.clk.Now().Add(m.quiet)}
		m.mu.Unlock()
		return at, m.note(r, began, modbus.ErrNoAnswer)
	}
	m.wait(m.mode.Wire(8+5+2*r.Count) + silence(m.mode) + m.turnaround)
	m.mu.Lock()
	delete(m.pending, r.Address)
	if !p.lost {
		p.regs[27]++ // printed 28, the low half of the receive counter
	}
	for i := range r.Count {
		v, ok := p.regs[r.Start+uint16(i)]
		if !ok || p.refused[r.Start+uint16(i)] {
			err = &modbus.Exception{Address: r.Address, Function: 3, Code: modbus.IllegalAddress}
		}
		dst[i] = v
	}
	m.mu.Unlock()
	if m.spoil != nil && err == nil {
		err = m.spoil(r)
	}
	return at, m.note(r, began, err)
}

func (m *fakeMaster) note(r modbus.Request, at time.Time, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads = append(m.reads, fakeRead{r, at, m.clk.Now(), err})
	return err
}

func (m *fakeMaster) Write(ctx context.Context, address byte, register, value uint16) error {
	m.mu.Lock()
	p := m.pumps[address]
	silent := p == nil || p.dead
	m.mu.Unlock()
	if silent {
		m.wait(m.mode.Wire(8) + m.timeout)
		return modbus.ErrNoAnswer
	}
	m.wait(m.mode.Wire(16) + silence(m.mode) + m.turnaround)
	m.mu.Lock()
	defer m.mu.Unlock()
	return p.write(register, value)
}

func (m *fakeMaster) WriteCoil(ctx context.Context, address byte, coil uint16, on bool) error {
	value := uint16(0)
	if on {
		value = 1
	}
	return m.Write(ctx, address, coil, value)
}

func (m *fakeMaster) wait(d time.Duration) {
	if err := m.clk.Sleep(context.Background(), d); err != nil {
		panic(err)
	}
}

// asksIdentity tells whether a read asks a CIM module what it is.
func asksIdentity(r modbus.Request) bool { return r.Start == 29 && r.Count == 3 }

func same(a, b modbus.Request) bool {
	return a.Address == b.Address && a.Start == b.Start && a.Count == b.Count
}

func (m *fakeMaster) OwedUntil(address byte) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pending[address].until
}

func (m *fakeMaster) Quiet(byte) time.Duration { return m.quiet }

func (m *fakeMaster) ReadyAt(modbus.Request) time.Time  { return time.Time{} }
func (m *fakeMaster) Reserve(byte, []modbus.Variant)    {}
func (m *fakeMaster) Learned(byte) (l lateness.Learned) { return l }
func (m *fakeMaster) Restore(byte, lateness.Learned)    {}
func (m *fakeMaster) Overhear(ctx context.Context, until time.Time) error {
	return m.clk.Sleep(ctx, max(until.Sub(m.clk.Now()), 100*time.Microsecond))
}

func (m *fakeMaster) Timeout(byte) time.Duration    { return m.timeout }
func (m *fakeMaster) ReplyTime(byte) time.Duration  { return m.turnaround }
func (m *fakeMaster) SetTiming(byte, modbus.Timing) {}

// set changes a pump while the bus runs.
func (m *fakeMaster) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// holds is what a pump's register holds, by the number that travels.
func (m *fakeMaster) holds(address byte, register uint16) (v uint16) {
	m.set(func() { v = m.pumps[address].regs[register] })
	return v
}

// rig is a bus on a fake master.
type rig struct {
	*Bus
	t        *testing.T
	m        *fakeMaster
	readings []telemetry.Reading
	each     func(telemetry.Reading) // if not nil, called with each reading
}

func epump(t testing.TB) *profile.Profile {
	p, ok := profile.Builtin().Lookup("cim-epump")
	if !ok {
		t.Fatal("no cim-epump")
	}
	return p
}

// newRig makes a bus with n pumps of a family, addresses from 1.
func newRig(t *testing.T, p *profile.Profile, n int) *rig {
	t.Helper()
	cfg := Config{Name: "bus1", Port: "fake"}
	for i := range n {
		cfg.Devices = append(cfg.Devices, Device{Address: i + 1, Profile: p})
	}
	r := &rig{t: t, m: newFakeMaster(clock.System)}
	for i := range n {
		r.m.pump(byte(i+1), p)
	}
	bus, err := NewBus(cfg, Deps{
		Clock: clock.System,
		Log:   discard,
		Open:  func(string, fieldbus.Mode) (fieldbus.Port, error) { return nullPort{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	bus.master = r.m
	r.Bus = bus
	return r
}

// run runs the bus for d of the bubble's time, with do beside it.
func (r *rig) run(d time.Duration, do ...func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var wg sync.WaitGroup
	for _, f := range do {
		wg.Go(f)
	}
	if err := r.Run(ctx, func(x telemetry.Reading) {
		r.readings = append(r.readings, x)
		if r.each != nil {
			r.each(x)
		}
	}); err != nil {
		r.t.Error(err)
	}
	wg.Wait()
}

// of are the readings of one point of one pump.
func (r *rig) of(pump, point string) (out []telemetry.Reading) {
	for _, x := range r.readings {
		if s := r.groups[x.Group].Series[x.Series]; s.Pump == pump && s.Point == point {
			out = append(out, x)
		}
	}
	return out
}
