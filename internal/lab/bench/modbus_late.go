package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	terminal "penstock/fieldbus/pumpsim/wire"
	"penstock/internal/clock"
)

func init() {
	Register("modbus-late", "wrong values under late, repeated, foreign, split and damaged replies, ours and peers' (about 2 min)", modbusLate)
}

// lateTransactions is how many are made in memory.
const lateTransactions = 1_000_000

func modbusLate(ctx context.Context, emit func(Metric)) error {
	o, err := manyDays(ctx, 1, lateTransactions, false)
	if err != nil {
		return err
	}
	emit(Metric{"wrong_values", float64(o.wrong), "1", map[string]any{
		"transactions": o.transactions, "answered": o.answered, "failed": o.failed, "damaged": o.damaged, "on": "injected clock",
	}})
	if o, err = manyDays(ctx, 1, lateTransactions, true); err != nil {
		return err
	}
	emit(Metric{"crc_collisions", float64(o.wrong), "1", map[string]any{
		"transactions": o.transactions, "corrupted": o.damaged, "expected": float64(o.damaged) / 65536, "on": "injected clock",
	}})
	return lateInRealTime(ctx, emit)
}

// manyDays plays days until so many transactions have been made. Each has a
// master of its own, which has yet to learn what its devices are capable of.
func manyDays(ctx context.Context, first uint64, transactions int, overwrites bool) (all outcome, err error) {
	for seed := first; all.transactions < transactions; seed++ {
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		o, err := newDay(seed, overwrites).play(ctx, func(l *fieldbus.Line) reader { return modbus.NewMaster(l) })
		if err != nil {
			return all, err
		}
		all.add(o)
	}
	return all, nil
}

// lateInRealTime plays the first day, the one that the run in memory begins
// with, to ours and to the peers, each on a pseudo-terminal of its own, all at
// the same time.
func lateInRealTime(ctx context.Context, emit func(Metric)) (err error) {
	w, err := newWorkshop(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ours, err := w.ours(ctx)
	if err != nil {
		return err
	}
	d := newDay(1, false)
	list := filepath.Join(w.dir, "reads")
	if err := os.WriteFile(list, []byte(d.list()), 0o600); err != nil {
		return err
	}
	masters := append([]master{ours}, present(w.peers(ctx), emit)...)
	outcomes, errs := make([]outcome, len(masters)), make([]error, len(masters))
	var wait sync.WaitGroup
	for i, m := range masters {
		wait.Go(func() { outcomes[i], errs[i] = d.live(ctx, m, list) })
	}
	wait.Wait()
	for i, m := range masters {
		if errs[i] != nil {
			if err := excuse(ctx, m, errs[i], emit); err != nil {
				return err
			}
			continue
		}
		o := outcomes[i]
		keys := map[string]any{"reads": len(d.reads), "answered": o.answered, "failed": o.failed, "on": "pty"}
		if m.name != "" {
			keys["peer"] = m.name
		}
		emit(Metric{"wrong_values", float64(o.wrong), "1", keys})
	}
	return nil
}

// live plays the day to a master in a process of its own.
func (d *day) live(ctx context.Context, m master, list string) (o outcome, err error) {
	port, err := terminal.Open("", clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		return o, err
	}
	defer port.Close()
	l := d.line(nil)
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- port.Serve(serving, &far{badLine: l}) }()

	now, mono := clock.System.Now(), monotonic()
	var lines []string
	job := job{port: port.Path(), baud: d.mode.Baud, regs: 1, list: list, timeout: lateTimeout, attempts: lateAttempts, log: true}
	_, err = m.run(ctx, job, func(line string) { lines = append(lines, line) })
	stop()
	if err := errors.Join(err, <-served); err != nil {
		return o, err
	}
	return d.judge(l, lines, func(micros int64) time.Time {
		return now.Add(time.Duration(micros)*time.Microsecond - time.Duration(mono))
	})
}

// judge compares a master's log with what the line served. at turns the log's
// times into the line's.
func (d *day) judge(l *badLine, lines []string, at func(micros int64) time.Time) (o outcome, err error) {
	if len(lines) != len(d.reads) {
		return o, fmt.Errorf("%d lines about %d reads", len(lines), len(d.reads))
	}
	o.transactions, o.damaged = l.requests, l.damaged
	for i, line := range lines {
		r := d.reads[i]
		micros, rest, _ := strings.Cut(line, " ")
		if rest == "error" {
			o.failed++
			continue
		}
		stated, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return o, fmt.Errorf("read %d: %w", i+1, err)
		}
		var values []uint16
		for _, field := range strings.Fields(rest) {
			v, err := strconv.ParseUint(field, 10, 16)
			if err != nil {
				return o, fmt.Errorf("read %d: %w", i+1, err)
			}
			values = append(values, uint16(v))
		}
		o.answered++
		if len(values) != r.Count || !l.devices[r.Address].verdict(r.Start, values, at(stated)) {
			o.wrong++
		}
	}
	return o, nil
}
