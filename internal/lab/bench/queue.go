package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

func init() {
	Register("queue", "durable appends and draining of the queue beside bbolt; memory and recovery with a large backlog", queueBench)
}

const (
	queueRecordBytes = 300
	queueGroup       = 50
	queueRecords     = 400_000
	queueRuns        = 5 // of each program, in turn; the median counts
	backlogBytes     = 1 << 30
	backlogRecords   = backlogBytes/queueRecordBytes + 1
)

// queueJob is one job of queuesubject or of its peer.
type queueJob struct {
	name    string
	dir     string
	records int
}

type queueDone struct {
	records int
	took    time.Duration
	peak    int64 // resident bytes
}

func (d queueDone) perSecond() float64 { return float64(d.records) / d.took.Seconds() }

func runQueueJob(ctx context.Context, program string, j queueJob) (d queueDone, err error) {
	cmd := exec.CommandContext(ctx, program, "-job", j.name, "-dir", j.dir, "-records", strconv.Itoa(j.records),
		"-size", strconv.Itoa(queueRecordBytes), "-group", strconv.Itoa(queueGroup))
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return d, fmt.Errorf("%s -job %s: %w: %s", filepath.Base(program), j.name, err, problems.String())
	}
	var micros int64
	if _, err := fmt.Sscanf(string(out), "done %d %d %d", &d.records, &micros, &d.peak); err != nil {
		return d, fmt.Errorf("%s -job %s ended with %q: %w", filepath.Base(program), j.name, out, err)
	}
	d.took = time.Duration(max(micros, 1)) * time.Microsecond
	return d, nil
}

// queueBench works in a temporary folder (TMPDIR): that should be on a disk, and
// not in memory.
func queueBench(ctx context.Context, emit func(Metric)) (err error) {
	shop, err := newWorkshop(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close()) }()
	ours, err := shop.build(ctx, "internal/lab/bench/queuesubject", "queuesubject")
	if err != nil {
		return err
	}
	bbolt, err := shop.build(ctx, "internal/lab/peers/bbolt", "bbolt")
	if err != nil {
		return err
	}
	kind, err := fileSystem(shop.dir)
	if err != nil {
		return err
	}
	conditions := func(more map[string]any) map[string]any {
		keys := map[string]any{"record_bytes": queueRecordBytes, "fs": kind}
		for k, v := range more {
			keys[k] = v
		}
		return keys
	}

	type cell struct{ program, job string }
	rates := map[cell][]float64{}
	for range queueRuns {
		round, err := os.MkdirTemp(shop.dir, "queue-")
		if err != nil {
			return err
		}
		// What is compared lies side by side in time.
		for _, step := range []cell{{"", "append"}, {"bbolt", "append"}, {"", "bare"}, {"", "drain"}, {"bbolt", "read"}, {"bbolt", "drain"}} {
			program, dir := ours, filepath.Join(round, "queue")
			switch {
			case step.program == "bbolt":
				program, dir = bbolt, filepath.Join(round, "bbolt")
			case step.job == "bare":
				dir = filepath.Join(round, "bare")
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			d, err := runQueueJob(ctx, program, queueJob{step.job, dir, queueRecords})
			if err != nil {
				return err
			}
			if d.records != queueRecords {
				return fmt.Errorf("%s -job %s: %d records of %d", program, step.job, d.records, queueRecords)
			}
			rates[step] = append(rates[step], d.perSecond())
		}
		if err := os.RemoveAll(round); err != nil {
			return err
		}
	}
	middle := func(program, job string) float64 {
		r := slices.Clone(rates[cell{program, job}])
		slices.Sort(r)
		return r[len(r)/2]
	}
	// The median of the rounds' ratios, and not the ratio of the medians: who else
	// uses the disk changes from minute to minute.
	against := func(program, job string) float64 {
		ours, other := rates[cell{"", "append"}], rates[cell{program, job}]
		ratios := make([]float64, len(ours))
		for i := range ratios {
			ratios[i] = ours[i] / other[i]
		}
		slices.Sort(ratios)
		return ratios[len(ratios)/2]
	}
	emit(Metric{"append_records_per_s", middle("", "append"), "/s", conditions(map[string]any{"group": queueGroup, "runs": queueRuns})})
	emit(Metric{"append_records_per_s", middle("bbolt", "append"), "/s", conditions(map[string]any{"group": queueGroup, "runs": queueRuns, "peer": "bbolt"})})
	emit(Metric{"append_against_bbolt", against("bbolt", "append"), "1", conditions(map[string]any{"group": queueGroup})})
	// How much of what the disk can do when it does nothing else.
	emit(Metric{"append_against_bare_file", against("", "bare"), "1", conditions(map[string]any{"group": queueGroup, "bare_records_per_s": middle("", "bare")})})
	emit(Metric{"drain_records_per_s", middle("", "drain"), "/s", conditions(map[string]any{"runs": queueRuns})})
	emit(Metric{"drain_records_per_s", middle("bbolt", "drain"), "/s", conditions(map[string]any{"runs": queueRuns, "peer": "bbolt"})})
	emit(Metric{"read_records_per_s", middle("bbolt", "read"), "/s", conditions(map[string]any{"runs": queueRuns, "peer": "bbolt"})})
	return queueBacklog(ctx, shop.dir, ours, conditions, emit)
}

// queueBacklog fills a queue with a large backlog, kills it, opens it again,
// goes on appending and drains it all.
func queueBacklog(ctx context.Context, parent, ours string, conditions func(map[string]any) map[string]any, emit func(Metric)) error {
	dir, err := os.MkdirTemp(parent, "backlog-")
	if err != nil {
		return err
	}
	filled, err := runQueueJob(ctx, ours, queueJob{"fill", dir, backlogRecords})
	if err != nil {
		return err
	}
	var recoveries []float64
	peak := filled.peak
	for range queueRuns {
		d, err := runQueueJob(ctx, ours, queueJob{"recover", dir, 0})
		if err != nil {
			return err
		}
		recoveries = append(recoveries, d.took.Seconds()*1000)
		peak = max(peak, d.peak)
	}
	slices.Sort(recoveries)
	for _, j := range []queueJob{{"append", dir, queueRecords}, {"drain", dir, 0}} {
		d, err := runQueueJob(ctx, ours, j)
		if err != nil {
			return err
		}
		if want := backlogRecords + queueRecords; j.name == "drain" && d.records != want {
			return fmt.Errorf("drained %d records of %d", d.records, want)
		}
		peak = max(peak, d.peak)
	}
	keys := conditions(map[string]any{"backlog_bytes": backlogBytes})
	emit(Metric{"backlog_rss_bytes", float64(peak), "By", keys})
	emit(Metric{"recovery_ms", recoveries[len(recoveries)/2], "ms", conditions(map[string]any{"backlog_bytes": backlogBytes, "runs": queueRuns, "stop": "killed"})})
	return nil
}

// fileSystem names the kind of file system that dir is on.
func fileSystem(dir string) (string, error) {
	out, err := exec.Command("stat", "-f", "-c", "%T", dir).Output()
	if err != nil {
		return "", fmt.Errorf("what file system is %s on: %w", dir, err)
	}
	return string(bytes.TrimSpace(out)), nil
}
