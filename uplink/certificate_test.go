package uplink

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/uplink/queue"
)

// TestTheOutcomeOfEachCertificateIsTold: let in, refused by the endpoint, refused by
// the auth service; and nothing of what says nothing about it.
func TestTheOutcomeOfEachCertificateIsTold(t *testing.T) {
	play(t, func(p *plant) {
		var told []string
		p.cfg.Outcome = func(err error) {
			text := "let in"
			if err != nil {
				text = err.Error()
			}
			told = append(told, text)
		}
		p.auth.set(problem(404))
		p.start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p.auth.set(problem(503))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("trouble of the service is told as that of the certificate: %q", told)
		}
		p.auth.set(problem(403))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(told) == 0 || !strings.Contains(told[0], "403") {
			t.Fatalf("the auth service's refusal: %q", told)
		}
		told = nil
		p.auth.set(assign("endpoint.test:8883"))
		p.e.set(func(e *endpoint) { e.refuse = 5 })
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(told) == 0 || !strings.Contains(told[0], "ot Authorized") && !strings.Contains(told[0], "not authorized") {
			t.Fatalf("the endpoint's refusal: %q", told)
		}
		told = nil
		p.e.set(func(e *endpoint) { e.refuse = 0 })
		p.q.add(queue.History, 1)
		p.drain(2 * time.Hour)
		synctest.Wait()
		if len(told) == 0 || told[len(told)-1] != "let in" {
			t.Errorf("a good session: %q", told)
		}
		told = nil
		p.e.stop()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("an endpoint that is away: %q", told)
		}
	})
}

// TestReconnectIsPoliteAndAtOnce: nothing that is in flight is sent twice, no last
// will is published, and the configuration is asked for again.
func TestReconnectIsPoliteAndAtOnce(t *testing.T) {
	play(t, func(p *plant) {
		p.start()
		p.q.add(queue.History, 3)
		p.drain(time.Second)
		p.s.Reconnect()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if st := p.s.Status(); st.Connections != 2 || st.State != Connected || st.LastError != "" {
			t.Errorf("%+v", st)
		}
		p.q.add(queue.History, 3)
		p.drain(time.Second)
		p.e.mu.Lock()
		defer p.e.mu.Unlock()
		for n, times := range p.e.stored {
			if times != 1 {
				t.Errorf("%v came %d times", n, times)
			}
		}
		if len(p.e.wills) > 0 || len(p.e.conns) != 1 {
			t.Errorf("wills %q, %d connections are left", p.e.wills, len(p.e.conns))
		}
	})
}

func TestReconnectEndsAWait(t *testing.T) {
	play(t, func(p *plant) {
		p.cfg.Rand = func() float64 { return 0.999 }
		p.auth.set(problem(403))
		p.start()
		time.Sleep(24 * time.Hour) // hourly by now
		p.auth.set(assign("endpoint.test:8883"))
		p.s.Reconnect()
		time.Sleep(time.Second)
		synctest.Wait()
		if st := p.s.Status(); st.State != Connected {
			t.Errorf("%+v", st)
		}
	})
}
