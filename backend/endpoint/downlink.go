package endpoint

import (
	"context"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"penstock/backend/store"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

const (
	// lookEvery is how often the endpoint asks whether another process has put
	// something into the store; what this one does rings a bell.
	lookEvery = 500 * time.Millisecond
	// wholeEvery is how often it looks at all that is to be sent, though nothing has
	// changed: a lease on the line runs down by itself.
	wholeEvery = 5 * time.Second
	// shortest is the least part of a lease that is worth a message: it is
	// renewed in the store every few seconds, and on the line only when it has
	// run down to this.
	shortest = 25 * time.Second
	// longest is the lease that one message gives.
	longest = 60 * time.Second
	// askAgain is how soon a connection is asked once more for a catalogue that has
	// not come: what a gateway says it lacks must not keep the endpoint busy.
	askAgain = time.Hour
)

// downlink is what has been sent down a connection. The goroutine of
// Endpoint.deliver owns it, but for ready.
type downlink struct {
	ready    bool // it has subscribed; guarded by Endpoint.mu
	commands map[telemetry.CommandID]bool
	epochs   map[wire.Epoch]bool
	watched  time.Time // until when it has been told that somebody looks
	asked    time.Time // when it was asked for its catalogue
}

// OnSubscribed notes that a connection hears what is sent to it.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, reasons []byte) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || len(reasons) == 0 || reasons[0] > 1 {
		return
	}
	h.e.mu.Lock()
	c.down.ready = true
	h.e.mu.Unlock()
	select {
	case h.e.subscribed <- struct{}{}:
	default: // deliver is about to look
	}
}

// deliver sends down what is in the store until ctx ends: when the store rings or its
// version is another one, when a gateway has subscribed, and now and then.
func (e *Endpoint) deliver(ctx context.Context) {
	failing := false
	var d delivery
	for ctx.Err() == nil {
		stirred := e.cfg.Store.Stirred()
		if err := d.look(ctx, e); err != nil && ctx.Err() == nil {
			if !failing {
				e.cfg.Log.Error("what is to be sent to gateways cannot be looked up; trying again", "err", err)
			}
			failing = true
		} else {
			failing = false
		}
		wait, cancel := context.WithCancel(ctx)
		subscribed := make(chan bool, 1)
		go func() {
			defer cancel()
			now := false
			select {
			case <-stirred:
			case <-e.subscribed:
				now = true
			case <-wait.Done():
			}
			subscribed <- now
		}()
		_ = e.cfg.Clock.Sleep(wait, lookEvery) // its error says that it was cut short
		cancel()
		d.again = <-subscribed || d.again
	}
}

// delivery is how far deliver has come.
type delivery struct {
	version int64     // of the store, at the last look
	looked  time.Time // when that was; zero: never
	again   bool      // something was not sent, or a gateway has subscribed
}

// look sends what is new, if there may be something.
func (d *delivery) look(ctx context.Context, e *Endpoint) error {
	version, err := e.cfg.Store.DownlinkVersion(ctx)
	if err != nil {
		return err
	}
	now := e.cfg.Clock.Now()
	if version == d.version && !d.again && !d.looked.IsZero() && now.Sub(d.looked) < wholeEvery && !now.Before(d.looked) {
		return nil
	}
	all, err := e.deliverOnce(ctx)
	if err != nil {
		d.again = true
		return err
	}
	d.version, d.looked, d.again = version, now, !all
	return nil
}

// deliverOnce tells whether all was sent that could be.
func (e *Endpoint) deliverOnce(ctx context.Context) (sent bool, err error) {
	all, err := e.cfg.Store.Downlinks(ctx)
	if err != nil || len(all) == 0 {
		return true, err
	}
	e.mu.Lock()
	var ready []*conn
	for c := range e.open {
		if c.down.ready && all[c.serial] != nil {
			ready = append(ready, c)
		}
	}
	e.mu.Unlock()
	sent = true
	for _, c := range ready {
		sent = e.sendDown(ctx, c, all[c.serial]) && sent
	}
	return sent, nil
}

// sendDown sends one connection what it has not had yet, and tells whether all went.
func (e *Endpoint) sendDown(ctx context.Context, c *conn, d *store.Downlink) (all bool) {
	all = true
	if c.down.commands == nil {
		c.down.commands, c.down.epochs = map[telemetry.CommandID]bool{}, map[wire.Epoch]bool{}
	}
	for _, epoch := range d.Epochs {
		if c.down.epochs[epoch] {
			continue
		}
		if e.publish(c, wire.Down{NewEpoch: epoch}) {
			c.down.epochs[epoch] = true
		} else {
			all = false
		}
	}
	now := e.cfg.Clock.Now()
	if left := d.Watch.Sub(now); left > 0 && c.down.watched.Sub(now) < shortest && d.Watch.After(c.down.watched) {
		if e.publish(c, wire.Down{Watch: min(left, longest)}) {
			c.down.watched = now.Add(min(left, longest))
		} else {
			all = false
		}
	}
	if d.Catalogue && (c.down.asked.IsZero() || now.Sub(c.down.asked) >= askAgain) && e.publish(c, wire.Down{TellCatalogue: true}) {
		c.down.asked = now
		c.log.Info("blocks have come without their catalogue; the gateway is asked for it")
	}
	for _, command := range d.Commands {
		if c.down.commands[command.ID] || !e.cfg.Clock.Now().Before(command.Expires) {
			continue
		}
		if !e.publish(c, wire.Down{Command: &command}) {
			return false // in order, or not at all
		}
		c.down.commands[command.ID] = true
		c.log.Info("a command was sent", "id", command.ID, "pump", command.Pump, "command", command.Name, "value", command.Value)
		if err := e.cfg.Store.Sent(ctx, command.ID); err != nil {
			c.log.Error("it could not be noted that a command was sent", "id", command.ID, "err", err)
		}
	}
	return all
}

// publish hands a message to the engine for one connection. false: the
// connection is not the gateway's current one, or does not keep up.
func (e *Endpoint) publish(c *conn, d wire.Down) bool {
	cl, ok := e.engine.Clients.Get(c.serial)
	if !ok || cl.Net.Conn != c || cl.Closed() || cl.State.Inflight.Len() >= windowMost {
		return false
	}
	const retain, qos = false, 1
	message := wire.AppendDown(nil, d)
	if len(message) > wire.MaxDown { // the gateway would end the session, each time anew
		c.log.Error("a message that is longer than a gateway takes is not sent", "bytes", len(message))
		return true
	}
	if err := e.engine.Publish(topic(c.serial, "down"), message, retain, qos); err != nil {
		c.log.Error("a message could not be sent", "err", err)
		return false
	}
	return true
}
