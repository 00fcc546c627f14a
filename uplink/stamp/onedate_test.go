package stamp

import (
	"io/fs"
	"syscall"
	"testing"
	"time"

	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/uplink/queue"
)

// TestAGapThatWaitsHasOneDate: it was sent and not acknowledged, then the clock is
// corrected, and the machine booted. The endpoint compares the contents of a name.
func TestAGapThatWaitsHasOneDate(t *testing.T) {
	for _, correction := range []time.Duration{-5 * time.Second, 5 * time.Second, time.Hour} {
		w, d := newWorld(), faultdisk.New()
		a := w.boot(truth, built)
		q := mustOpen(t, d, a)
		a.told()
		mustMeasure(t, w, q, a, 3)
		d = d.AfterCut(0)
		b := w.boot(a.now().Add(time.Minute), built)
		q = mustOpen(t, d, b) // finds the gap, and does not know the time
		b.known, b.off = true, correction
		mustDeliver(t, w, q, queue.Urgent, false, 1)
		b.told()
		b.off = 0 // signed time says otherwise
		mustMeasure(t, w, q, b, 3)
		mustDeliver(t, w, q, queue.Urgent, false, 1)
		d = d.AfterCut(0)
		c := w.boot(b.now().Add(time.Minute), built)
		q = mustOpen(t, d, c)
		c.told()
		mustMeasure(t, w, q, c, 1)
		mustDeliver(t, w, q, queue.Urgent, false, 2) // and that of the second cut
		for _, s := range w.wrong {
			t.Errorf("corrected by %v: %s", -correction, s)
		}
	}
}

// refusing is a disk that is full.
type refusing struct{ disk.FS }

func (refusing) OpenFile(string, int, fs.FileMode) (disk.File, error) { return nil, syscall.ENOSPC }

// TestNothingIsSentUnderADateThatTheDiskHasNotTaken: a power cut would forget the date,
// and the record would be sent again under another.
func TestNothingIsSentUnderADateThatTheDiskHasNotTaken(t *testing.T) {
	w, d := newWorld(), faultdisk.New()
	a := w.boot(truth, built)
	q := mustOpen(t, d, a)
	mustMeasure(t, w, q, a, 3)
	a.known, a.off = true, time.Hour
	q.boots.fsys = refusing{d}
	mustDeliver(t, w, q, queue.History, false, 0)
	q.boots.fsys = d
	mustDeliver(t, w, q, queue.History, false, 3)
	d = d.AfterCut(0)
	b := w.boot(a.now().Add(time.Minute), built)
	q = mustOpen(t, d, b)
	b.told()
	mustDeliver(t, w, q, queue.History, false, 3)
	for _, s := range w.wrong {
		t.Error(s)
	}
}
