package endpoint_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/internal/clock"
)

// moved is a clock that a test moves, and whose waits are short: for what the
// endpoint gives up a test has to wait.
type moved struct{ ahead atomic.Int64 }

func (m *moved) Now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

func (*moved) Sleep(ctx context.Context, d time.Duration) error {
	return clock.System.Sleep(ctx, d/20)
}

// listen subscribes to what is sent down and waits until that is in force.
func (c *client) listen() *client {
	c.t.Helper()
	c.send(subscribe("gw/" + c.serial + "/down"))
	if _, ok := c.receive().(*packets.SubackPacket); !ok {
		c.t.Error("the subscription was not answered")
	}
	return c
}

// live acknowledges whatever comes down, as a gateway does, until the connection
// ends.
func (c *client) live() *client {
	go func() {
		for {
			p, err := packets.ReadPacket(c.Conn)
			if err != nil {
				return
			}
			down, ok := p.(*packets.PublishPacket)
			if !ok {
				continue
			}
			ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			ack.MessageID = down.MessageID
			if ack.Write(c.Conn) != nil {
				return
			}
		}
	}()
	return c
}

func TestClonesThatTakeEachOtherOverRaiseAnAlarm(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for n := range 4 { // one, the other, the one, the other: three takeovers
		if got := s.store.suspected(); len(got) != 0 {
			t.Fatalf("an alarm after %d takeovers: %q", n-1, got)
		}
		s.gateway(t, "GW-0001").listen().live()
	}
	got := s.store.suspected()
	if len(got) != 1 || !strings.HasPrefix(got[0], "GW-0001: sessions take each other over: 3 times within 10 minutes") {
		t.Errorf("%q", got)
	}
}

func TestAGatewayThatComesBackIsNoClone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(old *client){
		// Its network is gone: nothing of what is sent to it arrives.
		"dead, and heard a moment ago": func(old *client) { old.mustServe() },
		"let go of":                    func(old *client) { old.Close() },
		// An acknowledgement of something else was under way.
		"an old acknowledgement comes late": func(old *client) {
			ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			ack.MessageID = 4711
			old.send(ack)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveBy(t, &moved{})
			old := s.gateway(t, "GW-0001").listen()
			for range 8 {
				end(old)
				old = s.gateway(t, "GW-0001").listen()
			}
			old.mustServe()
			if got := s.store.suspected(); len(got) != 0 {
				t.Errorf("an alarm: %q", got)
			}
		})
	}
}

func TestATakeoverNowAndThenIsNoAlarm(t *testing.T) {
	t.Parallel()
	clk := &moved{}
	s := serveBy(t, clk)
	for range 5 { // an installer tries a copy beside the original, twice
		s.gateway(t, "GW-0001").listen().live()
		clk.ahead.Add(int64(6 * time.Minute))
	}
	if got := s.store.suspected(); len(got) != 0 {
		t.Errorf("an alarm: %q", got)
	}
}
