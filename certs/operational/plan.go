package operational

import (
	"fmt"
	"time"
)

// Of a certificate's life: where it is renewed from, over how much more a fleet
// that was installed on one day is spread, and from where on somebody should know
// that it has not been renewed.
const (
	renewFrom   = 0.60
	renewSpread = 0.05
	alarmFrom   = 0.85
)

// patience is how many refusals in a row it takes to doubt a certificate rather
// than the service: an endpoint that is restarted may refuse once.
const patience = 3

// step is what is to be done about the certificate.
type step int

const (
	rest  step = iota
	enrol      // with the factory identity
	renew      // with the certificate itself
)

// view is a moment, as far as it decides about the next step.
type view struct {
	now   time.Time // by the trusted clock
	known bool      // somebody vouches for now
	have  bool      // there is a certificate; what follows is of it
	life  life
	// refused: the services do not let it in, nor any other that there is.
	refused bool
}

// life is from when until when a certificate is good.
type life struct {
	from, to time.Time
	// spread is where in the fleet's spread it stands, 0 to 1. It is the
	// certificate's own, so that a restart does not draw again.
	spread float64
}

// at is the time when that part of the life has passed.
func (l life) at(part float64) time.Time {
	return l.from.Add(time.Duration(part * float64(l.to.Sub(l.from))))
}

// due is when it is to be renewed.
func (l life) due() time.Time { return l.at(renewFrom + renewSpread*l.spread) }

// decide says what is to be done, from when on (by the trusted clock; zero: at
// once, or with rest: when something happens), and why.
func decide(v view) (do step, due time.Time, why string) {
	switch {
	case !v.have:
		return enrol, time.Time{}, "there is no operational certificate yet"
	case v.known && v.now.After(v.life.to):
		return enrol, time.Time{}, "the operational certificate expired on " + date(v.life.to)
	case v.refused:
		return enrol, time.Time{}, fmt.Sprintf("the services have refused the operational certificate %d times", patience)
	case !v.known:
		return rest, time.Time{}, "nobody has told the time yet"
	case v.now.Before(v.life.due()):
		return rest, v.life.due(), "renewal begins at 60 % of its life"
	}
	return renew, v.life.due(), "60 % of its life have passed"
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// haste is what attempts are paced by: how badly the gateway needs one.
type haste int

const (
	// calm: the certificate has weeks to go.
	calm haste = iota
	// pressing: the gateway is out of service until then, and perhaps somebody
	// stands in front of it.
	pressing
	// unwelcome: the authority has refused. Whoever can change that is not here.
	unwelcome
	// fruitless: the authority gives, and what it gave before did not help. Another
	// certificate helps no more; a session that is let in ends it at once.
	fruitless
)

// pace says when the next attempt may be made, by the machine's own clock, which
// no correction moves.
type pace struct {
	rand     func() float64
	failures int
	until    time.Time // zero: at once
}

// Bounds of the interval between attempts, which doubles; an attempt is made between
// half of it and the whole. Those of calm shrink
// with the certificate's life, so that one of a day is not asked for once a day.
var bounds = map[haste]struct{ least, most time.Duration }{
	calm:      {2 * time.Hour, 24 * time.Hour},
	pressing:  {time.Second, 5 * time.Minute},
	unwelcome: {time.Minute, time.Hour},
	fruitless: {time.Minute, 24 * time.Hour},
}

// attempted notes an attempt at now. whole is the certificate's whole life, after
// is how long the authority asked to be left alone.
func (p *pace) attempted(now time.Time, h haste, whole, after time.Duration) {
	least, most := bounds[h].least, bounds[h].most
	if h == calm {
		least, most = min(least, whole/50), min(most, whole/10)
	}
	interval := least
	for n := 0; n < p.failures && interval < most; n++ {
		interval = min(2*interval, most) // a shift by all failures would overflow
	}
	interval = min(interval, most)
	p.failures++
	// The half that is certain keeps attempts apart; the rest spreads a fleet.
	p.until = now.Add(after + interval/2 + time.Duration(p.rand()*float64(interval/2)))
}

// reset forgets what failed.
func (p *pace) reset() { p.failures, p.until = 0, time.Time{} }
