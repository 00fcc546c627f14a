package operational

import (
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs/est"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

func TestAGatewayEnrolsWhenItFirstStarts(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(time.Second)
		s := w.lastSession()
		if s.at.Sub(w.requests("")[0].at) > time.Second {
			t.Errorf("the session came %v after the enrolment", s.at.Sub(w.requests("")[0].at))
		}
		if got := w.files(); got != "operational.pem" {
			t.Errorf("in the folder: %s", got)
		}
		if st, err := w.disk.Stat(identityDir + "/operational.pem"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		st := w.o.Status()
		if !st.Have || st.Days != 89 || st.Unproven || st.Problem != "" || st.LastError != "" || time.Until(st.NextAttempt) < 53*day || time.Until(st.NextAttempt) > 60*day {
			t.Errorf("%+v", st)
		}
		// And a restart asks nobody.
		w.stop()
		w.start()
		time.Sleep(day)
		if n := len(w.requests("")); n != 1 {
			t.Errorf("%d requests", n)
		}
		if !w.lastSession().leaf.Equal(s.leaf) {
			t.Error("another certificate")
		}
	})
}

// TestAnInstallerDoesNotWaitLong: the service comes up while somebody stands there.
func TestAnInstallerDoesNotWaitLong(t *testing.T) {
	play(t, func(w *world) {
		w.answer = away
		w.start()
		time.Sleep(100 * time.Millisecond)
		if st := w.o.Status(); st.Problem == "" || !strings.Contains(st.LastError, "connection refused") || time.Until(st.NextAttempt) > time.Second || st.Have {
			t.Errorf("%+v", st)
		}
		time.Sleep(30 * time.Second)
		w.set(func() { w.answer = nil })
		began := time.Now()
		time.Sleep(time.Minute)
		if took := w.lastSession().at.Sub(began); took > 35*time.Second {
			t.Errorf("in service %v after the authority", took)
		}
	})
}

// TestRetryAfterIsHonoured: by a service that has too much to do, that is out of
// order, or where somebody has to consent first (202: RFC 7030, 4.2.3).
func TestRetryAfterIsHonoured(t *testing.T) {
	for _, status := range []int{429, 503, 202} {
		play(t, func(w *world) {
			w.answer = func(what string) error {
				if what == "cacerts" || what == "csrattrs" {
					return nil
				}
				return &est.Error{Status: status, RetryAfter: 10 * time.Minute}
			}
			w.start()
			synctest.Wait()
			w.set(func() { w.answer = nil })
			time.Sleep(10*time.Minute - time.Second)
			first := w.requests("")
			if len(first) != 1 {
				t.Fatalf("%d: %d requests", status, len(first))
			}
			time.Sleep(10 * time.Second)
			w.lastSession()
			if all := w.requests(""); all[len(all)-1].key != first[0].key {
				t.Errorf("%d: another key", status)
			}
		})
	}
}

// TestACertificateIsRenewedForYears: each from 60 % of its life on, each with a new
// key, nobody asked twice, and the session never without one.
func TestACertificateIsRenewedForYears(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(6 * 365 * day)
		renewals := w.requests("simplereenroll")
		if n := len(renewals); n < 6*365/58-1 || n > 6*365/54+1 {
			t.Errorf("%d renewals in six years", n)
		}
		if n := len(w.requests("simpleenroll")); n != 1 {
			t.Errorf("%d enrolments", n)
		}
		w.stop()
		keys := map[[32]byte]bool{}
		for i, s := range w.sessions {
			if keys[keyOf(s.leaf)] {
				t.Error("a key is used again")
			}
			keys[keyOf(s.leaf)] = true
			if i > 0 {
				if p := part(w.sessions[i-1].leaf, s.at); p < 0.6 || p > 0.651 {
					t.Errorf("renewed at %.3f of its life", p)
				}
			}
		}
		if len(w.sessions) != len(renewals)+1 {
			t.Errorf("%d sessions for %d certificates", len(w.sessions), len(renewals)+1)
		}
		w.mustHaveNoAlarm()
	})
}

// TestADrawerIsSurvived: a gateway without power until its certificate has expired
// enrols again, by itself.
func TestADrawerIsSurvived(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(time.Hour)
		w.stop()
		time.Sleep(365 * day)
		w.start()
		synctest.Wait()
		time.Sleep(time.Second)
		s := w.lastSession()
		if time.Since(s.at) > time.Second || time.Until(s.leaf.NotAfter) < 89*day {
			t.Errorf("a session of %v with a certificate until %v", s.at, s.leaf.NotAfter)
		}
		if n := len(w.requests("simpleenroll")); n != 2 {
			t.Errorf("%d enrolments", n)
		}
		w.mustHaveNoAlarm()
	})
}

// TestADrawerIsSurvivedWithoutAClock: the same in 1970, when nobody has told the
// time. The services say that the certificate has expired.
func TestADrawerIsSurvivedWithoutAClock(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(time.Hour)
		w.stop()
		time.Sleep(365 * day)
		w.set(func() { w.off, w.known, w.undated = -31*365*day, false, true })
		w.start()
		time.Sleep(time.Minute)
		if s := w.lastSession(); time.Until(s.leaf.NotAfter) < 89*day {
			t.Errorf("a session of %v with a certificate until %v", s.at, s.leaf.NotAfter)
		}
		w.mustHaveNoAlarm()
	})
}

// TestAWrongClockDoesNoHarm: set to 2099 by a lie and back, for a time.
func TestAWrongClockDoesNoHarm(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(10 * day)
		w.set(func() { w.off = 99 * 365 * day })
		w.o.Look()
		time.Sleep(2 * day)
		w.set(func() { w.off = 0 })
		w.o.Look()
		time.Sleep(30 * day)
		if st := w.o.Status(); st.Problem != "" || !st.Have {
			t.Errorf("%+v", st)
		}
		w.mustHaveNoAlarm()
	})
}

// TestAWrongClockDoesNotAskAllDay: one that somebody vouches for, while the servers
// do not mind. Each certificate seems to have expired when it comes.
func TestAWrongClockDoesNotAskAllDay(t *testing.T) {
	play(t, func(w *world) {
		w.undated = true
		w.start()
		time.Sleep(day)
		w.set(func() { w.off = 400 * day })
		w.o.Look()
		time.Sleep(day)
		if n := len(w.requests("")); n > 45 {
			t.Errorf("%d requests in a day", n)
		}
		w.mustHaveNoAlarm()
	})
}

// TestAnUnknownClockDeclaresNothingExpired: what a clock says that nobody vouches
// for is no reason to do anything.
func TestAnUnknownClockDeclaresNothingExpired(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		w.stop()
		w.set(func() { w.off, w.known, w.undated = 400*day, false, true })
		w.start()
		time.Sleep(day)
		if n := len(w.requests("")); n != 1 {
			t.Errorf("%d requests", n)
		}
		if st := w.o.Status(); st.Problem != "" {
			t.Errorf("%+v", st)
		}
		w.set(func() { w.off, w.known = 0, true })
		w.o.Look()
		time.Sleep(80 * day)
		if n := len(w.requests("simplereenroll")); n != 1 {
			t.Errorf("%d renewals once it is known", n)
		}
	})
}

func refuseOf(c func(*x509.Certificate) bool) func(*x509.Certificate) error {
	return func(leaf *x509.Certificate) error {
		if c(leaf) {
			return errRefused
		}
		return nil
	}
}

// TestANewCertificateThatIsRefusedIsSetAside: the one before serves on, the new one
// is tried again later, and what comes of it is the same key's.
func TestANewCertificateThatIsRefusedIsSetAside(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		old := w.lastSession().leaf
		w.set(func() { w.endpoint = refuseOf(func(c *x509.Certificate) bool { return keyOf(c) != keyOf(old) }) })
		time.Sleep(60 * day)
		if s := w.lastSession(); !s.leaf.Equal(old) || part(old, s.at) < 0.6 {
			t.Fatalf("the last session is of %v, with a certificate until %v", s.at, s.leaf.NotAfter)
		}
		st := w.o.Status()
		if !strings.Contains(st.LastError, "was refused") || st.NextAttempt.IsZero() || !st.NotAfter.Equal(old.NotAfter) {
			t.Errorf("%+v", st)
		}
		if got := w.files(); got != "next.pem operational.pem" {
			t.Errorf("in the folder: %s", got)
		}
		if p := w.o.Status().Problem; p != "" {
			t.Errorf("a problem before 85 %% of its life: %s", p)
		}
		time.Sleep(17 * day)
		if p := w.o.Status().Problem; !strings.Contains(p, "85 % of its life") {
			t.Errorf("the problem after 85 %% of its life: %q", p)
		}
		w.set(func() { w.endpoint = nil })
		time.Sleep(2 * day)
		if s := w.lastSession(); s.leaf.Equal(old) {
			t.Error("still the old one")
		}
		if n := w.keys(); n != 2 {
			t.Errorf("certificates for %d keys", n)
		}
		if n := len(w.requests("simplereenroll")); n > 40 {
			t.Errorf("%d requests in some three weeks", n)
		}
		w.mustHaveNoAlarm()
	})
}

// TestARevokedGatewaySlowsDownAndComesBack: it asks hourly; let in again, with its
// keys still revoked, it enrols with a new one, and no clone is suspected.
func TestARevokedGatewaySlowsDownAndComesBack(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		old := w.lastSession().leaf
		turned := 0
		w.set(func() {
			w.answer = func(string) error { turned++; return errRefused }
			w.revoked[keyOf(old)] = true
		})
		w.again <- struct{}{} // the endpoint drops it
		time.Sleep(time.Hour)
		before := read(w, func() int { return turned })
		time.Sleep(10 * day)
		if n := read(w, func() int { return turned }) - before; n < 10*24-30 || n > 2*10*24+20 {
			t.Errorf("asked %d times in ten days", n)
		}
		if st := w.o.Status(); !strings.Contains(st.Problem, "refuse it") || time.Until(st.NextAttempt) > time.Hour {
			t.Errorf("%+v", st)
		}
		w.set(func() { w.answer = nil })
		began := time.Now()
		time.Sleep(time.Hour + time.Minute)
		s := w.lastSession()
		if keyOf(s.leaf) == keyOf(old) || s.at.Before(began) {
			t.Errorf("a session at %v, let in again at %v", s.at, began)
		}
		w.mustHaveNoAlarm()
	})
}

// TestTheAuthorityMayBeAwayForMonths: the gateway asks on, rarely while its
// certificate is good and sooner when it is not, and is back when the authority is.
func TestTheAuthorityMayBeAwayForMonths(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		asked := 0
		w.set(func() { w.answer = func(string) error { asked++; return away("") } })
		time.Sleep(87 * day)
		if n := read(w, func() int { return asked }); n < 20 || n > 60 {
			t.Errorf("asked %d times from 60 %% of its life to its end", n)
		}
		if st := w.o.Status(); !strings.Contains(st.Problem, "85 %") || !st.Have {
			t.Errorf("%+v", st)
		}
		time.Sleep(120 * day)
		if st := w.o.Status(); !strings.Contains(st.Problem, "expired on") || time.Until(st.NextAttempt) > 5*time.Minute {
			t.Errorf("%+v", st)
		}
		w.set(func() { w.answer = nil })
		began := time.Now()
		time.Sleep(6 * time.Minute)
		if s := w.lastSession(); s.at.Before(began) {
			t.Errorf("the last session is of %v", s.at)
		}
		w.mustHaveNoAlarm()
	})
}

// TestTheEndpointMayBeAwayForMonths while the authority is there: what was renewed
// and never let in by the endpoint is renewed in its turn.
func TestTheEndpointMayBeAwayForMonths(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(50 * day)
		w.set(func() { w.up = false })
		time.Sleep(300 * day)
		if n := len(w.requests("simpleenroll")); n != 1 {
			t.Errorf("%d enrolments while the authority was there all the time", n)
		}
		w.stop() // and it finds its way after a restart
		w.start()
		w.set(func() { w.up = true })
		time.Sleep(6 * time.Minute)
		if s := w.lastSession(); time.Since(s.at) > 6*time.Minute {
			t.Errorf("the last session is of %v", s.at)
		}
		if got := w.files(); got != "operational.pem" {
			t.Errorf("in the folder: %s", got)
		}
		w.mustHaveNoAlarm()
	})
}

// TestALostAnswerIsAskedForAgainWithTheSameKey, for both kinds of request, over
// restarts.
func TestALostAnswerIsAskedForAgainWithTheSameKey(t *testing.T) {
	play(t, func(w *world) {
		lost := 0
		w.after = func(string) error { lost++; return away("") }
		w.start()
		for range 5 {
			time.Sleep(time.Minute)
			w.stop()
			w.start()
		}
		w.set(func() { w.after = nil })
		time.Sleep(6 * time.Minute)
		if n := w.keys(); n != 1 || read(w, func() int { return lost }) < 5 {
			t.Errorf("certificates for %d keys after answers that were lost", n)
		}
		w.lastSession()
		w.set(func() { w.after = func(string) error { return away("") } })
		time.Sleep(65 * day)
		w.stop()
		w.start()
		time.Sleep(5 * day)
		w.set(func() { w.after = nil })
		time.Sleep(2 * day)
		if n := w.keys(); n != 2 {
			t.Errorf("certificates for %d keys after the renewal", n)
		}
		if p := part(w.lastSession().leaf, time.Now()); p > 0.1 {
			t.Errorf("the certificate in use is at %.2f of its life", p)
		}
		w.mustHaveNoAlarm()
	})
}

// TestARenewalThatWasLostAndThenADrawer: the authority has certified a key that the
// gateway never heard of, and what the gateway has expires.
func TestARenewalThatWasLostAndThenADrawer(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(time.Hour)
		w.set(func() { w.after = func(string) error { return away("") } })
		time.Sleep(65 * day)
		w.stop()
		w.set(func() { w.after = nil })
		time.Sleep(30 * day)
		w.start()
		time.Sleep(time.Minute)
		if s := w.lastSession(); time.Since(s.at) > time.Minute || w.keys() != 2 {
			t.Errorf("the last session is of %v; %d keys", s.at, w.keys())
		}
		w.mustHaveNoAlarm()
	})
}

// TestARefusedCertificateIsReplacedWithTheSameKey: an endpoint that is out of order
// refuses everybody. Nobody must take that for a fleet of clones.
func TestARefusedCertificateIsReplacedWithTheSameKey(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		w.set(func() { w.endpoint = refuseOf(func(*x509.Certificate) bool { return true }) })
		w.again <- struct{}{}
		time.Sleep(10 * day)
		if n := len(w.requests("")); n > 10*24*3/2 {
			t.Errorf("%d requests in ten days", n)
		}
		w.set(func() { w.endpoint = nil })
		time.Sleep(6 * time.Minute)
		if s := w.lastSession(); time.Since(s.at) > 6*time.Minute {
			t.Errorf("the last session is of %v", s.at)
		}
		if n := w.keys(); n != 1 {
			t.Errorf("certificates for %d keys", n)
		}
		time.Sleep(200 * day)
		if n := len(w.requests("simpleenroll")); n > 10*24*3/2 {
			t.Errorf("%d enrolments: it still does not trust its certificate", n)
		}
		w.mustHaveNoAlarm()
	})
}

// TestAnAuthorityThatWantsAnotherKeyGetsOne: some take no key twice.
func TestAnAuthorityThatWantsAnotherKeyGetsOne(t *testing.T) {
	play(t, func(w *world) {
		w.start()
		time.Sleep(day)
		old := w.lastSession().leaf
		w.stop()
		time.Sleep(100 * day)
		w.set(func() { w.revoked[keyOf(old)] = true }) // 403 for this key, whoever asks
		w.start()
		time.Sleep(10 * time.Second)
		if s := w.lastSession(); keyOf(s.leaf) == keyOf(old) {
			t.Error("no session with another key")
		}
	})
}

// TestDamagedFilesAreSaidAndReplaced, whichever it is.
func TestDamagedFilesAreSaidAndReplaced(t *testing.T) {
	for _, file := range []string{"operational.pem", "next.pem", "next.key"} {
		play(t, func(w *world) {
			w.start()
			time.Sleep(day)
			w.stop()
			if err := disk.WriteFile(w.disk, identityDir+"/"+file, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.start()
			time.Sleep(70 * day)
			if s := w.lastSession(); part(s.leaf, time.Now()) > 0.66 {
				t.Errorf("%s: the last session is of %v", file, s.at)
			}
			if got := w.files(); got != "operational.pem" && file != "next.pem" {
				t.Errorf("%s: in the folder: %s", file, got)
			}
		})
	}
}

// TestADiskThatRefusesStopsNothing: the pair that there is serves, and what could
// not be kept is asked for again.
func TestADiskThatRefusesStopsNothing(t *testing.T) {
	play(t, func(w *world) {
		d := w.disk.(*faultdisk.Disk)
		w.start()
		time.Sleep(day)
		d.SetReadOnly(true)
		time.Sleep(60 * day)
		st := w.o.Status()
		if !st.Have || !strings.Contains(st.LastError, "read-only") {
			t.Errorf("%+v", st)
		}
		d.SetReadOnly(false)
		time.Sleep(2 * day)
		if p := part(w.lastSession().leaf, time.Now()); p > 0.1 {
			t.Errorf("the certificate in use is at %.2f of its life", p)
		}
		w.mustHaveNoAlarm()
	})
}
