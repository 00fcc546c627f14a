package uplink

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/uplink/queue"
	"penstock/uplink/wire/decode"
)

// plant is a gateway's uplink with its world: network, auth service, endpoint.
type plant struct {
	t     testing.TB
	net   *network
	ca    *authority
	e     *endpoint
	auth  *authService
	q     *fakeQueue
	cfg   Config
	s     *Session
	links *testLinks

	cancel context.CancelFunc
	ended  chan error
	down   []string
}

// play runs a test in virtual time. The session is not started.
func play(t *testing.T, test func(p *plant)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		p := &plant{t: t, net: newNetwork(), ca: ca, e: newEndpoint(t, ca.server("endpoint.test"))}
		p.q = newFakeQueue(t, p.e)
		p.links = &testLinks{dial: p.net.Dial, left: make(chan struct{})}
		p.auth = &authService{answer: assign("endpoint.test:8883")}
		p.auth.start(p.net, ca.server("auth.test"))
		p.e.listen(p.net.Listen("endpoint.test:8883"))
		random := rand.New(rand.NewPCG(1, 2))
		p.cfg = Config{
			Serial: "PSK-1", AuthURL: "https://auth.test:8443", Queue: p.q, TLS: ca.client("PSK-1"),
			FS: disk.OS, Dir: dir, Links: p.links, Clock: clock.System, Rand: random.Float64,
			Log:   slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
			State: func(session uint64, online bool) []byte { return fmt.Appendf(nil, "%d %v", session, online) },
			Down:  func(m []byte) { p.down = append(p.down, string(m)) },
		}
		defer func() { // also when the test failed: a bubble ends when its goroutines have
			p.stop()
			p.net.blackHole(false)
			p.e.stop()
			p.auth.stop()
			time.Sleep(writeTimeout) // paho's Publish may hang on to a lost connection so long
		}()
		test(p)
	})
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (p *plant) start() {
	p.t.Helper()
	s, err := NewSession(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.s = s
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.ended = cancel, make(chan error, 1)
	go func() { p.ended <- s.Run(ctx) }()
}

func (p *plant) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	<-p.ended
	p.cancel = nil
}

func (p *plant) drain(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := p.s.Drain(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// authService answers POST /v1/assignment as a test tells it.
type authService struct {
	mu     sync.Mutex
	answer func(w http.ResponseWriter, failed string)
	asked  []question
	server *http.Server
}

type question struct {
	at   time.Time
	body string
}

func assign(endpoint string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		fmt.Fprintf(w, `{"endpoint":"mqtts://%s","expires":"2030-01-01T00:00:00Z"}`, endpoint)
	}
}

func (a *authService) start(n *network, tl *tls.Config) {
	a.server = &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, question{time.Now(), string(body)})
		if r.Method != http.MethodPost || r.URL.Path != "/v1/assignment" {
			http.NotFound(w, r)
			return
		}
		a.answer(w, string(body))
	})}
	go a.server.Serve(tls.NewListener(n.Listen("auth.test:8443"), tl))
}

func (a *authService) stop() { _ = a.server.Close() }

func (a *authService) set(answer func(http.ResponseWriter, string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *authService) questions() []question {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]question(nil), a.asked...)
}

func (e *endpoint) set(change func(e *endpoint)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

var _ Queue = (*queue.Queue)(nil)

// complete checks that all n records of a lane are stored, and that on every
// connection they came in order without a hole.
func (e *endpoint) complete(lane queue.Lane, n uint64) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for seq := range n {
		if e.stored[name{lane, seq + 1}] == 0 {
			e.t.Errorf("%v: %d is not stored", lane, seq+1)
		}
	}
	for i, p := range e.all {
		last := uint64(0)
		for _, k := range p.came {
			if k.lane == lane && last != 0 && k.seq != last+1 {
				e.t.Errorf("connection %d, %v: %d came after %d", i, lane, k.seq, last)
			}
			if k.lane == lane {
				last = k.seq
			}
		}
	}
}

func TestRecordsArriveInOrderWithinTheWindow(t *testing.T) {
	play(t, func(p *plant) {
		p.e.delay = 100 * time.Millisecond
		p.q.add(queue.History, 500)
		p.q.add(queue.Urgent, 3)
		p.start()
		p.drain(time.Minute)
		p.e.complete(queue.History, 500)
		p.e.complete(queue.Urgent, 3)
		if p.e.maxOpen > window || p.e.maxOpen < 8 {
			t.Errorf("%d records in flight", p.e.maxOpen)
		}
		for k, times := range p.e.stored {
			if times != 1 {
				t.Errorf("%v arrived %d times", k, times)
			}
		}
		if p.q.discarded(queue.History) != 500 || p.q.discarded(queue.Urgent) != 3 {
			t.Errorf("discarded %v", p.q.base)
		}
		st := p.s.Status()
		if st.State != Connected || st.Acknowledged != 503 || st.InFlight != 0 || st.Endpoint != "endpoint.test:8883" || st.Session != 1 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
	})
}

func TestNothingIsDiscardedWithoutItsPUBACK(t *testing.T) {
	play(t, func(p *plant) {
		// The endpoint stores everything, but the third PUBACK is lost.
		p.e.decide = func(_ *peer, _ int, rec decode.Record) action {
			if rec.Seq == 3 {
				return lose
			}
			return ack
		}
		p.q.add(queue.History, 10)
		p.start()
		time.Sleep(10 * time.Second)
		if d := p.q.discarded(queue.History); d != 2 {
			t.Fatalf("discarded up to %d", d)
		}
		p.e.set(func(e *endpoint) { e.decide = nil })
		p.e.cutAll()
		p.drain(time.Minute)
		p.e.complete(queue.History, 10)
		if p.e.stored[name{queue.History, 3}] != 2 || p.e.stored[name{queue.History, 2}] != 1 {
			t.Errorf("arrivals: %v", p.e.stored)
		}
	})
}

func TestASessionWithoutProgressIsThrownAway(t *testing.T) {
	play(t, func(p *plant) {
		p.e.decide = func(*peer, int, decode.Record) action { return withhold } // pings are answered
		p.start()
		time.Sleep(time.Minute)
		p.q.add(queue.History, 20)
		began := time.Now()
		time.Sleep(30 * time.Second)
		if took := p.s.Status().LastErrorAt.Sub(began); took < patience || took > 30*time.Second {
			t.Errorf("thrown away after %v", took)
		}
		if st := p.s.Status(); !strings.Contains(st.LastError, errStalled.Error()) {
			t.Errorf("%+v", st)
		}
		if p.q.discarded(queue.History) != 0 {
			t.Error("discarded what nobody acknowledged")
		}
		p.e.set(func(e *endpoint) { e.decide = nil })
		p.drain(time.Minute)
		p.e.complete(queue.History, 20)
	})
}

func TestABlackHoleIsNoticed(t *testing.T) {
	for _, busy := range []bool{true, false} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			play(t, func(p *plant) {
				p.start()
				p.q.add(queue.History, 1)
				p.drain(time.Minute)
				p.net.blackHole(true)
				if busy {
					p.q.add(queue.History, 5)
				}
				began := time.Now()
				for p.s.Status().State == Connected {
					time.Sleep(time.Second)
				}
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("noticed after %v", took)
				}
				time.Sleep(time.Minute)
				p.net.blackHole(false)
				p.q.add(queue.History, 1)
				p.drain(10 * time.Minute)
			})
		})
	}
}

func TestUrgentOvertakesHistory(t *testing.T) {
	play(t, func(p *plant) {
		p.e.delay = time.Second // a slow link: the backlog takes 80 s
		p.q.add(queue.History, 1000)
		p.start()
		time.Sleep(20 * time.Second)
		began := time.Now()
		p.q.add(queue.Urgent, reserved)
		p.drain(5 * time.Minute)
		for seq := range uint64(reserved) {
			if took := p.e.at[name{queue.Urgent, seq + 1}].Sub(began); took > 10*time.Millisecond {
				t.Errorf("event %d waited %v", seq+1, took)
			}
		}
		p.e.complete(queue.History, 1000)
		p.e.complete(queue.Urgent, reserved)
	})
}

func TestSlowLinksCarryFewBytesInFlight(t *testing.T) {
	play(t, func(p *plant) {
		p.e.delay = time.Second
		p.q.addSized(queue.History, 20, 30<<10)
		p.q.addSized(queue.History, 2, 100<<10) // larger than the window: alone
		p.start()
		p.drain(10 * time.Minute)
		if p.e.maxOpen != 2 {
			t.Errorf("%d records of 30 KB in flight", p.e.maxOpen)
		}
		p.e.complete(queue.History, 22)
	})
}

func TestWhateverTheEndpointDoesNothingIsLost(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			play(t, func(p *plant) {
				r, fate := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4))
				calm := false
				p.e.decide = func(*peer, int, decode.Record) action {
					if n := fate.IntN(40); !calm && n < 4 {
						return action(n)
					}
					return ack
				}
				p.e.delay = time.Duration(r.IntN(500)) * time.Millisecond
				p.start()
				for range 20 {
					p.q.add(queue.History, r.IntN(30))
					p.q.add(queue.Urgent, r.IntN(3))
					time.Sleep(time.Duration(r.IntN(60)) * time.Second)
					switch r.IntN(6) {
					case 0:
						p.e.cutAll()
					case 1:
						p.net.blackHole(true)
						time.Sleep(time.Duration(r.IntN(100)) * time.Second)
						p.net.blackHole(false)
					case 2:
						p.e.stop()
						time.Sleep(time.Duration(r.IntN(100)) * time.Second)
						p.e.listen(p.net.Listen("endpoint.test:8883"))
					case 3: // the gateway restarts
						p.stop()
						p.start()
					}
				}
				p.e.set(func(*endpoint) { calm = true })
				p.drain(time.Hour)
				for _, lane := range []queue.Lane{queue.History, queue.Urgent} {
					n := uint64(len(p.q.lanes[lane]))
					p.e.complete(lane, n)
					if p.q.discarded(lane) != n {
						t.Errorf("%v: discarded up to %d of %d", lane, p.q.discarded(lane), n)
					}
				}
			})
		})
	}
}

func TestTheLastWillNamesItsSession(t *testing.T) {
	play(t, func(p *plant) {
		p.start()
		time.Sleep(time.Second)
		p.e.cutAll()
		time.Sleep(10 * time.Second)
		p.stop()
		p.start() // numbers go on after a restart
		time.Sleep(time.Second)
		p.stop()
		synctest.Wait()
		p.e.set(func(e *endpoint) {
			if got := strings.Join(e.wills, ";"); got != "1 false" {
				t.Errorf("wills: %s", got) // of the session that was cut only: the others left politely
			}
			want := "gw/PSK-1/state 1 true;gw/PSK-1/state 2 true;gw/PSK-1/state 2 false;gw/PSK-1/state 65 true;gw/PSK-1/state 65 false"
			if got := strings.Join(e.states, ";"); got != want {
				t.Errorf("states:\n%s\nwant\n%s", got, want)
			}
			for _, c := range e.connects {
				if c.WillTopic != "gw/PSK-1/state" || c.WillQos != 1 || c.WillRetain || !c.CleanSession || c.ClientIdentifier != "PSK-1" || c.ProtocolVersion != 4 || c.Keepalive != 10 {
					t.Errorf("%+v", c)
				}
			}
		})
	})
}

func TestWhatComesDownIsHandedOnAndAcknowledged(t *testing.T) {
	play(t, func(p *plant) {
		p.start()
		time.Sleep(time.Second)
		p.e.send("gw/PSK-1/down", "watch", 1)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(p.down) != 1 || p.down[0] != "watch" {
			t.Errorf("%q", p.down)
		}
		p.e.set(func(e *endpoint) {
			if got := e.all[0].pubacks; len(got) != 1 {
				t.Errorf("PUBACKs for %v", got)
			}
		})
		p.e.send("gw/PSK-1/elsewhere", "what", 2)
		synctest.Wait()
		if st := p.s.Status(); len(p.down) != 1 || !strings.Contains(st.LastError, "another topic than gw/PSK-1/down") {
			t.Errorf("%q, %+v", p.down, st)
		}
	})
}

func TestStoppingTakesThePUBACKsUnderWay(t *testing.T) {
	play(t, func(p *plant) {
		p.e.delay = time.Second
		p.start()
		time.Sleep(5 * time.Second)
		p.q.add(queue.History, 5)
		time.Sleep(100 * time.Millisecond)
		p.stop()
		if d := p.q.discarded(queue.History); d != 5 {
			t.Errorf("discarded up to %d", d)
		}
		if st := p.s.Status(); st.State != Stopped {
			t.Errorf("%+v", st)
		}
	})
}

func TestStoppingIsQuickWhateverTheNetwork(t *testing.T) {
	for name, prepare := range map[string]func(p *plant){
		"connected":         func(p *plant) {},
		"dialling":          func(p *plant) { p.net.blackHole(true) },
		"black hole":        func(p *plant) { time.AfterFunc(5*time.Second, func() { p.net.blackHole(true) }) },
		"waiting":           func(p *plant) { p.e.stop() },
		"PUBACKs withheld":  func(p *plant) { p.e.decide = func(*peer, int, decode.Record) action { return withhold } },
		"auth service dead": func(p *plant) { p.auth.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *plant) {
				prepare(p)
				p.q.add(queue.History, 5)
				p.start()
				time.Sleep(7 * time.Second)
				began := time.Now()
				p.stop()
				if took := time.Since(began); took > 2*leaveTimeout {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestAQueueThatCannotBeReadIsTriedAgain(t *testing.T) {
	play(t, func(p *plant) {
		p.q.add(queue.History, 3)
		p.q.broken = io.ErrUnexpectedEOF
		p.start()
		time.Sleep(time.Minute)
		p.q.mu.Lock()
		p.q.broken = nil
		p.q.mu.Unlock()
		p.drain(10 * time.Second)
		if n := p.e.attempts(); n != 1 {
			t.Errorf("%d connections: a disk's trouble is not the network's", n)
		}
	})
}
