package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/status"
	"penstock/internal/telemetry"
)

// LineOptions say which serial line a bus verb opens, and how it is set.
type LineOptions struct {
	Port     string
	Speed    int
	Parity   string // "none", "even" or "odd"
	StopBits int
	Families *profile.Library // that it may meet
	// ReplyDelay is what devices wait before each answer, and Pause how long they
	// have to be left alone after it; 0: what their family says.
	ReplyDelay, Pause time.Duration
}

func (o LineOptions) mode() (fieldbus.Mode, error) { return mode(o.Speed, o.Parity, o.StopBits) }

func mode(speed int, parity string, stopBits int) (fieldbus.Mode, error) {
	m := fieldbus.Mode{Baud: speed, StopBits: stopBits}
	switch parity {
	case "none":
		m.Parity = fieldbus.NoParity
	case "even":
		m.Parity = fieldbus.EvenParity
	case "odd":
		m.Parity = fieldbus.OddParity
	default:
		return m, fmt.Errorf("parity %q: allowed are none, even and odd", parity)
	}
	return m, m.Validate()
}

// open opens the line for a verb that asks one device; close it.
func (o LineOptions) open(address int) (*fieldbus.Line, *modbus.Master, error) {
	m, err := o.mode()
	if err != nil {
		return nil, nil, err
	}
	line := fieldbus.NewLine(o.Port, m, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return nil, nil, err
	}
	master := modbus.NewMaster(line)
	if o.ReplyDelay > 0 || o.Pause > 0 {
		wait := o.ReplyDelay + usualReply
		master.SetTiming(byte(address), modbus.Timing{ReplyMin: o.ReplyDelay, ReplyMax: wait, Quiet: o.ReplyDelay + wait, Pause: o.Pause})
	}
	return line, master, nil
}

// usualReply is what a verb grants a device beyond the delay that it was told of.
const usualReply = time.Second

// attempts of a verb: a person is waiting, and a frame may be damaged.
const attempts = 3

// Read reads registers by their printed numbers and writes a line for each.
// function is 1 to 4; 0 is 3, and 4 where the device does not know 3.
func Read(ctx context.Context, o LineOptions, address, function, register, count int, w io.Writer) error {
	line, master, err := o.open(address)
	if err != nil {
		return err
	}
	defer line.Close()
	values := make([]uint16, count)
	if err := read(ctx, line, master, address, function, register, values); err != nil {
		return err
	}
	for i, v := range values {
		fmt.Fprintf(w, "%05d  %5d  0x%04X\n", register+i, v, v)
	}
	return nil
}

func read(ctx context.Context, line *fieldbus.Line, master *modbus.Master, address, function, register int, values []uint16) error {
	r := modbus.Request{Address: byte(address), Functions: modbus.Holding, Start: uint16(register - 1), Count: len(values), Attempts: attempts}
	switch function {
	case 1:
		r.Functions = modbus.Coils
	case 2:
		r.Functions = modbus.Discretes
	case 4:
		r.Functions = modbus.Input
	}
	_, err := master.Read(ctx, r, values)
	var refusal *modbus.Exception
	if function == 0 && errors.As(err, &refusal) && refusal.Code == modbus.IllegalFunction {
		r.Functions = modbus.Input
		_, err = master.Read(ctx, r, values)
	}
	return explain(line, err)
}

// explain adds what was seen on the line, and what a person there would try next.
func explain(line *fieldbus.Line, err error) error {
	if !errors.Is(err, modbus.ErrNoAnswer) && !errors.Is(err, modbus.ErrDamaged) {
		return err
	}
	if text := line.Counters().Heard().Trouble().Text(); text != "" {
		return fmt.Errorf("%w; %s", err, text)
	}
	return fmt.Errorf("%w; check speed and parity, the cable's screen and its termination", err)
}

// Write writes one register and reads it back.
func Write(ctx context.Context, o LineOptions, address, register int, value uint16, w io.Writer) error {
	line, master, err := o.open(address)
	if err != nil {
		return err
	}
	defer line.Close()
	return writeRegister(ctx, line, master, address, register, value, w)
}

// writeRegister reads the register before it writes it. The answer to a write is
// the request once more, so that on a line that hands our own requests back, a
// write with nobody there looks answered; a read does not. And once a read was
// answered, the master knows of the echo.
func writeRegister(ctx context.Context, line *fieldbus.Line, master *modbus.Master, address, register int, value uint16, w io.Writer) error {
	var before, back [1]uint16
	err := read(ctx, line, master, address, 3, register, before[:])
	if err != nil && !errors.As(err, new(*modbus.Exception)) { // it may be for writing only
		return fmt.Errorf("nothing was written: %w", err)
	}
	if err := master.Write(ctx, byte(address), uint16(register-1), value); err != nil {
		return explain(line, err)
	}
	err = read(ctx, line, master, address, 3, register, back[:])
	switch {
	case errors.As(err, new(*modbus.Exception)):
		return fmt.Errorf("register %05d: device %d acknowledged %d, but the register cannot be read back: %w", register, address, value, err)
	case err != nil:
		return fmt.Errorf("register %05d: whether device %d took %d is not known, since it cannot be read back: %w", register, address, value, err)
	case back[0] != value:
		return fmt.Errorf("register %05d: device %d acknowledged %d, but the register reads %d; "+
			"some registers act at once and read 0, others need the pump to be in remote", register, address, value, back[0])
	}
	fmt.Fprintf(w, "%05d  %5d  written and read back\n", register, value)
	return nil
}

// pump is what a verb calls the one pump on its line.
const pump = "the pump"

// bus is the line as the gateway would poll it, with one pump on it.
func (o LineOptions) bus(address int, family string) (*poll.Bus, error) {
	p, err := findProfile(o.Families, family)
	if err != nil {
		return nil, err
	}
	m, err := o.mode()
	if err != nil {
		return nil, err
	}
	if p.Speaks() == profile.Genibus {
		m = fieldbus.Mode{} // the protocol's only one
	}
	return poll.NewBus(poll.Config{Name: "line", Port: o.Port, Mode: m, Protocol: p.Speaks(),
		Devices: []poll.Device{{ID: pump, Name: pump, Address: address, Profile: p, ReplyDelay: o.ReplyDelay, Pause: o.Pause}}},
		poll.Deps{Clock: clock.System, Log: silent})
}

// beside runs the bus while f works on it.
func beside(ctx context.Context, bus *poll.Bus, f func(ctx context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	ended := start(func() { _ = bus.Run(running, func(telemetry.Reading) {}) }) // it ends when it is told to
	err := f(ctx)
	stop()
	<-ended
	return err
}

// Command asks one pump for a change, as the gateway does, and writes what the
// pump shows once it has followed.
func Command(ctx context.Context, o LineOptions, address int, family, name, value string, w io.Writer) error {
	bus, err := o.bus(address, family)
	if err != nil {
		return err
	}
	return beside(ctx, bus, func(ctx context.Context) error {
		r, err := bus.Write(ctx, poll.Command{Pump: pump, Name: name, Value: value})
		if s := bus.Status(); err != nil && !s.OK && s.Problem != "" {
			return errors.New(s.Problem)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: the pump shows %s, %d ms after it was told\n", name, r.Text, r.Seen.Sub(r.Sent).Milliseconds())
		return nil
	})
}

// Occupancy polls one pump for a while and shows how the line's time goes.
func Occupancy(ctx context.Context, o LineOptions, address int, family string, w io.Writer, length time.Duration) error {
	bus, err := o.bus(address, family)
	if err != nil {
		return err
	}
	return beside(ctx, bus, func(ctx context.Context) error {
		fmt.Fprintf(w, "polling for %v\n", length)
		_ = clock.System.Sleep(ctx, length) // its error says that it was cut short
		return status.WriteBus(w, busStatus(bus.Status()), clock.System.Now())
	})
}

// Watch shows a pump's values until ctx ends: it runs the same bus that the
// gateway does.
func Watch(ctx context.Context, o LineOptions, address int, family string, w io.Writer, every time.Duration) error {
	bus, err := o.bus(address, family)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- bus.Run(ctx, func(telemetry.Reading) {}) }()
	for {
		err := clock.System.Sleep(ctx, every)
		show(w, bus.Status())
		if err != nil {
			err = <-ended
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		}
	}
}

func show(w io.Writer, s poll.Status) {
	fmt.Fprintf(w, "\n%s  %s  %.0f %% busy\n", time.Now().Format(time.TimeOnly), s.Mode, 100*s.Occupancy)
	if !s.OK {
		fmt.Fprintf(w, "  %s\n", s.Problem)
		return
	}
	for _, d := range s.Devices {
		if d.Problem != "" {
			fmt.Fprintf(w, "  %s\n", d.Problem)
		}
		for _, v := range d.Values {
			if v.Time.IsZero() {
				continue
			}
			text := telemetry.Text(v.Enum, v.Unit, v.Scale, v.Raw)
			if v.Quality != telemetry.Good {
				text = v.Quality.String()
			}
			fmt.Fprintf(w, "  %-24s %s\n", v.Point, text)
		}
	}
}

// DefaultFamilies is the folder of a site's own pump families.
const DefaultFamilies = "/etc/penstock/profiles"

// Families are the pump families that the firmware knows, and those of the files
// in dir, which may take the place of one of the same name. A mistake in a file
// is told with its line and key, and refused: half a family reads half a pump.
func Families(dir string) (*profile.Library, error) {
	l := profile.Builtin()
	if err := l.AddFolder(disk.OS, dir); err != nil {
		return nil, err
	}
	return l, nil
}

func findProfile(l *profile.Library, name string) (*profile.Profile, error) {
	p, ok := l.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("there is no pump family %q; there are %s", name, strings.Join(l.Names(), ", "))
	}
	return p, nil
}

// silent is the log of a verb: a person reads its output instead.
var silent = slog.New(slog.DiscardHandler)
