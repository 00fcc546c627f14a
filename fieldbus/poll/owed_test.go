package poll

import (
	"bytes"
	"context"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/internal/telemetry"
)

// TestAnAnswerOwedToWhoeverWasKilledIsNotTaken has a device answer, some time after
// the start, what the gateway before had asked: the very frame that this one asks
// first. The values are of before the start, and must not be delivered.
func TestAnAnswerOwedToWhoeverWasKilledIsNotTaken(t *testing.T) {
	p := epump(t)
	mode := fieldbus.Default
	// play runs a bus for a while and counts the values that the registers held only
	// before it began. asked is its first request; owed, if any, is answered after wait.
	play := func(waits bool, owed []byte, wait time.Duration) (asked []byte, good, old int) {
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		began := clk.Now()
		value := func(second int64) func(int) uint16 {
			return func(r int) uint16 {
				if r >= 30 && r <= 32 {
					return uint16(r) // what it is does not change
				}
				return uint16(r)<<7 ^ uint16(second%128)
			}
		}
		if owed != nil {
			before := &slave{p: p, hold: value(began.Unix() - 60)}
			a := before.answer(owed)
			port.Deliver(began.Add(wait+mode.Wire(len(a))), a...)
		}
		now := &slave{p: p}
		port.OnWrite = func(q []byte, at time.Time) {
			if asked == nil && q[3] != 29 { // not the identity
				asked = bytes.Clone(q)
			}
			now.hold = value(clk.Now().Unix())
			a := now.answer(q)
			port.Deliver(at.Add(mode.Wire(len(q))+silence(mode)+100*time.Millisecond+mode.Wire(len(a))), a...)
		}
		bus, err := NewBus(Config{Name: "bus1", Port: "memory", Devices: []Device{{Address: 1, Profile: p}}}, Deps{Clock: clk, Log: discard, Open: port.Open})
		if err != nil {
			t.Fatal(err)
		}
		if waits {
			bus.Owed(0)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := bus.Run(ctx, func(x telemetry.Reading) {
			if clk.Now().Sub(began) > 5*time.Second {
				cancel()
			}
			if x.Quality != telemetry.Good {
				return
			}
			it, _ := p.Item(bus.groups[x.Group].Series[x.Series].Point)
			held := func(second int64) bool {
				var regs []uint16
				for r := it.Register; r <= it.Last(); r++ {
					regs = append(regs, value(second)(r))
				}
				raw, q := it.Decode(regs)
				return q == x.Quality && raw == x.Raw
			}
			fresh := false
			for second := began.Unix(); second <= clk.Now().Unix(); second++ {
				fresh = fresh || held(second)
			}
			if !fresh {
				old++
			}
			good++
		}); err != nil {
			t.Fatal(err)
		}
		return asked, good, old
	}
	first, good, old := play(false, nil, 0)
	if good == 0 || old > 0 {
		t.Fatalf("nobody is owed anything: %d values, %d of before", good, old)
	}
	taken := 0
	for wait := time.Duration(0); wait < 1200*time.Millisecond; wait += 7 * time.Millisecond {
		if _, good, old := play(true, first, wait); old > 0 || good == 0 {
			t.Fatalf("an answer that comes %v after the start: %d of %d values are of before it", wait, old, good)
		}
		if _, _, old := play(false, first, wait); old > 0 {
			taken++
		}
	}
	if taken == 0 {
		t.Error("no answer would have been taken without the wait: the test proves nothing")
	}
}

// TestAStopInOrderLeavesNoAnswerOwed stops a bus right after a request, or while it
// waits for what another is owed: whoever opens the line next knows of neither.
func TestAStopInOrderLeavesNoAnswerOwed(t *testing.T) {
	p := epump(t)
	mode := fieldbus.Default
	stop := func(answers, owed bool) (asked int, took time.Duration) {
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		since := clk.Now()
		now := &slave{p: p, hold: func(r int) uint16 { return uint16(r) }}
		port.OnWrite = func(q []byte, at time.Time) {
			asked++
			since = at
			if answers {
				a := now.answer(q)
				port.Deliver(at.Add(mode.Wire(len(q)+len(a))+silence(mode)), a...)
			}
			cancel()
		}
		bus, err := NewBus(Config{Name: "bus1", Port: "memory", Devices: []Device{{Address: 1, Profile: p}}}, Deps{Clock: clk, Log: discard, Open: port.Open})
		if err != nil {
			t.Fatal(err)
		}
		if owed {
			bus.Owed(0)
			cancel()
		}
		if err := bus.Run(ctx, func(telemetry.Reading) {}); err != nil {
			t.Fatal(err)
		}
		return asked, clk.Now().Sub(since)
	}
	if asked, took := stop(false, false); asked != 1 || took < p.Timing.Quiet {
		t.Errorf("%d requests without an answer: the line is left after %v, and the answer may come for %v", asked, took, p.Timing.Quiet)
	}
	if asked, took := stop(true, false); asked != 1 || took >= p.Timing.Quiet/2 {
		t.Errorf("%d requests, answered: the line is left after %v only, and nothing is owed", asked, took)
	}
	if asked, took := stop(true, true); asked != 0 || took < p.Timing.Quiet {
		t.Errorf("stopped while it waits for what another is owed: %d requests, the line is left after %v", asked, took)
	}
}
