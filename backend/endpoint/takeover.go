package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"penstock/uplink/wire"
)

// A connection that takes a session over proves nothing by itself: a gateway
// whose network vanished comes back while its old connection still stands here,
// and one with a loose plug does so again and again, seconds after it was last
// heard. What such a gateway cannot do is answer on the old connection: it has
// let go of it before it dials. So the old one is asked, after the new one has
// said CONNECT, by a message that asks for nothing but its PUBACK. Whoever
// acknowledges that is a second device, or a second process, with the same
// identity.
//
// Clones take each other over for as long as both live, since each comes back.
// Once may be an installer who tried a copy beside the original; takeovers within
// takeoverSpan are a clone alarm.
const (
	proofTime    = 2 * time.Second
	takeovers    = 3
	takeoverSpan = 10 * time.Minute
)

// proof is how a connection shows that somebody is at its other end.
type proof struct {
	asked bool
	id    uint16 // of the message that asks, once it has one
	given bool
	came  chan struct{} // closed by its PUBACK
}

// OnSessionEstablish asks the connection that is about to be taken over, if there
// is one, whether it lives. The newcomer waits for that, for proofTime at most.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || !h.e.lives(c.serial) {
		return
	}
	c.log.Warn("a session was taken over from a gateway that is still there")
	if n := h.e.tookOver(c.serial); n >= takeovers {
		why := fmt.Sprintf("sessions take each other over: %d times within %d minutes the connection before was still answered", takeovers, int(takeoverSpan.Minutes()))
		if err := h.e.cfg.Store.SuspectClone(context.Background(), c.serial, why); err != nil {
			c.log.Error("a sign of a clone could not be kept", "err", err)
		}
	}
}

// lives tells whether the gateway's present connection answers.
func (e *Endpoint) lives(serial string) bool {
	cl, ok := e.engine.Clients.Get(serial)
	if !ok || cl.Closed() {
		return false
	}
	old, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	e.mu.Lock()
	asking := old.down.ready && !old.proof.asked // once is enough: it is about to end
	old.proof.asked = old.proof.asked || asking
	e.mu.Unlock()
	if !asking || !e.publish(old, wire.Down{}) {
		return false
	}
	wait, cancel := context.WithCancelCause(context.Background())
	go func() {
		select {
		case <-old.proof.came:
			cancel(errAnswered)
		case <-old.gone:
			cancel(nil)
		case <-wait.Done():
		}
	}()
	_ = e.cfg.Clock.Sleep(wait, proofTime) // its error says that it was cut short
	defer cancel(nil)
	return errors.Is(context.Cause(wait), errAnswered)
}

var errAnswered = errors.New("answered")

// OnQosPublish learns the number of the message that asks for a proof. It has no
// content; one of the same kind that went out before was no question.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	if c, ok := cl.Net.Conn.(*conn); ok && len(pk.Payload) == 0 {
		h.e.mu.Lock()
		if c.proof.asked {
			c.proof.id = pk.PacketID
		}
		h.e.mu.Unlock()
	}
}

// acknowledged takes a PUBACK of the gateway.
func (e *Endpoint) acknowledged(c *conn, id uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.proof.id == 0 || c.proof.id != id || c.proof.given {
		return // a message may go out again, and be acknowledged again
	}
	c.proof.id, c.proof.given = 0, true
	close(c.proof.came)
}

// tookOver counts the takeovers of a gateway's living sessions within
// takeoverSpan.
func (e *Endpoint) tookOver(serial string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Clock.Now()
	for s, times := range e.taken {
		for len(times) > 0 && now.Sub(times[0]) > takeoverSpan {
			times = times[1:]
		}
		if e.taken[s] = times; len(times) == 0 {
			delete(e.taken, s)
		}
	}
	e.taken[serial] = append(e.taken[serial], now)
	if n := len(e.taken[serial]); n > takeovers {
		e.taken[serial] = e.taken[serial][n-takeovers:]
	}
	return len(e.taken[serial])
}
