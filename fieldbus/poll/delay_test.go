package poll

import (
	"context"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/internal/telemetry"
)

// TestASlowDeviceIsNotDead: a module whose SlaveMinimumReplyDelay is two seconds is
// read, whether that is known beforehand or has to be learnt.
func TestASlowDeviceIsNotDead(t *testing.T) {
	const wait = 2 * time.Second
	for _, known := range []bool{true, false} {
		p := epump(t)
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		s := &slave{p: p, hold: func(int) uint16 { return 7 }}
		port.OnWrite = func(q []byte, at time.Time) {
			a := s.answer(q)
			mode := fieldbus.Default
			port.Deliver(at.Add(mode.Wire(len(q))+silence(mode)+wait+mode.Wire(len(a))), a...)
		}
		d := Device{Address: 1, Profile: p}
		if known {
			d.ReplyDelay = wait
		}
		bus, err := NewBus(Config{Name: "bus1", Port: "memory", Devices: []Device{d}}, Deps{Clock: clk, Log: discard, Open: port.Open})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		good := 0
		if err := bus.Run(ctx, func(x telemetry.Reading) {
			if clk.Now().Sub(linetest.Epoch) > 2*time.Minute {
				cancel()
			}
			if x.Quality == telemetry.Good {
				good++
			}
		}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if state := bus.Status().Devices[0].State; good < 100 || state != OK {
			t.Errorf("known %v: %d good readings, the device is %s", known, good, state)
		}
	}
}
