package uplink

import (
	"testing"
	"time"

	"penstock/uplink/link"
	"penstock/uplink/queue"
)

// TestABlackHoleIsNoticedWhereverItOpens plays the same life of a session again and
// again, and has a black hole open before each thing that the gateway sends in it,
// from the SYN to the auth service on: handshakes, assignment, CONNECT, subscription,
// a record, a window full of them, a ping. Whether what is sent vanishes, or the
// answers, or both, the attempt or the session is over within 30 s of the first byte
// that went unanswered, also where only telemetry shows that the link lives; and
// afterwards everything arrives.
func TestABlackHoleIsNoticedWhereverItOpens(t *testing.T) {
	for name, keepAlive := range map[string]time.Duration{"ethernet": 10 * time.Second, "metered": 240 * time.Second} {
		for direction, w := range map[string]way{"both ways": bothWays, "there": there, "back": back} {
			t.Run(name+", "+direction, func(t *testing.T) {
				stride := 1
				if testing.Short() {
					stride = 5
				}
				longest, at := time.Duration(0), 0
				last := 1
				for k := 0; k <= last; k += stride { // 0: none opens, and what is sent is counted
					play(t, func(p *plant) {
						p.links.traits = link.Traits{KeepAlive: keepAlive}
						p.net.opensAt, p.net.swallows = k, w
						noticed := make(chan time.Time, 1000)
						p.cfg.Failed = func(error) { noticed <- time.Now() }
						p.start()
						time.Sleep(5 * time.Second)
						p.q.add(queue.History, 1)
						time.Sleep(20 * time.Second)
						p.q.addSized(queue.History, 30, 10<<10) // more than the window takes
						p.q.add(queue.Urgent, 2)
						time.Sleep(400 * time.Second) // idle
						p.q.addSized(queue.History, 1, 60<<10)
						time.Sleep(60 * time.Second)
						p.net.mu.Lock()
						spoken := p.net.spoken
						p.net.mu.Unlock()
						time.Sleep(40 * time.Second)
						p.net.mu.Lock()
						unanswered := p.net.unanswered
						p.net.mu.Unlock()
						if k == 0 {
							last = spoken
							return
						}
						if unanswered.IsZero() {
							t.Fatalf("nothing was sent for the %dth time", k)
						}
						select {
						case end := <-noticed:
							if took := end.Sub(unanswered); took > longest {
								longest, at = took, k
							}
						default:
							t.Fatalf("a hole at the %dth of %d was not noticed at all: %+v", k, last, p.s.Status())
						}
						p.net.blackHole(false)
						p.q.add(queue.History, 1)
						p.drain(time.Hour)
						p.e.complete(queue.History, 33)
						p.e.complete(queue.Urgent, 2)
					})
					if t.Failed() {
						return
					}
				}
				t.Logf("%d places; noticed after %v at most, at the %dth", last, longest, at)
				if longest > 30*time.Second {
					t.Errorf("a hole at the %dth was noticed after %v", at, longest)
				}
			})
		}
	}
}
