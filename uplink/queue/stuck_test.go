package queue

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// stuckDisk is a disk on which reading, removing or the writing of the head can
// hang, as a worn card does for seconds.
type stuckDisk struct {
	disk.FS
	mu    sync.Mutex
	hangs func(what, name string) bool // guarded by mu
	free  chan struct{}                // closed: nothing hangs any more
	stuck chan string                  // receives what has begun to hang
}

func (d *stuckDisk) pass(what, name string) {
	d.mu.Lock()
	hangs := d.hangs != nil && d.hangs(what, name)
	d.mu.Unlock()
	if hangs {
		d.stuck <- what + " " + name
		<-d.free
	}
}

func (d *stuckDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag == os.O_RDONLY {
		d.pass("open", name)
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return stuckFile{f, d, name}, nil
}

func (d *stuckDisk) Remove(name string) error {
	d.pass("remove", name)
	return d.FS.Remove(name)
}

type stuckFile struct {
	disk.File
	d    *stuckDisk
	name string
}

func (f stuckFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.pass("read", f.name)
	return f.File.ReadAt(p, off)
}

func (f stuckFile) Sync() error {
	if strings.HasSuffix(f.name, headName) {
		f.d.pass("sync", f.name)
	}
	return f.File.Sync()
}

// TestTheReaderNeverBlocksTheWriter lets Peek and Discard hang in the disk, at
// every place where they touch it in a random life, for as long as the disk likes.
// Meanwhile Append goes on in both lanes, and so do Status and the other lane's
// Peek; afterwards everything is there.
func TestTheReaderNeverBlocksTheWriter(t *testing.T) {
	places := map[string]int{}
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			d := &stuckDisk{FS: faultdisk.New(), free: make(chan struct{}), stuck: make(chan string, 1)}
			c := &ticker{now: start}
			q, _ := open(t, d, c, 1)
			n := 0
			write := func(lane Lane) {
				n++
				ok(t, q.Append(lane, minute(n), fmt.Appendf(nil, "%v %d %s", lane, n, strings.Repeat("x", r.IntN(600)))))
			}
			for range 40 {
				write(History)
			}
			write(Urgent)
			// The reader is somewhere in the middle, and about to touch the disk for
			// the skip-th time from now.
			after := uint64(0)
			for range r.IntN(30) {
				rec, _, err := q.Peek(History, after, nil)
				ok(t, err)
				after = rec.Seq
			}
			skip := r.IntN(3)
			d.mu.Lock()
			d.hangs = func(string, string) bool { skip--; return skip == -1 }
			d.mu.Unlock()
			done := make(chan error, 1)
			discards := after > 0 && r.IntN(2) == 0
			go func() {
				if discards {
					c.set(minute(n + 5)) // the head is due
					done <- q.Discard(History, after)
					return
				}
				for at := uint64(0); ; {
					rec, more, err := q.Peek(History, at, nil)
					if err != nil || !more {
						done <- err
						return
					}
					at = rec.Seq
				}
			}()
			synctest.Wait()
			select {
			case place := <-d.stuck:
				what, name, _ := strings.Cut(place, " ")
				kind := "segment"
				if strings.HasSuffix(name, headName) {
					kind = "head"
				}
				places[fmt.Sprintf("discard %v: %s %s", discards, what, kind)]++
				// An Append that waits for the reader would wait for ever.
				for range 100 {
					write([]Lane{History, Urgent}[r.IntN(2)])
				}
				if s := q.Status(); s.History.Waiting+s.Urgent.Waiting < 100 {
					t.Errorf("status %+v", s)
				}
				if len(drain(t, q, Urgent)) < 10 {
					t.Error("the other lane cannot be read")
				}
			default: // the life was over before
			}
			close(d.free)
			if err := <-done; err != nil {
				t.Error(err)
			}
			waiting := len(drain(t, q, History)) + len(drain(t, q, Urgent))
			gone := 0
			if discards {
				gone = int(after)
			}
			if waiting != n-gone {
				t.Errorf("seed %d: %d of %d records are there, %d were discarded", seed, waiting, n, gone)
			}
		})
	}
	t.Logf("%v", places)
	for _, place := range []string{"discard false: open segment", "discard false: read segment", "discard true: sync head", "discard true: remove segment"} {
		if places[place] == 0 {
			t.Errorf("nothing hung at %q", place)
		}
	}
}
