package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/fieldbus/pumpsim"
	"penstock/internal/lab"
)

func init() {
	Register("footprint", "size of the ARM firmware, its memory at work, its time from start to the first reading", footprint)
}

const (
	footprintPumps = 2
	footprintWork  = 60 * time.Second // at work before its memory is read
	footprintRuns  = 5                // starts, of which the median counts
)

func footprint(ctx context.Context, emit func(Metric)) (err error) {
	dir, err := os.MkdirTemp("", "penstock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	arm, err := lab.BuildARM(ctx, dir)
	if err != nil {
		return err
	}
	st, err := os.Stat(arm)
	if err != nil {
		return err
	}
	emit(Metric{"arm_binary_bytes", float64(st.Size()), "By", map[string]any{"goarm": 7, "stripped": true}})

	programs, err := lab.Build(ctx, filepath.Join(dir, "bin"))
	if err != nil {
		return err
	}
	site := &lab.Site{Dir: dir, Programs: programs, Period: time.Minute, Pumps: footprintPumps}
	defer site.Abandon()
	free := lab.Addresses{Auth: "127.0.0.1:0", Endpoint: "127.0.0.1:0", Web: "127.0.0.1:0"}
	for _, step := range []func() error{
		func() error { return site.StartCloud(ctx, free) },
		func() error { return site.Provision(ctx) },
		func() error { return site.StartPumps(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	var starts []float64
	for i := range footprintRuns {
		started := time.Now()
		if err := site.StartGateway(ctx); err != nil {
			return err
		}
		if err := site.AwaitReadings(ctx); err != nil {
			return err
		}
		first, err := firstAnswer(site.ServedLog(), started)
		if err != nil {
			return err
		}
		starts = append(starts, first.Sub(started).Seconds()*1000)
		if i < footprintRuns-1 {
			if err := site.GatewayProc.Stop(ctx); err != nil {
				return err
			}
		}
	}
	slices.Sort(starts)
	emit(Metric{"start_to_first_reading_ms", starts[len(starts)/2], "ms", map[string]any{"pumps": footprintPumps, "runs": footprintRuns}})

	select {
	case <-time.After(footprintWork):
	case <-ctx.Done():
		return ctx.Err()
	}
	rss, err := residentBytes(site.GatewayProc.PID())
	if err != nil {
		return err
	}
	emit(Metric{"gateway_rss_bytes", float64(rss), "By", map[string]any{"pumps": footprintPumps, "after_s": footprintWork.Seconds()}})
	return site.Finish(ctx)
}

// firstAnswer is when the first whole answer after started had left the pump.
func firstAnswer(log string, started time.Time) (time.Time, error) {
	f, err := os.Open(log)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	var first time.Time
	err = pumpsim.ReadServed(f, func(s pumpsim.Served) error {
		if first.IsZero() && s.Began.After(started) && s.Sent && !s.Altered() && s.Exception == 0 {
			first = s.Done
		}
		return nil
	})
	if err == nil && first.IsZero() {
		err = fmt.Errorf("%s: no answer after %v", log, started)
	}
	return first, err
}

// residentBytes is VmRSS of a process.
func residentBytes(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if value, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}
