package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// plant is a bus at 19200 8E1 in real time: virtual pumps on a pseudo-terminal,
// and the scheduler that reads them. The pumps with the highest addresses are
// dead.
type plant struct {
	bus   *poll.Bus
	sim   *pumpsim.Simulator
	watch *watchedPort
	stop  context.CancelFunc
	done  sync.WaitGroup
	err   error // of the simulator; read after done
}

const (
	plantPoints = 40 // of each pump
	plantFamily = "cim-epump"
)

// plantProfile is a family's first points, so many as the benchmark reads.
func plantProfile() (*profile.Profile, error) {
	full, ok := profile.Builtin().Lookup(plantFamily)
	if !ok {
		return nil, fmt.Errorf("there is no pump family %s", plantFamily)
	}
	p := *full
	p.Items = slices.Clone(full.Items)
	if len(p.Items) > plantPoints {
		// A set-point is read back from the point that a command names.
		keep := func(it profile.Item) bool { return it.Point.Name == "user_setpoint" }
		i := slices.IndexFunc(p.Items, keep)
		if i >= plantPoints {
			p.Items[plantPoints-1] = p.Items[i]
		}
		p.Items = p.Items[:plantPoints]
	}
	return &p, nil
}

func newPlant(ctx context.Context, pumps, dead int, sink func(telemetry.Reading)) (*plant, error) {
	family, err := plantProfile()
	if err != nil {
		return nil, err
	}
	sim, err := pumpsim.New(pumpsim.Options{Seed: 1})
	if err != nil {
		return nil, err
	}
	p := &plant{sim: sim, watch: &watchedPort{dead: map[byte]bool{}}}
	cfg := poll.Config{Name: "bench", Port: sim.Path()}
	for i := range pumps {
		address := i + 1
		cfg.Devices = append(cfg.Devices, poll.Device{Address: address, Profile: family})
		if i >= pumps-dead {
			p.watch.dead[byte(address)] = true
		} else if _, err := sim.AddPump(pumpsim.PumpOptions{Address: address, Model: "epump"}); err != nil {
			sim.Close()
			return nil, err
		}
	}
	deps := poll.Deps{Clock: clock.System, Log: slog.New(slog.DiscardHandler), Open: p.watch.open}
	if p.bus, err = poll.NewBus(cfg, deps); err != nil {
		sim.Close()
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	polling, halt := context.WithCancel(running)
	p.stop = halt
	p.done.Go(func() {
		defer stop()
		defer fieldbus.Prompt()()
		_ = p.bus.Run(polling, sink) // it has no error but nil
	})
	p.done.Go(func() { p.err = sim.Run(running) })
	return p, nil
}

// close ends the bus first, then the pumps.
func (p *plant) close() error {
	p.stop()
	p.done.Wait()
	return p.err
}

// watchedPort is a serial port that measures how long devices that are dead
// were waited for, from their request to the end of the wait.
type watchedPort struct {
	fieldbus.Port
	dead  map[byte]bool
	since time.Time    // of a request to a dead device; owned by the bus
	spent atomic.Int64 // nanoseconds
}

func (w *watchedPort) open(path string, mode fieldbus.Mode) (_ fieldbus.Port, err error) {
	w.Port, err = fieldbus.OpenSerial(path, mode)
	return w, err
}

// Write is fieldbus.Port's.
func (w *watchedPort) Write(b []byte) (int, error) {
	if w.since = (time.Time{}); w.dead[b[0]] {
		w.since = clock.System.Now()
	}
	return w.Port.Write(b)
}

// Read is fieldbus.Port's. The first time-out ends the wait for a dead device.
func (w *watchedPort) Read(b []byte) (int, error) {
	n, err := w.Port.Read(b)
	if n == 0 && err == nil && !w.since.IsZero() {
		w.spent.Add(int64(clock.System.Now().Sub(w.since)))
		w.since = time.Time{}
	}
	return n, err
}

// wait sleeps in real time.
func wait(ctx context.Context, d time.Duration) error {
	return errors.Join(clock.System.Sleep(ctx, d), ctx.Err())
}
