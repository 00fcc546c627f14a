// Command queuesubject is Penstock's queue as the benchmarks run it: in a
// process of its own, so that its memory can be told from the benchmark's. Its
// peer is internal/lab/peers/bbolt, which does the same jobs.
//
//	queuesubject -job append -dir DIR -records N -size 300 -group 50
//
// A job ends with one line "done RECORDS MICROSECONDS PEAK_RSS_BYTES". The jobs:
// append puts records, one durable Append a group; drain reads all records in
// order and discards each; fill is append with two large Appends a segment, and
// dies without closing; recover opens the queue, and dies, too. bare is what the
// disk itself can do: the same bytes at the end of one file, flushed as often.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"penstock/internal/disk"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

type job struct {
	name, dir            string
	records, size, group int
	limit                int64
}

func main() {
	var j job
	flag.StringVar(&j.name, "job", "append", "append, fill, drain, recover or bare")
	flag.StringVar(&j.dir, "dir", "", "folder of the queue")
	flag.IntVar(&j.records, "records", 100_000, "how many records")
	flag.IntVar(&j.size, "size", 300, "bytes of a record")
	flag.IntVar(&j.group, "group", 50, "records of an Append")
	flag.Int64Var(&j.limit, "limit", 2<<30, "bound of the queue in bytes")
	flag.Parse()
	records, took, err := j.run()
	if err != nil {
		log.Fatal(err)
	}
	rss, err := peakBytes()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("done", records, took.Microseconds(), rss)
}

func (j job) run() (records int, took time.Duration, err error) {
	if j.name == "bare" {
		return j.bare()
	}
	began := time.Now()
	q, _, err := queue.Open(disk.OS, j.dir, queue.Options{Limit: j.limit, EncodeGap: wire.GapPayload, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, 0, err
	}
	opened := time.Since(began)
	began = time.Now()
	switch j.name {
	case "append":
		err = j.fill(q)
		records, took = j.records, time.Since(began)
	case "fill":
		j.group = 128 << 10 / (j.size + 64)
		err = j.fill(q)
		return j.records, time.Since(began), err // not closed: the power goes
	case "drain":
		records, err = drain(q)
		took = time.Since(began)
	case "recover":
		return 0, opened, nil // not closed: the next one finds an unclean stop, too
	default:
		err = fmt.Errorf("there is no job %q", j.name)
	}
	return records, took, errors.Join(err, q.Close())
}

func (j job) fill(q *queue.Queue) error {
	group := make([][]byte, 0, j.group)
	content := make([]byte, j.group*j.size)
	for i := range content {
		content[i] = byte(i * 7919 >> 3)
	}
	for n := 0; n < j.records; {
		group = group[:0]
		for k := 0; k < j.group && n < j.records; k++ {
			p := content[k*j.size : (k+1)*j.size]
			copy(p, strconv.Itoa(n))
			group = append(group, p)
			n++
		}
		if err := q.Append(queue.History, time.Now(), group...); err != nil {
			return err
		}
	}
	return nil
}

func (j job) bare() (records int, took time.Duration, err error) {
	f, err := os.OpenFile(filepath.Join(j.dir, "bare"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, 0, err
	}
	group := make([]byte, j.group*j.size)
	began := time.Now()
	for ; records < j.records; records += j.group {
		if _, err = f.Write(group); err == nil {
			err = f.Sync()
		}
		if err != nil {
			break
		}
	}
	return records, time.Since(began), errors.Join(err, f.Close())
}

func drain(q *queue.Queue) (records int, err error) {
	var after uint64
	var buf []byte
	for {
		r, ok, err := q.Peek(queue.History, after, buf)
		if err != nil || !ok {
			return records, err
		}
		if err := q.Discard(queue.History, r.Seq); err != nil {
			return records, err
		}
		after, buf = r.Seq, r.Payload
		records++
	}
}

// peakBytes is VmHWM: the most memory that was resident so far.
func peakBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	if !ok {
		return 0, errors.New("/proc/self/status has no VmHWM")
	}
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10, err
}
