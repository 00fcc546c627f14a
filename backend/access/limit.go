package access

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// budget is how many attempts come at once and how fast they grow back.
type budget struct {
	burst int
	every time.Duration
}

// An account allows some 3000 guesses a day, which a password of MinPassword
// characters outlives by far, and a person who mistypes is back within seconds.
// An address may be a whole site behind one router, so it gets more.
var (
	perAccount = budget{burst: 10, every: 30 * time.Second}
	perAddress = budget{burst: 30, every: 5 * time.Second}
)

// maxKeys bounds what a flood of made-up accounts or addresses can take.
const maxKeys = 10_000

// limiter counts attempts by key. An attempt counts whether it succeeds or not.
type limiter struct {
	budget budget

	mu   sync.Mutex
	keys map[string]*rate.Limiter
}

func newLimiter(b budget) *limiter {
	return &limiter{budget: b, keys: make(map[string]*rate.Limiter)}
}

func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.keys[key]
	if !ok {
		if len(l.keys) >= maxKeys {
			l.forget(now)
		}
		k = rate.NewLimiter(rate.Every(l.budget.every), l.budget.burst)
		l.keys[key] = k
	}
	return k.AllowN(now, 1)
}

// forget drops the keys whose budget is whole again: they are as good as new.
// Where a flood leaves none, a tenth goes by chance (the order of a map).
func (l *limiter) forget(now time.Time) {
	for key, k := range l.keys {
		if k.TokensAt(now) >= float64(l.budget.burst) {
			delete(l.keys, key)
		}
	}
	for key := range l.keys {
		if len(l.keys) <= maxKeys-maxKeys/10 {
			return
		}
		delete(l.keys, key)
	}
}

// addressKey is what one customer of a provider holds: an IPv4 address or an
// IPv6 network of 64 bits.
func addressKey(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
