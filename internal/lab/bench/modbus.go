package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
)

func init() {
	Register("modbus", "Modbus RTU reads beside the wire-time ideal, ours and three peers' (about 9 min)", modbusBench)
}

// The conditions of the measurement. turnaround is the time from a request's
// last bit to the first bit of its answer: the device's own 3.5 characters, by
// which it knows that the request is over, are part of it, and the ideal holds
// the master's only.
var (
	cellSpeeds    = []int{115200, 57600, 38400, 19200, 9600}
	cellRegisters = []int{2, 20, 100, 125}
)

const (
	turnaround = 5 * time.Millisecond
	cellReads  = 64
)

// ideal is the time of one read when nobody is ever late.
func ideal(mode fieldbus.Mode, registers int) time.Duration {
	return mode.Wire(8+5+2*registers) + modbus.Silence(mode) + turnaround
}

func modbusBench(ctx context.Context, emit func(Metric)) (err error) {
	w, err := newWorkshop(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ours, err := w.ours(ctx)
	if err != nil {
		return err
	}
	// grid-x's master is goburrow's in this respect, and left out for its time.
	others := present(w.peers(ctx), emit, "grid-x")
	masters := append([]master{ours}, others...)
	best := summary{efficiency: math.Inf(1), silence: math.Inf(1), lead: math.Inf(1)}
	for _, baud := range cellSpeeds {
		for _, registers := range cellRegisters {
			var cells []cell
			for _, m := range masters {
				c, err := measureCell(ctx, m, baud, registers)
				if err := excuse(ctx, m, err, emit); err != nil {
					return err
				}
				if err == nil {
					c.emit(emit)
					cells = append(cells, c)
				}
			}
			best.add(cells)
		}
	}
	best.emit(emit)
	return costs(ctx, w, masters, emit)
}

// excuse turns what went wrong with a peer into a line. With our own master it
// is an error.
func excuse(ctx context.Context, m master, err error, emit func(Metric)) error {
	if err == nil || m.name == "" || ctx.Err() != nil {
		return err
	}
	emit(Metric{"peer_failed", 1, "1", map[string]any{"peer": m.name, "reason": err.Error()}})
	return nil
}

// summary is the worst of all cells.
type summary struct {
	efficiency, silence float64
	lead                float64 // our efficiency over that of the best peer that keeps the silence
}

// add takes in the masters of one condition.
func (s *summary) add(cells []cell) {
	i := slices.IndexFunc(cells, func(c cell) bool { return c.peer == "" })
	if i < 0 {
		return
	}
	ours := cells[i]
	s.efficiency, s.silence = min(s.efficiency, ours.efficiency), min(s.silence, ours.silence)
	for _, c := range cells {
		if c.peer != "" && c.silence >= 1 && c.efficiency > 0 {
			s.lead = min(s.lead, ours.efficiency/c.efficiency)
		}
	}
}

func (s *summary) emit(emit func(Metric)) {
	emit(Metric{"modbus_efficiency_min", s.efficiency, "1", nil})
	emit(Metric{"silence_min_t35", s.silence, "1", nil})
	if !math.IsInf(s.lead, 1) {
		emit(Metric{"modbus_lead_min", s.lead, "1", map[string]any{"over": "the best peer that keeps the silence"}})
	}
}

// cell is the outcome of one condition.
type cell struct {
	peer                string
	baud, registers     int
	efficiency, silence float64
	late, latest        time.Duration
	done                done
}

func (c cell) emit(emit func(Metric)) {
	keys := func() map[string]any {
		k := map[string]any{"baud": c.baud, "regs": c.registers, "turnaround_ms": turnaround.Milliseconds()}
		if c.peer != "" {
			k["peer"] = c.peer
		}
		return k
	}
	emit(Metric{"modbus_efficiency", c.efficiency, "1", keys()})
	emit(Metric{"silence_min_t35", c.silence, "1", keys()})
	emit(Metric{"wire_lateness_us", float64(c.late.Nanoseconds()) / 1000, "us", keys()})
	emit(Metric{"wire_lateness_max_us", float64(c.latest.Nanoseconds()) / 1000, "us", keys()})
	if c.done.failed > 0 {
		emit(Metric{"failed_reads", float64(c.done.failed), "1", keys()})
	}
}

func measureCell(ctx context.Context, m master, baud, registers int) (cell, error) {
	mode := fieldbus.Mode{Baud: baud, Parity: fieldbus.EvenParity, StopBits: 1}
	d, w, err := serveJob(ctx, m, mode, job{regs: registers, count: cellReads, timeout: time.Second})
	for again := 0; errors.Is(err, errDisturbed) && again < 3; again++ {
		d, w, err = serveJob(ctx, m, mode, job{regs: registers, count: cellReads, timeout: time.Second})
	}
	if err != nil {
		return cell{}, fmt.Errorf("%d baud, %d registers, %s: %w", baud, registers, m.name, err)
	}
	c := cell{peer: m.name, baud: baud, registers: registers, done: d}
	c.efficiency = efficiency(mode, registers, w.periods())
	if len(w.silences) > 0 {
		c.silence = float64(slices.Min(w.silences)) / float64(modbus.Silence(mode))
	}
	if len(w.late) > 0 {
		c.late, c.latest = time.Duration(median(w.late)), time.Duration(slices.Max(w.late))
	}
	return c, nil
}

// efficiency is the ideal's share of the median time from request to request.
func efficiency(mode fieldbus.Mode, registers int, periods []int64) float64 {
	if len(periods) == 0 {
		return 0
	}
	return float64(ideal(mode, registers)) / float64(median(periods))
}

// serveJob runs a master on a wire of its own.
func serveJob(ctx context.Context, m master, mode fieldbus.Mode, j job) (d done, w *wire, err error) {
	w, err = newWire(mode, turnaround)
	if err != nil {
		return d, nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	j.port, j.baud = w.near.Name(), mode.Baud
	stop := make(chan struct{})
	var served error
	var wait sync.WaitGroup
	wait.Go(func() { served = w.serve(stop) })
	d, err = m.run(ctx, j, nil)
	close(stop)
	wait.Wait()
	return d, w, errors.Join(err, served)
}

// costs measures what a transaction takes of the processor and of memory.
func costs(ctx context.Context, w *workshop, masters []master, emit func(Metric)) error {
	const reads, registers = 500, 20
	mode := fieldbus.Mode{Baud: 115200, Parity: fieldbus.EvenParity, StopBits: 1}
	j := job{regs: registers, count: reads, timeout: time.Second}
	keys := func(more ...any) map[string]any {
		k := map[string]any{"baud": mode.Baud, "regs": registers}
		for i := 0; i < len(more); i += 2 {
			k[more[i].(string)] = more[i+1]
		}
		return k
	}
	perThousand := func(d done) float64 { return d.cpu.Seconds() * 1000 * 1000 / reads }
	for _, m := range masters {
		d, _, err := serveJob(ctx, m, mode, j)
		if err := excuse(ctx, m, err, emit); err != nil {
			return err
		}
		if err != nil {
			continue
		}
		k := keys("machine", "native")
		if m.name != "" {
			k["peer"] = m.name
		} else {
			emit(Metric{"allocs_per_transaction", perTransaction(d.allocs, reads), "1", keys("of", "goburrow's client and ours")})
		}
		emit(Metric{"cpu_ms_per_1000", perThousand(d), "ms", k})
	}
	j.raw = true
	d, _, err := serveJob(ctx, masters[0], mode, j)
	if err != nil {
		return err
	}
	emit(Metric{"allocs_per_transaction", perTransaction(d.allocs, reads), "1", keys("of", "ours")})
	j.raw = false
	arm, err := w.emulated(ctx)
	if err == nil {
		d, _, err = serveJob(ctx, arm, mode, j)
	}
	if err != nil {
		// Where it cannot be emulated the other figures stand.
		emit(Metric{"not_measured", 1, "1", map[string]any{"what": "cpu_ms_per_1000 on ARMv7", "reason": err.Error()}})
		return ctx.Err()
	}
	emit(Metric{"cpu_ms_per_1000", perThousand(d), "ms", keys("machine", "armv7 under qemu-user")})
	return nil
}

// perTransaction leaves out the few allocations of starting and ending.
func perTransaction(allocs uint64, reads int) float64 {
	return float64(int(float64(allocs)/float64(reads)*100)) / 100
}
