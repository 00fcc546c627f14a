package operational

import (
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs/est"
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

func TestRetryAfterIsHonoured(t *testing.T) {
	play(t, func(w *world) {
		w.answer = func(string) error { return &est.Error{Status: 429, RetryAfter: 10 * time.Minute} }
		w.start()
		synctest.Wait()
		w.set(func() { w.answer = nil })
		time.Sleep(10*time.Minute - time.Second)
		if n := len(w.requests("")); n > 0 {
			t.Fatalf("%d requests too early", n)
		}
		time.Sleep(10 * time.Second)
		w.lastSession()
	})
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
		w.off, w.known, w.undated = -31*365*day, false, true
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
		w.off, w.known, w.undated = 400*day, false, true
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
		if n := len(w.issued); n != 2 {
			t.Errorf("certificates for %d keys", n)
		}
		if n := len(w.requests("simplereenroll")); n > 40 {
			t.Errorf("%d requests in some three weeks", n)
		}
		w.mustHaveNoAlarm()
	})
}
