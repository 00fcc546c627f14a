package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/pumpsim/fault"
)

// day is a list of reads, the line that they are made on, and what goes wrong
// on it. A seed plays the same day again.
type day struct {
	seed      uint64
	mode      fieldbus.Mode
	turnround [lateDevices]time.Duration
	blocks    [lateDevices][3]modbus.Request
	reads     []modbus.Request
	rules     []fault.Rule
	growing   bool // lateness goes by what the master has learnt at that moment
}

const (
	lateDevices  = 4
	lateReads    = 2000                    // a day
	lateWarmUp   = 20 * lateDevices        // of them without faults, in which the master learns
	lateAttempts = 2                       // of a read
	lateTimeout  = 250 * time.Millisecond  // for a device of unknown pace, and all that peers have
	growMost     = 1200 * time.Millisecond // of a reply time that lateness grows with
)

// newDay draws a day. The first is at 115200 baud, because it is also played in
// real time. Random overwrites, which no checksum always finds, have days of
// their own.
func newDay(seed uint64, overwrites bool) *day {
	r := rand.New(rand.NewPCG(seed, 3))
	bauds := []int{115200, 19200, 9600, 57600, 38400}
	d := &day{
		seed: seed, growing: seed%2 == 0,
		mode: fieldbus.Mode{Baud: bauds[(seed-1)%uint64(len(bauds))], Parity: fieldbus.EvenParity, StopBits: 1},
	}
	functions := [lateDevices]modbus.Functions{modbus.Either, modbus.Either, modbus.Holding, modbus.Input}
	for i := range lateDevices {
		// 5, 10, 20 and 40 ms, give or take a half.
		d.turnround[i] = time.Duration((0.5 + r.Float64()) * float64(5*time.Millisecond<<i))
		// Two blocks of one length, so that their answers look alike, and one
		// of another.
		alike, other := 1+r.IntN(20), 1+r.IntN(20)
		for k, count := range []int{alike, alike, other} {
			d.blocks[i][k] = modbus.Request{
				Address: byte(i + 1), Functions: functions[i], Start: uint16(200 + 50*k), Count: count,
				First: 100, Last: 500, Attempts: lateAttempts,
			}
		}
	}
	// Masters read several blocks of one device, and then go on to the next.
	at := 0
	for i := range lateReads {
		if i < lateWarmUp {
			at = i % lateDevices
		} else if r.IntN(5) == 0 {
			at = r.IntN(lateDevices)
		}
		d.reads = append(d.reads, d.blocks[at][r.IntN(3)])
	}
	if overwrites {
		d.rules = []fault.Rule{{Kind: fault.Overwrite, Rate: 0.5, N: 8}}
		return d
	}
	rate := func(most float64) float64 { return most * r.Float64() }
	d.rules = []fault.Rule{
		{Kind: fault.Late, Rate: 0.05 + rate(0.1)},
		// A repeater, or a driver that sends twice: within the transaction that
		// follows at the earliest.
		{Kind: fault.Repeat, Rate: rate(0.15), Min: time.Millisecond, Max: 5 * time.Millisecond},
		{Kind: fault.Foreign, Rate: rate(0.1)},
		{Kind: fault.Split, Rate: rate(0.1), Min: time.Millisecond, Max: 40 * time.Millisecond},
		{Kind: fault.Flip, Rate: rate(0.06), N: 3},
		{Kind: fault.Burst, Rate: rate(0.06), N: 16},
	}
	return d
}

// line is the day's line. learnt is the reply time that the master has learnt;
// nil means the devices' own.
func (d *day) line(learnt func(address byte) time.Duration) *badLine {
	l := &badLine{mode: d.mode, devices: map[byte]*tagged{}, dice: fault.NewDice(d.rules, int64(d.seed)), harmless: lateWarmUp}
	for i, t := range d.turnround {
		dev := &tagged{address: byte(i + 1), turnaround: t}
		dev.learnt = func() time.Duration { return dev.turnaround }
		if d.growing && learnt != nil {
			dev.learnt = func() time.Duration { return min(max(learnt(dev.address), dev.turnaround), growMost) }
		}
		l.devices[dev.address] = dev
	}
	return l
}

// list is the reads as the clients take them.
func (d *day) list() string {
	var b strings.Builder
	for _, r := range d.reads {
		fmt.Fprintln(&b, r.Address, r.Start, r.Count)
	}
	return b.String()
}

// outcome is what became of a day's reads.
type outcome struct {
	transactions, answered, failed, wrong, damaged int
}

func (o *outcome) add(p outcome) {
	o.transactions += p.transactions
	o.answered += p.answered
	o.failed += p.failed
	o.wrong += p.wrong
	o.damaged += p.damaged
}

// reader makes a read and returns the time that it states.
type reader interface {
	Read(ctx context.Context, r modbus.Request, dst []uint16) (time.Time, error)
}

// play plays the day in memory, on a clock that moves only when somebody waits.
// open makes the master.
func (d *day) play(ctx context.Context, open func(*fieldbus.Line) reader) (o outcome, err error) {
	clk := linetest.NewClock()
	port := linetest.NewPort(clk)
	master := open(port.Line(d.mode))
	var learnt func(byte) time.Duration
	if m, ok := master.(interface {
		ReplyTime(address byte) time.Duration
	}); ok {
		learnt = m.ReplyTime
	}
	l := d.line(learnt)
	port.OnWrite = func(frame []byte, at time.Time) {
		l.hear(frame, at)
		l.take(at.Add(time.Hour), func(a arrival) { port.Deliver(a.at, a.bytes...) })
	}
	var room [modbus.MaxRegisters]uint16
	for _, r := range d.reads {
		stated, err := master.Read(ctx, r, room[:r.Count])
		switch {
		case errors.Is(err, modbus.ErrNoAnswer), errors.Is(err, modbus.ErrDamaged):
			o.failed++
		case err != nil:
			return o, fmt.Errorf("day %d, reading %d registers of device %d: %w", d.seed, r.Count, r.Address, err)
		default:
			o.answered++
			if !l.devices[r.Address].verdict(r.Start, room[:r.Count], stated) {
				o.wrong++
			}
		}
	}
	o.transactions, o.damaged = l.requests, l.damaged
	return o, nil
}
