package uplink

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/uplink/queue"
)

func TestAfterARebootTheCachedEndpointIsUsed(t *testing.T) {
	play(t, func(p *plant) {
		p.start()
		p.q.add(queue.History, 1)
		p.drain(time.Minute)
		p.stop()
		p.auth.stop()
		p.start()
		p.q.add(queue.History, 1)
		p.drain(time.Second)
		if n := len(p.auth.questions()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAnEndpointOutOfReachIsNamedToTheAuthService(t *testing.T) {
	play(t, func(p *plant) {
		p.start()
		time.Sleep(time.Second)
		p.e.stop()
		p.auth.set(func(w http.ResponseWriter, body string) {
			if body != `{"failed":"endpoint.test:8883"}` {
				t.Errorf("asked with %s", body)
			}
			assign("other.test:1883")(w, body)
		})
		other := newEndpoint(t, p.ca.server("other.test"))
		other.listen(p.net.Listen("other.test:1883"))
		defer other.stop()
		p.q.e = other
		began := time.Now()
		p.q.add(queue.History, 1)
		p.drain(20 * time.Minute)
		asked := p.auth.questions()
		if len(asked) != 2 {
			t.Fatalf("asked %d times", len(asked))
		}
		if after := asked[1].at.Sub(began); after < endpointPatience-time.Second || after > endpointPatience+10*time.Minute {
			t.Errorf("asked after %v", after)
		}
		p.stop()
		if p.start(); p.s.director.host != "other.test:1883" {
			t.Errorf("cached %s", p.s.director.host)
		}
	})
}

// TestTheCachedEndpointServesWhileTheAuthServiceIsDown: asking for another must
// not keep a gateway from its own.
func TestTheCachedEndpointServesWhileTheAuthServiceIsDown(t *testing.T) {
	for name, down := range map[string]func(p *plant){
		"gone":        func(p *plant) { p.auth.stop() },
		"overloaded":  func(p *plant) { p.auth.set(problem(503, "Retry-After", "3600")) },
		"talks trash": func(p *plant) { p.auth.set(func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "<html>") }) },
		"misled":      func(p *plant) { p.auth.set(assign("endpoint.test:8883/path")) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *plant) {
				p.start()
				time.Sleep(time.Second)
				p.e.stop()
				down(p)
				time.Sleep(time.Hour)
				p.e.listen(p.net.Listen("endpoint.test:8883"))
				p.q.add(queue.History, 1)
				p.drain(11 * time.Minute) // the longest interval, and the attempt
			})
		})
	}
}

func problem(status int, header ...string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		w.Header().Set("Content-Type", "application/problem+json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"about:blank","title":"No","status":999,"detail":"PSK-1 is not known here"}`)
	}
}

func TestARefusalByTheEndpointAsksOncePerAttempt(t *testing.T) {
	for _, code := range []byte{4, 5} {
		play(t, func(p *plant) {
			p.e.refuse = code
			p.start()
			time.Sleep(time.Hour)
			asked, tried := len(p.auth.questions()), p.e.attempts()
			if asked != tried || asked < 8 {
				t.Errorf("CONNACK %d: asked %d times in %d attempts", code, asked, tried)
			}
			p.e.set(func(e *endpoint) { e.refuse = 0 })
			p.q.add(queue.History, 1)
			p.drain(6 * time.Minute)
		})
	}
}

func TestWhomNobodyWantsSlowsToHourly(t *testing.T) {
	play(t, func(p *plant) {
		p.cfg.Rand = func() float64 { return 0.999 }
		p.auth.answer = problem(403)
		p.start()
		time.Sleep(24 * time.Hour)
		asked := p.auth.questions()
		last := asked[len(asked)-1].at.Sub(asked[len(asked)-2].at)
		if len(asked) > 40 || last < 55*time.Minute || last > time.Hour+time.Minute {
			t.Errorf("asked %d times in a day, the last two %v apart", len(asked), last)
		}
		if st := p.s.Status(); st.State != Waiting || !strings.Contains(st.LastError, "answered 403 No: PSK-1 is not known here") {
			t.Errorf("%+v", st)
		}
		p.auth.set(assign("endpoint.test:8883"))
		p.q.add(queue.History, 1)
		p.drain(time.Hour + time.Minute)
		p.e.stop() // and a failure of the ordinary kind is no longer waited out for an hour
		time.Sleep(time.Hour)
		n := len(p.net.dialled())
		time.Sleep(time.Hour)
		if n = len(p.net.dialled()) - n; n < 10 {
			t.Errorf("%d attempts in an hour", n)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	play(t, func(p *plant) {
		p.auth.answer = problem(503, "Retry-After", "600")
		p.start()
		time.Sleep(time.Second)
		p.auth.set(assign("endpoint.test:8883"))
		p.q.add(queue.History, 1)
		p.drain(time.Hour)
		asked := p.auth.questions()
		if len(asked) != 2 || asked[1].at.Sub(asked[0].at) < 10*time.Minute || asked[1].at.Sub(asked[0].at) > 11*time.Minute {
			t.Errorf("asked at %v", asked)
		}
	})
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999": 24 * time.Hour, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:05 GMT": 0, "Sun, 02 Jan 2028 03:00:05 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	play(t, func(p *plant) {
		p.auth.answer = func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", "https://evil.test:8443/v1/assignment")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		p.start()
		time.Sleep(time.Minute)
		for _, d := range p.net.dialled() {
			if strings.HasPrefix(d.address, "evil") {
				t.Fatal("followed")
			}
		}
		if e := p.s.Status().LastError; !strings.Contains(e, "redirects are not followed") {
			t.Error(e)
		}
	})
}

func TestAnAnswerIsBounded(t *testing.T) {
	play(t, func(p *plant) {
		p.auth.answer = func(w http.ResponseWriter, _ string) { w.Write(make([]byte, 10<<20)) }
		p.start()
		time.Sleep(10 * time.Second)
		if e := p.s.Status().LastError; !strings.Contains(e, "more than 65536 bytes") {
			t.Error(e)
		}
	})
}

func TestAnAuthServiceOfAnotherAuthorityIsRefused(t *testing.T) {
	play(t, func(p *plant) {
		p.auth.stop()
		p.auth = &authService{answer: assign("endpoint.test:8883")}
		p.auth.start(p.net, newAuthority(t).server("auth.test"))
		var told error
		p.cfg.Failed = func(err error) { told = err }
		p.start()
		time.Sleep(10 * time.Second)
		if e := p.s.Status().LastError; !strings.Contains(e, "certificate signed by unknown authority") {
			t.Error(e)
		}
		var unknown x509.UnknownAuthorityError
		if !errors.As(told, &unknown) {
			t.Errorf("whoever looks after the roots is told %v", told)
		}
	})
}

// TestACertificateAlertAsksAgain: in TLS 1.3 the server's refusal of our
// certificate arrives after our side of the handshake is done.
func TestACertificateAlertAsksAgain(t *testing.T) {
	play(t, func(p *plant) {
		p.e.tl.ClientCAs = newAuthority(t).pool() // as if it no longer knew our authority
		p.start()
		time.Sleep(time.Hour)
		if e := p.s.Status().LastError; !strings.Contains(e, "tls: unknown certificate authority") {
			t.Error(e)
		}
		dials, asked := 0, len(p.auth.questions())
		for _, d := range p.net.dialled() {
			if d.address == "endpoint.test:8883" {
				dials++
			}
		}
		if asked != dials || asked < 8 {
			t.Errorf("asked %d times in %d attempts", asked, dials)
		}
	})
}

func TestAttemptsAreSpreadAndGrowRarer(t *testing.T) {
	play(t, func(p *plant) {
		draws := []float64{0.5, 0, 0.999}
		n := -1 // the first draw is for Spread
		p.cfg.Rand = func() float64 { n++; return draws[n%3] }
		p.cfg.Spread = time.Minute
		p.start()
		synctest.Wait()
		began := time.Now()
		p.e.stop()
		time.Sleep(2 * time.Hour)
		var at []time.Duration
		for _, d := range p.net.dialled() {
			if d.address == "endpoint.test:8883" {
				at = append(at, d.at.Sub(began))
			}
		}
		if at[0] != 30*time.Second {
			t.Errorf("the first attempt came after %v", at[0])
		}
		interval := 2 * time.Second
		for i := 1; i < 14; i++ {
			if wait, want := at[i]-at[i-1], time.Duration(draws[i%3]*float64(interval)); wait != want {
				t.Errorf("attempt %d came %v after the one before, want %v", i, wait, want)
			}
			interval = min(2*interval, 5*time.Minute)
		}
	})
}

func TestABrokenCacheIsNoObstacle(t *testing.T) {
	for _, content := range []string{"", "{", `{"endpoint":"http://x"}`, `{"endpoint":"mqtts://:1"}`, `{"endpoint":"mqtts://x:0"}`, "\x00\x00\x00"} {
		play(t, func(p *plant) {
			writeFile(t, p.cfg.Dir+"/assignment.json", content)
			writeFile(t, p.cfg.Dir+"/session.json", content)
			p.q.add(queue.History, 1)
			p.start()
			p.drain(time.Second)
		})
	}
}

func TestAnExpiredAssignmentIsRenewedAtTheNextConnection(t *testing.T) {
	play(t, func(p *plant) {
		p.auth.answer = func(w http.ResponseWriter, _ string) {
			fmt.Fprintf(w, `{"endpoint":"mqtts://endpoint.test","expires":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
		}
		p.start()
		for range 3 {
			time.Sleep(40 * time.Minute)
			p.e.cutAll()
			time.Sleep(time.Minute)
		}
		if n := len(p.auth.questions()); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}
