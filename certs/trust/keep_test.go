package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/clock"
)

// steady is the machine's clock, which somebody has told.
type steady struct{ clock.Clock }

func (steady) Known() bool { return true }

// TestWhenItAsks plays two days: the first question soon, doubts at once but never
// more than one a minute, failures further and further apart.
func TestWhenItAsks(t *testing.T) {
	_, g := site(t) // outside of the bubble: it listens on a real socket
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var asked []time.Duration
		begin := clock.System.Now()
		k := &Keeper{Roots: g.open(t), URL: "https://localhost:1", Certs: g.Certs, Clock: steady{clock.System}, Floor: clock.System.Now,
			Rand: func() float64 { return 0.5 }, Log: g.Log,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, clock.System.Now().Sub(begin))
				return nil, errors.New("no network")
			}}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			k.Keep(ctx)
		}()
		tries := func() []time.Duration {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return asked
		}
		time.Sleep(spread)
		if n := len(tries()); n != 1 {
			t.Errorf("%d tries in the first seconds", n)
		}
		time.Sleep(48 * time.Hour)
		got := tries()
		for i := 2; i < len(got); i++ {
			before, after := got[i-1]-got[i-2], got[i]-got[i-1]
			if before < askAtMost || after < before || after > askAtMost+retryMost {
				t.Errorf("failures %v and %v apart", before, after)
			}
		}
		if len(got) < 15 || len(got) > 40 {
			t.Errorf("%d tries in two days without a network", len(got))
		}
		if what, _ := k.Trouble(); what == "" {
			t.Error("no trouble is told")
		}

		n := len(got)
		k.Doubt(errors.New("connection refused"))
		time.Sleep(time.Second)
		if len(tries()) != n {
			t.Error("a doubt about something else makes it ask")
		}
		time.Sleep(askAtMost)
		k.Doubt(x509.UnknownAuthorityError{})
		time.Sleep(time.Second)
		if len(tries()) != n+1 {
			t.Errorf("a doubt makes it ask %d times", len(tries())-n)
		}
		n = len(tries())
		for range 600 {
			k.Doubt(x509.UnknownAuthorityError{})
			time.Sleep(time.Second)
		}
		if more := len(tries()) - n; more < 5 || more > 10 {
			t.Errorf("ten minutes of doubts make it ask %d times", more)
		}
		stop()
		<-ended
	})
}
