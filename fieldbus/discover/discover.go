package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
)

// ErrInUse: somebody else talks on the line, and the search has stopped so as
// not to disturb. The text says what was heard.
var ErrInUse = errors.New("the line is in use")

// ListenTime is how long a search listens before it talks.
const ListenTime = 10 * time.Second

// Config is a search.
type Config struct {
	Line     *fieldbus.Line // not owned by anybody else; Run opens it and changes its mode
	Library  *profile.Library
	Modes    []fieldbus.Mode // to try, in this order; nil: Modes
	Progress func(Progress)  // called often, from Run's goroutine; may be nil
	// ReplyDelay is what the devices there are said to wait before each answer, and
	// Pause how long they have to be left alone after it. Each address is given that
	// much longer.
	ReplyDelay, Pause time.Duration
}

// Progress is how far a search has come.
type Progress struct {
	Listening bool
	Mode      fieldbus.Mode
	Address   int           // being asked
	Left      time.Duration // at most, if nobody answers
	Found     *Device       // just now
}

// Device is a device that was found.
type Device struct {
	Address    int
	Mode       fieldbus.Mode
	Identified bool // Family, Type and Version are what it says of itself
	Family     int
	Type       int
	Version    int
	Profile    string        // "" when no family fits
	ReplyDelay time.Duration // what it waits before each answer, by its own register or as measured
	Remark     string        // what a person should know
}

// Result is the outcome of a search.
type Result struct {
	Devices []Device
	Trouble fieldbus.Trouble // when nothing was found, or the line is not sound
	Remarks []string         // what else was seen
	Took    time.Duration
}

// search is a Run under way.
type search struct {
	Config
	count  *fieldbus.Counters
	probe  probe
	left   time.Duration
	result Result
	began  fieldbus.Heard
}

// Run searches the line until it has found the mode in which somebody answers
// and everybody there, or has tried everything. It returns ErrInUse when the
// line has another master, a *fieldbus.PortError when the port fails, and ctx's
// error with what was found until then.
func Run(ctx context.Context, c Config) (Result, error) {
	s := &search{Config: c, count: c.Line.Counters(), probe: probeOf(c.Library)}
	if s.Progress == nil {
		s.Progress = func(Progress) {}
	}
	if s.Modes == nil {
		s.Modes = Modes
	}
	clk := c.Line.Clock()
	start := clk.Now()
	err := s.run(ctx)
	s.result.Took = clk.Now().Sub(start)
	if t := s.count.Heard().Since(s.began).Trouble(); err == nil || t == fieldbus.OtherMaster {
		s.result.Trouble = t
	}
	return s.result, err
}

func (s *search) run(ctx context.Context) error {
	steps := Steps(s.Modes)
	for i := range steps {
		steps[i].Patience += s.ReplyDelay
	}
	for _, st := range steps {
		s.left += st.Takes()
	}
	s.began = s.count.Heard()
	if err := s.Line.SetMode(s.Modes[0]); err != nil {
		return err
	}
	if err := s.Line.Open(); err != nil {
		return err
	}
	s.result.Remarks = append(s.result.Remarks, s.Line.Remarks()...)
	if err := s.listen(ctx); err != nil {
		return err
	}
	s.began = s.count.Heard()
	for i, st := range steps {
		if err := s.step(ctx, st); err != nil {
			return err
		}
		s.left -= st.Takes()
		if len(s.result.Devices) == 0 {
			continue
		}
		// The line's mode is known. What is left of it is searched, no other.
		for _, more := range steps[i+1:] {
			if more.Mode == st.Mode && more.Patience == brief+s.ReplyDelay {
				s.left = more.Takes()
				if err := s.step(ctx, more); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return nil
}

// step asks the addresses of a step.
func (s *search) step(ctx context.Context, st Step) error {
	if err := s.Line.SetMode(st.Mode); err != nil {
		return err
	}
	if err := s.Line.Open(); err != nil {
		return err
	}
	m := modbus.NewMaster(s.Line)
	left := s.left
	var asked []int
	for i, a := range st.Addresses {
		if s.has(a) {
			continue
		}
		s.left = left - st.Takes()*time.Duration(i)/time.Duration(len(st.Addresses))
		s.Progress(Progress{Mode: st.Mode, Address: a, Left: s.left})
		stale := s.count.Stale.Load()
		if err := s.ask(ctx, m, st.Mode, a, st.Patience); err != nil {
			return err
		}
		asked = append(asked, a)
		if s.count.Stale.Load() == stale {
			continue
		}
		if err := s.askLate(ctx, m, st.Mode, asked); err != nil {
			return err
		}
	}
	s.left = left
	// Somebody may be about to answer who was asked last.
	last := asked[max(0, len(asked)-int(patient/st.Patience)):]
	if st.Patience < patient && len(last) > 0 {
		if err := s.linger(m); err != nil {
			return err
		}
		return s.askLate(ctx, m, st.Mode, last)
	}
	return nil
}

// linger gives the devices that were asked last time to answer late. The
// master recognises their answers when it next looks at the line, and it looks
// by asking an address that nobody has.
func (s *search) linger(m *modbus.Master) error {
	const nobody = lastAddress
	m.SetTiming(nobody, modbus.Timing{ReplyMin: patient / 2, ReplyMax: patient / 2, Quiet: lateMost})
	err := s.read(context.Background(), m, nobody, nil)
	if errors.Is(err, modbus.ErrNoAnswer) || errors.Is(err, modbus.ErrDamaged) {
		return s.alone()
	}
	return err
}

// lateMost is the most that a module can be set to wait before it answers,
// SlaveMinimumReplyDelay, with some room.
const lateMost = 12 * time.Second

// askLate asks those again whose answers came while somebody else was asked.
func (s *search) askLate(ctx context.Context, m *modbus.Master, mode fieldbus.Mode, asked []int) error {
	for _, a := range asked {
		if took := m.ReplyTime(byte(a)); took > 0 && !s.has(a) {
			if err := s.ask(ctx, m, mode, a, min(2*took+brief, lateMost)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *search) has(address int) bool {
	return slices.ContainsFunc(s.result.Devices, func(d Device) bool { return d.Address == address })
}

// ask asks one address who it is.
func (s *search) ask(ctx context.Context, m *modbus.Master, mode fieldbus.Mode, a int, patience time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.SetTiming(byte(a), modbus.Timing{ReplyMin: patience, ReplyMax: patience, Quiet: lateMost, Pause: s.Pause})
	regs := make([]uint16, s.probe.count)
	err := s.read(ctx, m, a, regs)
	if errors.Is(err, modbus.ErrDamaged) {
		if err := s.alone(); err != nil {
			return err
		}
		err = s.read(ctx, m, a, regs)
	}
	if other := s.alone(); other != nil {
		return other
	}
	d := Device{Address: a, Mode: mode}
	var refused *modbus.Exception
	if errors.As(err, &refused) && refused.Code == modbus.IllegalFunction {
		err = s.readOther(ctx, m, a, refused.Function, regs)
	}
	switch {
	case err == nil:
		s.identify(ctx, m, &d, regs)
	case errors.As(err, &refused):
		d.Remark = "it does not tell what it is; name its family by hand"
	case errors.Is(err, modbus.ErrDamaged):
		s.result.Remarks = append(s.result.Remarks, fmt.Sprintf(
			"address %d at %s: something came that is no sound answer; two devices may have this address", a, mode))
		return nil
	case errors.Is(err, modbus.ErrNoAnswer):
		return nil
	default:
		return err
	}
	if took := m.ReplyTime(byte(a)); took > brief && d.ReplyDelay == 0 {
		d.ReplyDelay = took.Round(time.Millisecond)
	}
	s.result.Devices = append(s.result.Devices, d)
	s.Progress(Progress{Mode: mode, Address: a, Left: s.left, Found: &d})
	return nil
}

func (s *search) read(ctx context.Context, m *modbus.Master, a int, regs []uint16) error {
	if regs == nil {
		regs = make([]uint16, s.probe.count)
	}
	_, err := m.Read(ctx, modbus.Request{Address: byte(a), Start: s.probe.start, Count: s.probe.count}, regs)
	return err
}

// readOther reads the identity by the function that a device did not refuse.
func (s *search) readOther(ctx context.Context, m *modbus.Master, a int, refused byte, regs []uint16) error {
	r := modbus.Request{Address: byte(a), Start: s.probe.start, Count: s.probe.count, Functions: modbus.Holding, Attempts: 2}
	if refused&0x7F == 3 {
		r.Functions = modbus.Input
	}
	_, err := m.Read(ctx, r, regs)
	return err
}

// alone returns ErrInUse when a frame was heard that nobody was asked for.
func (s *search) alone() error {
	if h := s.count.Heard().Since(s.began); h.Foreign > 0 {
		return fmt.Errorf("%w: a frame came that was not asked for; %s", ErrInUse, fieldbus.OtherMaster.Text())
	}
	return nil
}

// probe is the read that makes a CIM module tell what it is.
type probe struct {
	start                 uint16
	count                 int
	family, kind, version int // in the answer; -1: absent
}

// probeOf takes the identity registers of the library's Modbus families. They are
// those of the CIM modules; a site's family of its own may add none.
func probeOf(l *profile.Library) probe {
	for _, name := range l.Names() {
		p, _ := l.Lookup(name)
		if p.Speaks() != profile.Modbus || p.Identity == nil || len(p.Match) == 0 {
			continue
		}
		low, high := p.Identity.Family, p.Identity.Family
		for _, r := range []int{p.Identity.Type, p.Identity.Version} {
			if r > 0 {
				low, high = min(low, r), max(high, r)
			}
		}
		if low == 0 || high-low >= modbus.MaxRegisters {
			continue
		}
		at := func(r int) int {
			if r == 0 {
				return -1
			}
			return r - low
		}
		return probe{p.Wire(low), high - low + 1, at(p.Identity.Family), at(p.Identity.Type), at(p.Identity.Version)}
	}
	return probe{start: 29, count: 3, kind: 1, version: 2} // registers 30 to 32
}

// unavailable is what a module answers for a register that it has no value for.
const unavailable = 0xFFFF

// identify takes in what a device says of itself, and asks how long it waits
// before each answer.
func (s *search) identify(ctx context.Context, m *modbus.Master, d *Device, regs []uint16) {
	value := func(i int) int {
		if i < 0 {
			return 0
		}
		return int(regs[i])
	}
	d.Family, d.Type, d.Version = value(s.probe.family), value(s.probe.kind), value(s.probe.version)
	if d.Family == 0 || d.Family == unavailable {
		d.Remark = "it does not tell what it is; name its family by hand"
		return
	}
	d.Identified = true
	p, ok := s.Library.Choose(profile.Modbus, d.Family, d.Type, d.Version)
	if !ok {
		d.Remark = "no family in the library fits; name one by hand, or add it (docs/profiles.md)"
		return
	}
	d.Profile = p.Name
	if p.Identity == nil || p.Identity.ReplyDelay == 0 {
		return
	}
	var delay [1]uint16
	r := modbus.Request{Address: byte(d.Address), Start: p.Wire(p.Identity.ReplyDelay), Count: 1, Attempts: 2}
	if _, err := m.Read(ctx, r, delay[:]); err == nil && delay[0] != unavailable {
		d.ReplyDelay = time.Duration(delay[0]) * time.Millisecond
	}
}
