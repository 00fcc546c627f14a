package operational

import (
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs"
	"penstock/internal/disk/faultdisk"
)

// TestThePowerMayGoAtEveryWriteOfEnrolmentAndRenewal cuts it at each, in every way
// that a disk forgets, and starts the gateway again. It must find an identity that
// the services let in, without anybody's help and, once it was enrolled, without
// asking the factory identity; it must come to a good certificate; and the authority
// must never have reason to suspect a second board.
func TestThePowerMayGoAtEveryWriteOfEnrolmentAndRenewal(t *testing.T) {
	// script is the life: first start, then on to the renewal. It returns when the
	// power has gone, or both are done.
	script := func(w *world, d *faultdisk.Disk) {
		w.start()
		for range 70 {
			time.Sleep(day)
			if _, err := d.Stat(identityDir); err != nil {
				break // the power went
			}
		}
		w.stop()
	}
	total, enrolled := 0, 0
	synctest.Test(t, func(t *testing.T) {
		d := faultdisk.New()
		w := newWorldOn(t, d)
		before := d.Operations()
		w.start()
		time.Sleep(day)
		w.stop()
		enrolled = d.Operations()
		w.start()
		time.Sleep(70 * day)
		w.stop()
		total = d.Operations()
		if n := len(w.requests("simplereenroll")); n != 1 || enrolled-before < 10 || total-enrolled < 10 {
			t.Fatalf("%d renewals; %d operations, then %d", n, enrolled-before, total-enrolled)
		}
	})
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for n := 1; n <= total; n++ {
		for seed := range seeds {
			synctest.Test(t, func(t *testing.T) {
				d := faultdisk.New()
				w := newWorldOn(t, d)
				if n <= d.Operations() {
					return // while it was provisioned
				}
				d.CutAt(n)
				script(w, d)
				w.mustHaveNoAlarm()
				hadOne, keysBefore := w.sessionCount() > 0, w.keys()

				w.disk = d.AfterCut(seed)
				sessions := w.sessionCount()
				w.start()
				time.Sleep(time.Minute)
				if w.sessionCount() == sessions {
					t.Fatalf("cut at %d, seed %d: no session within a minute of the restart", n, seed)
				}
				if asked := w.requests("simpleenroll"); hadOne && len(asked) > 1 {
					t.Fatalf("cut at %d, seed %d: the identity that it had is gone", n, seed)
				}
				time.Sleep(70 * day)
				w.stop()
				s := w.lastSession()
				if part(s.leaf, time.Now()) > 0.66 {
					t.Errorf("cut at %d, seed %d: not renewed", n, seed)
				}
				// One key for the enrolment, one for each renewal, and none besides. The
				// script begins one renewal, and what follows ends it or makes a further one.
				if more := w.keys() - keysBefore; w.keys() > 3 || more > 2 {
					t.Errorf("cut at %d, seed %d: certificates for %d keys, %d after the cut", n, seed, w.keys(), more)
				}
				if got := w.files(); got != certs.OperationalFile {
					t.Errorf("cut at %d, seed %d: in the folder: %s", n, seed, got)
				}
				w.mustHaveNoAlarm()
			})
			if t.Failed() {
				return
			}
		}
	}
}
