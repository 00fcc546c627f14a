package bench

import (
	"context"
	"fmt"
	"time"
)

func init() {
	Register("stall", "silence after one late and one lost answer, and values missing in 10 h of few faults (about 1 min)", stallBench)
}

// One answer of a pump is late by stallLate once the line has run for stallAfter, and
// one is lost stallApart later. Then it is watched for stallWatched.
const (
	stallLate    = 500 * time.Millisecond
	stallAfter   = time.Minute
	stallApart   = 30 * time.Second
	stallWatched = 5 * time.Minute
	stallLong    = 10 * time.Hour
)

// stallPumps is how many pumps are on the line.
const stallPumps = 1

// stallDays are the faults of the long runs.
var stallDays = []struct{ name, faults string }{
	{"none", ""},
	{"lost", "silence=0.01"},
	{"late", "late=0.001:500ms"},
	{"lost and late", "silence=0.01,late=0.001:500ms"},
}

func stallBench(ctx context.Context, emit func(Metric)) error {
	for _, protocol := range protocols {
		calm, err := calmly(ctx, protocol, stallPumps)
		if err != nil {
			return err
		}
		silent, wrong, err := calm.stalled(ctx)
		if err != nil {
			return err
		}
		keys := map[string]any{"protocol": string(protocol), "fault": "one late, one lost", "late_ms": stallLate.Milliseconds(), "apart_s": stallApart.Seconds()}
		emit(Metric{"longest_silence_ms", float64(silent.Milliseconds()), "ms", keys})
		emit(Metric{"wrong_values", float64(wrong), "1", keys})
		for _, day := range stallDays {
			p, err := calm.line(day.faults, 1)
			if err != nil {
				return err
			}
			if err := p.run(ctx, stallLong, false, false); err != nil {
				return err
			}
			j := &p.judge
			keys := map[string]any{"protocol": string(protocol), "fault": day.name, "pumps": stallPumps, "requests": j.requests}
			emit(Metric{"missing_in_10h", float64(j.missing), "1", keys})
			emit(Metric{"wrong_values", float64(j.wrong), "1", keys})
			emit(Metric{"longest_silence_ms", float64(j.silence().Milliseconds()), "ms", keys})
		}
	}
	return nil
}

// stalled has one answer late and one lost, and tells how long the pump's fastest
// values then stayed away, beyond their period.
func (c *calm) stalled(ctx context.Context) (silent time.Duration, wrong int, err error) {
	faults := ""
	// Which requests are struck is found by playing the time before them.
	for i, after := range []time.Duration{stallAfter, stallAfter + stallApart} {
		p, err := c.line(faults, 1)
		if err != nil {
			return 0, 0, err
		}
		if err := p.run(ctx, stallAfter+stallApart+10*time.Second, false, false); err != nil {
			return 0, 0, err
		}
		n, err := p.judge.requestAt(after)
		if err != nil {
			return 0, 0, err
		}
		faults += []string{fmt.Sprintf("late=@%d:%v,", n, stallLate), fmt.Sprintf("silence=@%d", n)}[i]
	}
	p, err := c.line(faults, 1)
	if err != nil {
		return 0, 0, err
	}
	if err := p.run(ctx, stallAfter+stallApart+stallWatched, false, false); err != nil {
		return 0, 0, err
	}
	return p.judge.silence(), p.judge.wrong, nil
}

// requestAt is the number of the first request that was sent so long after the start.
func (j *judge) requestAt(after time.Duration) (int, error) {
	for _, p := range j.pumps {
		for _, a := range p.asks {
			if a.at.Sub(j.began) >= after {
				return a.number, nil
			}
		}
	}
	return 0, fmt.Errorf("no request was sent %v after the start or later", after)
}

// silence is the longest that a pump's fastest values stayed away, beyond their
// period.
func (j *judge) silence() (longest time.Duration) {
	for _, p := range j.pumps {
		longest = max(longest, max(p.silent, j.now().Sub(p.fresh))-p.fast)
	}
	return longest
}
