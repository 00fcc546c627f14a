package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	terminal "penstock/fieldbus/pumpsim/wire"
	"penstock/internal/clock"
)

func init() {
	Register("genibus", "GENIbus: wire time beside the ideal, packing, and a million transactions on bad days (about 2 min)", genibusBench)
}

// The conditions of the measurement. The points are those of MAGNA3, whose
// buffer is the smallest there is.
const (
	geniFamily       = "geni-magna3"
	geniExchanges    = 120
	geniTransactions = 1_000_000
)

var geniMode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// geniIdeal is the time of one exchange when nobody is ever late: the request and
// its reply, the device's turnaround, and the silence before the next telegram.
func geniIdeal(pdu []byte, turnaround time.Duration) time.Duration {
	return genibus.Wire(2*genibus.Overhead+len(pdu)+genibus.ReplySize(pdu)) + turnaround + genibus.Gap
}

func genibusBench(ctx context.Context, emit func(Metric)) error {
	p, ok := profile.Builtin().Lookup(geniFamily)
	if !ok {
		return errors.New("there is no family " + geniFamily)
	}
	for _, turnaround := range []time.Duration{3 * time.Millisecond, 5 * time.Millisecond} {
		for _, units := range []int{1, 8} {
			e, err := geniEfficiency(ctx, p, units, turnaround)
			if err != nil {
				return err
			}
			emit(Metric{"genibus_efficiency", e, "1", map[string]any{
				"units": units, "turnaround_ms": turnaround.Milliseconds(), "buffer": genibus.SmallestBuffer, "exchanges": geniExchanges, "on": "pty"}})
		}
	}
	for _, periods := range [][]time.Duration{nil, p.Periods()[:1]} {
		planned, best, values := geniPacking(p, 5*time.Millisecond, periods...)
		due := "all points"
		if periods != nil {
			due = fmt.Sprintf("each %v", periods[0])
		}
		emit(Metric{"genibus_packing", best.Seconds() / planned.Seconds(), "1", map[string]any{"due": due, "values": values,
			"values_per_second": float64(int(10*float64(values)/planned.Seconds())) / 10}})
	}
	o, err := geniDays(ctx, 1, geniTransactions)
	if err != nil {
		return err
	}
	emit(Metric{"wrong_values", float64(o.wrong), "1", map[string]any{"protocol": "genibus",
		"transactions": o.transactions, "answered": o.answered, "failed": o.failed, "disturbed": o.disturbed, "on": "injected clock"}})
	allocs, err := geniAllocs(10_000)
	if err != nil {
		return err
	}
	emit(Metric{"allocs_per_transaction", allocs, "1", map[string]any{"protocol": "genibus"}})
	return nil
}

// geniEfficiency is the share of the ideal that planned telegrams to units in
// turn reach, one after another on a pseudo-terminal.
func geniEfficiency(ctx context.Context, p *profile.Profile, units int, turnaround time.Duration) (float64, error) {
	port, err := terminal.Open("", clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer port.Close()
	far := &geniFar{turnaround: turnaround}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- port.Serve(serving, far) }()
	ideal, err := geniExchange(ctx, port.Path(), poll.Telegrams(p, genibus.SmallestBuffer), units, turnaround)
	stop()
	if err := errors.Join(err, <-served); err != nil {
		return 0, err
	}
	// From the first bit of the first request to the first bit of the last.
	return ideal.Seconds() / far.last.Sub(far.first).Seconds(), nil
}

// geniExchange makes the exchanges, and returns the ideal time of all but the
// last.
func geniExchange(ctx context.Context, path string, pdus [][]byte, units int, turnaround time.Duration) (ideal time.Duration, err error) {
	defer fieldbus.Prompt()()
	line := fieldbus.NewLine(path, geniMode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return 0, err
	}
	defer line.Close()
	m := genibus.NewMaster(line, clock.System, 1)
	for i := range geniExchanges {
		pdu := pdus[i/units%len(pdus)]
		if _, _, err := m.Do(ctx, byte(genibus.FirstSlave+i%units), pdu, genibus.SmallestBuffer); err != nil {
			return 0, fmt.Errorf("exchange %d: %w", i+1, err)
		}
		if i < geniExchanges-1 {
			ideal += geniIdeal(pdu, turnaround)
		}
	}
	return ideal, nil
}

// geniFar is the far end of a line: units at any address, which answer whatever
// they are asked. Replies arrive as a driver hands them over, eight bytes at a
// time.
type geniFar struct {
	turnaround  time.Duration
	dec         genibus.Decoder
	coming      []arrival
	first, last time.Time // of the requests
}

// Hear is wire.Far's.
func (f *geniFar) Hear(b []byte, at time.Time, _ int) {
	for len(b) > 0 {
		b = b[f.dec.Feed(b):]
		for {
			t, ok := f.dec.Next()
			if !ok {
				break
			}
			if f.first.IsZero() {
				f.first = at
			}
			f.last = at
			reply := geniReply(t, func(genibus.Class, byte) byte { return 1 }).Append(nil)
			begin := at.Add(genibus.Wire(t.Size()) + f.turnaround)
			for k, chunk := range slices.Collect(slices.Chunk(reply, 8)) {
				f.coming = append(f.coming, arrival{begin.Add(genibus.Wire(8*k + len(chunk))), chunk})
			}
		}
	}
}

// Due is wire.Far's.
func (f *geniFar) Due(now time.Time, send func([]byte) time.Time) time.Duration {
	for len(f.coming) > 0 && !f.coming[0].at.After(now) {
		send(f.coming[0].bytes)
		f.coming = f.coming[1:]
	}
	return 0
}

// Next is wire.Far's.
func (f *geniFar) Next() time.Time {
	if len(f.coming) == 0 {
		return time.Time{}
	}
	return f.coming[0].at
}

// Idle is wire.Far's.
func (f *geniFar) Idle() bool { return len(f.coming) == 0 }

// geniReply answers the GETs of a request.
func geniReply(t genibus.Telegram, value func(class genibus.Class, id byte) byte) genibus.Telegram {
	reply := genibus.Telegram{Start: genibus.DataReply, To: t.From, From: t.To}
	for rest := t.PDU; ; {
		a, more, ok, _ := genibus.Next(rest)
		if !ok {
			return reply
		}
		rest = more
		data := make([]byte, 0, len(a.Data))
		for _, id := range a.Data {
			data = append(data, value(a.Class, id))
		}
		reply.PDU = genibus.APDU{Class: a.Class, Code: byte(genibus.OK), Data: data}.Append(reply.PDU)
	}
}

// geniPacking is the time that the planned telegrams take, the least that any
// packing of the same points could take, and the number of points. The least is
// a bound: as few telegrams as the bytes fill, no class in two of them.
func geniPacking(p *profile.Profile, turnaround time.Duration, periods ...time.Duration) (planned, best time.Duration, values int) {
	for _, pdu := range poll.Telegrams(p, genibus.SmallestBuffer, periods...) {
		planned += geniIdeal(pdu, turnaround)
	}
	ids := map[[2]int]bool{}
	classes := map[int]bool{}
	for _, it := range p.Items {
		if len(periods) > 0 && !slices.Contains(periods, it.Period) {
			continue
		}
		values++
		classes[it.Geni.Class] = true
		for _, id := range it.Geni.IDs {
			ids[[2]int{it.Geni.Class, int(id)}] = true
		}
	}
	request, reply := 2*len(classes), 2*len(classes)
	for id := range ids {
		request++
		reply += profile.GeniWidth(id[0])
	}
	room := genibus.Room(genibus.SmallestBuffer)
	telegrams := (max(request, reply) + room - 1) / room
	best = genibus.Wire(telegrams*2*genibus.Overhead+request+reply) + time.Duration(telegrams)*(turnaround+genibus.Gap)
	return planned, best, values
}

// geniAllocs is how many allocations a transaction makes once it is under way.
func geniAllocs(transactions int) (float64, error) {
	clk := &geniClock{}
	line := &geniSteady{clk: clk}
	for n := range line.replies {
		pdu := genibus.AppendGet(nil, genibus.Measured, make([]byte, n)...)
		line.replies[n] = genibus.Telegram{Start: genibus.DataReply, To: 1, From: 32, PDU: pdu}.Append(nil)
	}
	m := genibus.NewMaster(line, clk, 1)
	pdu := genibus.AppendGet(nil, genibus.Measured, 37, 39, 34, 35, 36)
	var before, after runtime.MemStats
	for i := range transactions + 100 {
		if i == 100 {
			runtime.ReadMemStats(&before)
		}
		if _, _, err := m.Do(context.Background(), 32, pdu, genibus.SmallestBuffer); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return perTransaction(after.Mallocs-before.Mallocs, transactions), nil
}

// geniSteady is a line that answers at once, and allocates nothing itself.
type geniSteady struct {
	clk     *geniClock
	replies [16][]byte
	next    []byte
}

func (s *geniSteady) Write(b []byte) (time.Time, error) {
	at := s.clk.Now()
	s.next = s.replies[b[5]&0x0F]
	s.clk.now = s.clk.now.Add(30 * time.Millisecond)
	return at, nil
}

func (s *geniSteady) Read(p []byte, _ time.Time) (int, error) {
	n := copy(p, s.next)
	s.next = s.next[n:]
	return n, nil
}

func (s *geniSteady) Quiet(d time.Duration, _ []byte) (int, error) {
	s.clk.now = s.clk.now.Add(d)
	return 0, nil
}

// geniClock is a clock that moves only by waiting.
type geniClock struct{ now time.Time }

func (c *geniClock) Now() time.Time { return c.now }

func (c *geniClock) Sleep(_ context.Context, d time.Duration) error {
	c.now = c.now.Add(max(d, 0))
	return nil
}
