package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/poll"
	"penstock/internal/telemetry"
)

func init() {
	Register("command", "from a command to its read-back on a busy bus, one of 8 pumps dead (about 2 min)", command)
}

const (
	commandPumps   = 8
	commandCount   = 300
	commandDead    = 250 * time.Millisecond // the dead pump's time-out
	commandBeside  = 50 * time.Millisecond
	commandTimeout = 30 * time.Second
)

// commandBound is what a command may take: the frame or the time-out that is
// under way when it comes, its own two transactions on the wire, and 50 ms.
func commandBound(mode fieldbus.Mode, longest int) time.Duration {
	frame := mode.Wire(8+5+2*longest) + modbus.Silence(mode)
	write, readBack := mode.Wire(8+8), mode.Wire(8+5+2)
	return max(frame, commandDead) + write + readBack + commandBeside
}

func command(ctx context.Context, emit func(Metric)) (err error) {
	p, err := newPlant(ctx, commandPumps, 1, func(telemetry.Reading) {})
	if err != nil {
		return err
	}
	defer func() {
		if closed := p.close(); err == nil {
			err = closed
		}
	}()
	if err := wait(ctx, 10*time.Second); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 1))
	pumps := p.bus.Pumps()
	var took []time.Duration
	failed := 0
	problem := ""
	for range commandCount {
		if err := wait(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond)))); err != nil {
			return err
		}
		cmd := poll.Command{Pump: pumps[r.IntN(commandPumps-1)].ID, Name: "setpoint", Value: fmt.Sprint(20 + r.IntN(70))}
		within, cancel := context.WithTimeout(ctx, commandTimeout)
		began := time.Now()
		_, err := p.bus.Write(within, cmd)
		cancel()
		if err != nil {
			failed++
			problem = err.Error()
			continue
		}
		took = append(took, time.Since(began))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	keys := func() map[string]any {
		return map[string]any{"pumps": commandPumps, "dead": 1, "baud": fieldbus.Default.Baud, "commands": len(took)}
	}
	if failed > 0 {
		k := keys()
		k["problem"] = problem
		emit(Metric{"command_failed", float64(failed), "1", k})
	}
	if len(took) == 0 {
		return fmt.Errorf("no command was carried out: %s", problem)
	}
	slices.Sort(took)
	emit(Metric{"command_readback_p50_ms", milliseconds(percentile(took, 0.5)), "ms", keys()})
	emit(Metric{"command_readback_p99_ms", milliseconds(percentile(took, 0.99)), "ms", keys()})
	emit(Metric{"command_readback_max_ms", milliseconds(took[len(took)-1]), "ms", keys()})
	emit(Metric{"command_bound_ms", milliseconds(commandBound(fieldbus.Default, modbus.MaxRegisters)), "ms", keys()})
	return nil
}

// percentile is the smallest of sorted that share of them do not exceed.
func percentile(sorted []time.Duration, share float64) time.Duration {
	i := int(share*float64(len(sorted)) + 0.999999)
	return sorted[min(max(i, 1), len(sorted))-1]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
