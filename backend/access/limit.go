package access

import (
	"hash/maphash"
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
// An address may be a whole site behind one router, so it gets more; and an IPv6
// network of 48 bits, which a provider may hand to one customer, four times that.
var (
	perAccount = budget{burst: 10, every: 30 * time.Second}
	perDevice  = budget{burst: 10, every: 30 * time.Second}
	perAddress = budget{burst: 30, every: 5 * time.Second}
	perNetwork = budget{burst: 4 * 30, every: 5 * time.Second / 4}
)

// buckets bounds what a flood of made-up accounts or addresses can take. No key is
// ever forgotten for another: keys share a bucket instead. Which ones do depends on
// a seed that nobody outside can know.
const buckets = 1 << 16

// limiter counts attempts by key. An attempt counts whether it succeeds or not.
type limiter struct {
	budget budget
	seed   maphash.Seed

	mu   sync.Mutex
	used map[uint64]*rate.Limiter // guarded by mu; by bucket
}

func newLimiter(b budget) *limiter {
	return &limiter{budget: b, seed: maphash.MakeSeed(), used: make(map[uint64]*rate.Limiter)}
}

func (l *limiter) allow(key string, now time.Time) bool {
	bucket := maphash.String(l.seed, key) % buckets
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.used[bucket]
	if !ok {
		k = rate.NewLimiter(rate.Every(l.budget.every), l.budget.burst)
		l.used[bucket] = k
	}
	return k.AllowN(now, 1)
}

// addressKey is what one customer of a provider holds: an IPv4 address or an
// IPv6 network of 64 bits.
func addressKey(a netip.Addr) string { return networkOf(a, 64) }

// networkKey is the most that one customer of a provider may hold.
func networkKey(a netip.Addr) string { return networkOf(a, 48) }

func networkOf(a netip.Addr, bits int) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(bits); err == nil {
			return p.String()
		}
	}
	return a.String()
}
