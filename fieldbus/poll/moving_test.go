package poll

import (
	"context"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/internal/telemetry"
)

// moving is a clock as real ones are: between two looks at it some time has passed.
type moving struct{ *linetest.Clock }

func (c moving) Now() time.Time {
	c.Advance(time.Microsecond)
	return c.Clock.Now()
}

// TestABusAsksThoughTimeMovesOnBetweenTwoLooksAtTheClock: a device that may be asked
// at once, by a master that looks at the clock after the scheduler, is ready.
func TestABusAsksThoughTimeMovesOnBetweenTwoLooksAtTheClock(t *testing.T) {
	p := epump(t)
	mode := fieldbus.Default
	clk := moving{linetest.NewClock()}
	port := linetest.NewPort(clk.Clock)
	now := &slave{p: p, hold: func(r int) uint16 { return uint16(r) }}
	port.OnWrite = func(q []byte, at time.Time) {
		a := now.answer(q)
		port.Deliver(at.Add(mode.Wire(len(q)+len(a))+silence(mode)), a...)
	}
	bus, err := NewBus(Config{Name: "bus1", Port: "memory", Devices: []Device{{Address: 1, Profile: p}}}, Deps{Clock: clk, Log: discard, Open: port.Open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	good, looks := 0, 0
	end := clk.Clock.Now().Add(5 * time.Second)
	bus.clk = stopping{clk, func() {
		if looks++; looks > 200_000 || clk.Clock.Now().After(end) {
			cancel()
		}
	}}
	if err := bus.Run(ctx, func(x telemetry.Reading) {
		if x.Quality == telemetry.Good {
			good++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if good < 100 {
		t.Errorf("%d values in 5 s", good)
	}
}

// stopping is a clock that is told of each wait.
type stopping struct {
	moving
	waits func()
}

func (c stopping) Sleep(ctx context.Context, d time.Duration) error {
	c.waits()
	return c.moving.Sleep(ctx, d)
}
