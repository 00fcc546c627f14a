package uplink

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/uplink/link"
	"penstock/uplink/queue"
)

// testLinks is the only link of a test, and its Path.
type testLinks struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	traits link.Traits

	mu       sync.Mutex
	left     chan struct{}
	nexts    int
	answered int
	failed   []error
	spent    bool
	most     int  // failures after which another link is there; 0: none ever is
	over     bool // it is
}

func (l *testLinks) Next() link.Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nexts++
	if l.over {
		l.left, l.over = make(chan struct{}), false
	}
	return l
}
func (l *testLinks) Name() string        { return "test" }
func (l *testLinks) Traits() link.Traits { return l.traits }
func (l *testLinks) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return l.dial(ctx, network, address)
}
func (l *testLinks) Left() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left
}
func (l *testLinks) Answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
}
func (l *testLinks) Failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
	if l.over = len(l.failed) == l.most; l.over {
		close(l.left)
	}
}
func (l *testLinks) History() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.spent
}

// leave has the session take another link.
func (l *testLinks) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.left)
	l.over = true // the next path is not left
}

func (l *testLinks) verdict() (answered, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered, len(l.failed)
}

func TestALinkIsJudgedByOurOwnExchanges(t *testing.T) {
	for name, c := range map[string]struct {
		prepare          func(p *plant)
		answered, failed bool
	}{
		"all is well":             {func(p *plant) {}, true, false},
		"nobody answers":          {func(p *plant) { p.net.blackHole(true) }, false, true},
		"the endpoint refuses us": {func(p *plant) { p.e.refuse = 5 }, true, false},
		"the auth service refuses": {func(p *plant) {
			p.auth.answer = func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusForbidden) }
		}, true, false},
		"the auth service is ill": {func(p *plant) {
			p.auth.answer = func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusServiceUnavailable) }
		}, true, false},
		"the endpoint is gone": {func(p *plant) { p.e.stop() }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *plant) {
				c.prepare(p)
				p.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				if answered, failed := p.links.verdict(); answered > 0 != c.answered || failed > 0 != c.failed {
					t.Errorf("%d answered, %d failed", answered, failed)
				}
			})
		})
	}
}

func TestABetterLinkIsTakenWithoutALoss(t *testing.T) {
	play(t, func(p *plant) {
		p.e.delay = 50 * time.Millisecond
		p.start()
		time.Sleep(time.Second)
		p.q.add(queue.History, 200)
		time.Sleep(300 * time.Millisecond)
		began := time.Now()
		p.links.leave()
		time.Sleep(time.Second) // no backoff: it was no failure
		st := p.s.Status()
		if st.State != Connected || st.Session != 2 || st.Since.Sub(began) > time.Second {
			t.Errorf("%+v", st)
		}
		p.drain(time.Minute)
		p.e.complete(queue.History, 200)
		for k, times := range p.e.stored {
			if times > 1 {
				t.Errorf("%v arrived %d times: the old session did not take its PUBACKs", k, times)
			}
		}
		if _, failed := p.links.verdict(); failed > 0 {
			t.Error("the link that was left counts as failed", errors.Join(p.links.failed...))
		}
	})
}

// TestAnotherLinkIsNotWaitedFor: the wait after a failure has grown long, and it is
// no fault of the link that is up next.
func TestAnotherLinkIsNotWaitedFor(t *testing.T) {
	play(t, func(p *plant) {
		p.net.blackHole(true)
		p.links.most = 6
		p.start()
		for n := 0; n < 6; _, n = p.links.verdict() {
			time.Sleep(time.Second)
		}
		p.net.blackHole(false)
		began := time.Now()
		time.Sleep(p.s.cfg.Backoff.Min + time.Second)
		synctest.Wait()
		if st := p.s.Status(); st.State != Connected {
			t.Errorf("%v after another link was there it is %v, and tries at %v", time.Since(began), st.State, st.Next)
		}
	})
}

// TestAServerThatIsNotOursMakesAnotherLookup: one of a link's name servers lies,
// and the next lookup asks the other.
func TestAServerThatIsNotOursMakesAnotherLookup(t *testing.T) {
	play(t, func(p *plant) {
		liar := newEndpoint(t, newAuthority(t).server("endpoint.test"))
		liar.listen(p.net.Listen("liar.test:8883"))
		defer liar.stop()
		asked := 0
		p.links.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "endpoint.test:8883" {
				if asked++; asked <= 1 || asked >= 3 && asked <= 4 {
					address = "liar.test:8883"
				}
			}
			return p.net.Dial(ctx, network, address)
		}
		p.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if st, _ := p.links.verdict(); p.s.Status().State != Connected || st == 0 || asked != 2 {
			t.Errorf("%v after %d lookups", p.s.Status().State, asked)
		}
		p.e.cutAll()
		time.Sleep(p.s.cfg.Backoff.Herd + time.Second)
		synctest.Wait()
		if asked < 4 {
			t.Errorf("%d lookups", asked)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, failed := p.links.verdict(); p.s.Status().State != Connected || failed != 2 {
			t.Errorf("%v; %d failures, want one for the end of the session and one for two lies", p.s.Status().State, failed)
		}
	})
}

func TestPastTheBudgetOnlyAlarmsPass(t *testing.T) {
	play(t, func(p *plant) {
		p.links.spent = true
		p.start()
		p.q.add(queue.History, 10)
		p.q.add(queue.Urgent, 3)
		time.Sleep(time.Hour)
		if h, u := p.q.discarded(queue.History), p.q.discarded(queue.Urgent); h != 0 || u != 3 {
			t.Errorf("history up to %d, urgent up to %d", h, u)
		}
		p.links.mu.Lock()
		p.links.spent = false // another month
		p.links.mu.Unlock()
		p.drain(time.Minute)
		p.e.complete(queue.History, 10)
	})
}

func TestAMeteredLinkPingsSeldom(t *testing.T) {
	play(t, func(p *plant) {
		p.links.traits = link.Traits{Metered: true, KeepAlive: 240 * time.Second}
		p.start()
		time.Sleep(time.Hour)
		p.e.set(func(e *endpoint) {
			if got := e.connects[0].Keepalive; got != 240 {
				t.Errorf("a keepalive of %d s", got)
			}
		})
		if n := p.e.attempts(); n != 1 {
			t.Errorf("%d connections in an idle hour", n)
		}
	})
}

// TestADeadMeteredLinkIsNoticedByTheNextRecord: it is not pinged for minutes, but
// what is sent is not waited for longer than on any other.
func TestADeadMeteredLinkIsNoticedByTheNextRecord(t *testing.T) {
	play(t, func(p *plant) {
		p.links.traits = link.Traits{Metered: true, KeepAlive: 240 * time.Second}
		p.start()
		time.Sleep(time.Minute)
		p.net.blackHole(true)
		time.Sleep(time.Minute)
		p.q.add(queue.Urgent, 1)
		began := time.Now()
		for p.s.Status().State == Connected {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("noticed after %v", took)
		}
		p.net.blackHole(false)
		p.drain(10 * time.Minute)
	})
}
