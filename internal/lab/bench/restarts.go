package bench

import (
	"context"
	"math/rand/v2"
	"time"
)

func init() {
	Register("restarts", "wrong and missing values in 2,000 kills of a polling gateway whose answers come late (about 1 min)", restartsBench)
}

// A gateway is killed restarts times, after a life of lifeLeast to lifeMost each.
const (
	restarts  = 2000
	lifeLeast = 2 * time.Second
	lifeMost  = 12 * time.Second
	learning  = 2 * time.Minute // that the first gateway lives, and learns how late answers are
)

// restartLateness is how late answers are: what the first gateway can learn, and
// what comes after it.
var restartLateness = []struct{ name, learnt, then string }{
	{"none", "", ""},
	{"0.8-1.4s", "800ms-1400ms", "800ms-1400ms"},
	{"up to 10 times what was learnt", "800ms-1400ms", "800ms-14s"},
	{"0.8-14s, nothing learnt", "", "800ms-14s"},
}

// restartLateShare is the share of the answers that are late.
const restartLateShare = "0.3"

func restartsBench(ctx context.Context, emit func(Metric)) error {
	for _, protocol := range protocols {
		calm, err := calmly(ctx, protocol, faultPumps)
		if err != nil {
			return err
		}
		punctual := 0 // values of gateways whose answers are never late
		for _, l := range restartLateness {
			p, err := calm.restarted(ctx, l.learnt, l.then, restarts, 1)
			if err != nil {
				return err
			}
			j := &p.judge
			keys := map[string]any{"protocol": string(protocol), "fault": "late", "rate": 0.3, "lateness": l.name, "restarts": restarts, "pumps": calm.pumps}
			emit(Metric{"wrong_values", float64(j.wrong), "1", keys})
			emit(Metric{"missing_values", float64(j.missing), "1", keys})
			if l.then == "" {
				punctual = j.good + j.absent
			}
			emit(Metric{"good_values", float64(j.good), "1", keys})
			emit(Metric{"missing_share", 1 - float64(j.good+j.absent)/float64(max(punctual, 1)), "1", keys})
			emit(Metric{"wire_time_per_value", p.wire.Seconds() * 1000 / float64(max(j.good, 1)), "ms", keys})
		}
	}
	return nil
}

// restarted kills gateways on a line. The first lives long enough to learn; it is not
// judged but for wrong values.
func (c *calm) restarted(ctx context.Context, learnt, then string, times int, seed int64) (*polling, error) {
	p, err := c.line(lateRule(learnt), seed)
	if err != nil {
		return nil, err
	}
	if err := p.run(ctx, learning, true, false); err != nil {
		return nil, err
	}
	if err := p.setFaults(lateRule(then), seed+1); err != nil {
		return nil, err
	}
	p.judge.counts, p.wire = counts{wrong: p.judge.wrong}, 0
	lives := rand.New(rand.NewPCG(uint64(seed), 0xD1E))
	for range times {
		life := lifeLeast + time.Duration(lives.Int64N(int64(lifeMost-lifeLeast)))
		if err := p.run(ctx, life, true, true); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func lateRule(amount string) string {
	if amount == "" {
		return ""
	}
	return "late=" + restartLateShare + ":" + amount
}
