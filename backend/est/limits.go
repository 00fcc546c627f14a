package est

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A gateway enrols once in weeks. What it may do beyond that serves somebody at a
// bench, six times at once. In the long run it may enrol six times a day: where an
// endpoint refuses every certificate, a gateway that asks for another and another
// fills the registry and helps nobody. What all may do together keeps the signing
// key's processor free for the rest of the service.
const (
	perGateway      = 4 * time.Hour
	perGatewayBurst = 6
	// The questions that nothing is signed for (cacerts, csrattrs) come with every
	// enrolment, and have a budget of their own: they use up none of it.
	perQuestion      = 30 * time.Second
	perQuestionBurst = 20
	altogether       = 50 // a second
	altogetherBurst  = 200
)

// limits counts enrolments, or questions, of each gateway, and of all.
type limits struct {
	burst int

	mu   sync.Mutex
	all  *rate.Limiter
	each map[string]*rate.Limiter // guarded by mu; serial numbers are those of known gateways
	// every is how often a gateway may enrol in the long run.
	every time.Duration
}

// newLimits makes limits for certificates of that life: whoever renews in time is
// never kept waiting.
func newLimits(life time.Duration) *limits {
	l := &limits{burst: perGatewayBurst, all: rate.NewLimiter(altogether, altogetherBurst), each: map[string]*rate.Limiter{}, every: perGateway}
	if life > 0 {
		l.every = min(l.every, life/4)
	}
	return l
}

// newQuestionLimits makes limits for what is only read.
func newQuestionLimits() *limits {
	return &limits{burst: perQuestionBurst, every: perQuestion, all: rate.NewLimiter(altogether, altogetherBurst), each: map[string]*rate.Limiter{}}
}

// wait counts one of them: 0 lets it pass, otherwise it is refused and may be
// tried again after that time.
func (l *limits) wait(serial string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine, ok := l.each[serial]
	if !ok {
		l.forget(now)
		mine = rate.NewLimiter(rate.Every(l.every), l.burst)
		l.each[serial] = mine
	}
	own := mine.ReserveN(now, 1)
	if d := own.DelayFrom(now); d > 0 {
		own.CancelAt(now)
		return d
	}
	all := l.all.ReserveN(now, 1)
	if d := all.DelayFrom(now); d > 0 {
		all.CancelAt(now)
		own.CancelAt(now) // a rush of others costs a gateway nothing of its own
		return d
	}
	return 0
}

// forget drops the gateways whose budget is whole again.
func (l *limits) forget(now time.Time) {
	if len(l.each) < 10_000 {
		return
	}
	for serial, r := range l.each {
		if r.TokensAt(now) >= float64(l.burst) {
			delete(l.each, serial)
		}
	}
}
