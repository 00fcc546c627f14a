package operational

import (
	"fmt"
	"time"
)

// Status is the operational identity at one moment; times are the trusted clock's.
type Status struct {
	Have     bool // there is a certificate; the next four are of it
	Issuer   string
	NotAfter time.Time
	Days     int  // that it has to go, 0 when it has expired
	Unproven bool // no service has let it in yet

	LastAttempt time.Time // zero: none in this run
	LastError   string    // of it, "" when it was good
	NextAttempt time.Time // zero: when something happens
	Why         string    // what the next attempt is for, or waits for

	Problem string // that somebody should know of, "" if there is none
}

// Status tells how it is.
func (o *Identity) Status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.view()
	var s Status
	do, due, why := decide(v)
	s.NextAttempt, s.Why = due, why
	if do != rest {
		s.NextAttempt = v.now
		if wait := o.pace.until.Sub(o.cfg.Clock.Now()); !o.pace.until.IsZero() && wait > 0 {
			s.NextAttempt = v.now.Add(wait)
		}
	}
	if !o.last.at.IsZero() {
		s.LastAttempt = v.now.Add(-o.cfg.Clock.Now().Sub(o.last.at))
	}
	if o.last.err != nil {
		s.LastError = o.last.err.Error()
	}
	if p := o.chosen(); p != nil {
		s.Have, s.Issuer, s.NotAfter, s.Unproven = true, p.chain[0].Issuer.CommonName, v.life.to, p == o.next
		s.Days = max(int(v.life.to.Sub(v.now)/(24*time.Hour)), 0)
	}
	s.Problem = o.problem(v, do)
	return s
}

// problem is what somebody should know of. mu is held.
func (o *Identity) problem(v view, do step) string {
	switch {
	case o.trouble != "":
		return o.trouble
	case !v.have && o.pace.failures > 0:
		return "the gateway could not enrol yet, and no service lets it in without"
	case !v.have:
		return ""
	case v.known && v.now.After(v.life.to):
		return "expired on " + date(v.life.to) + "; the gateway goes on polling and storing, and its factory identity asks for another"
	case v.refused:
		return "the services refuse it; the gateway goes on polling and storing, and its factory identity asks for another"
	case v.known && do == renew && v.now.After(v.life.at(alarmFrom)):
		return fmt.Sprintf("%.0f %% of its life have passed and it could not be renewed; it expires on %s", 100*alarmFrom, date(v.life.to))
	}
	return ""
}
