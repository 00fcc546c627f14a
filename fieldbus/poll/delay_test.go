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
	for _, known := range []string{"configuration", "family", ""} {
		family := *epump(t) // its own: other tests use the library's
		p := &family
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		s := &slave{p: p, hold: func(int) uint16 { return 7 }}
		port.OnWrite = func(q []byte, at time.Time) {
			a := s.answer(q)
			mode := fieldbus.Default
			port.Deliver(at.Add(mode.Wire(len(q))+silence(mode)+wait+mode.Wire(len(a))), a...)
		}
		d := Device{Address: 1, Profile: p}
		switch known {
		case "configuration":
			d.ReplyDelay = wait
		case "family":
			p.Timing.ReplyDelay = wait
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
			t.Errorf("known %q: %d good readings, the device is %s", known, good, state)
		}
	}
}

// TestAPauseThatIsKnownLosesNothing: a drive that does not hear a request which
// begins sooner than 60 ms after its last answer is read without a loss where the
// family or the configuration says so.
func TestAPauseThatIsKnownLosesNothing(t *testing.T) {
	const pause = 60 * time.Millisecond
	for _, known := range []string{"configuration", "family", ""} {
		family := *epump(t) // its own: other tests use the library's
		p := &family
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		s := &slave{p: p, hold: func(int) uint16 { return 7 }}
		var spoke time.Time
		dropped, asked, good := 0, 0, 0
		port.OnWrite = func(q []byte, at time.Time) {
			asked++
			if at.Before(spoke.Add(pause)) {
				dropped++
				return
			}
			a, mode := s.answer(q), fieldbus.Default
			spoke = at.Add(mode.Wire(len(q)) + silence(mode) + mode.Wire(len(a)))
			port.Deliver(spoke, a...)
		}
		d := Device{Address: 1, Profile: p}
		switch known {
		case "configuration":
			d.Pause = pause
		case "family":
			p.Timing.Pause = pause
		}
		bus, err := NewBus(Config{Name: "bus1", Port: "memory", Devices: []Device{d}}, Deps{Clock: clk, Log: discard, Open: port.Open})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
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
		if known == "" {
			if dropped == 0 {
				t.Error("no request came within the pause: the test shows nothing")
			}
			continue
		}
		if state := bus.Status().Devices[0].State; dropped > 0 || good < 300 || state == Failing || state == Dead {
			t.Errorf("known by %q: %d of %d requests were dropped, %d good readings, the device is %s", known, dropped, asked, good, state)
		}
	}
}
