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
	// lookEvery is how often the endpoint looks for what other processes have
	// put into the store; what this one does rings a bell.
	lookEvery = 500 * time.Millisecond
	// shortest is the least part of a lease that is worth a message: it is
	// renewed in the store every few seconds, and on the line only when it has
	// run down to this.
	shortest = 25 * time.Second
	// longest is the lease that one message gives.
	longest = 60 * time.Second
)

// downlink is what has been sent down a connection. The goroutine of
// Endpoint.deliver owns it, but for ready.
type downlink struct {
	ready    bool // it has subscribed; guarded by Endpoint.mu
	commands map[telemetry.CommandID]bool
	epochs   map[wire.Epoch]bool
	watched  time.Time // until when it has been told that somebody looks
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

// deliver sends down what is in the store until ctx ends: when the store rings,
// when a gateway has subscribed, and now and then.
func (e *Endpoint) deliver(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		stirred := e.cfg.Store.Stirred()
		if err := e.deliverOnce(ctx); err != nil && ctx.Err() == nil {
			if !failing {
				e.cfg.Log.Error("what is to be sent to gateways cannot be looked up; trying again", "err", err)
			}
			failing = true
		} else {
			failing = false
		}
		wait, cancel := context.WithCancel(ctx)
		go func() {
			defer cancel()
			select {
			case <-stirred:
			case <-e.subscribed:
			case <-wait.Done():
			}
		}()
		_ = e.cfg.Clock.Sleep(wait, lookEvery) // its error says that it was cut short
		cancel()
	}
}

func (e *Endpoint) deliverOnce(ctx context.Context) error {
	all, err := e.cfg.Store.Downlinks(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	e.mu.Lock()
	var ready []*conn
	for c := range e.open {
		if c.down.ready && all[c.serial] != nil {
			ready = append(ready, c)
		}
	}
	e.mu.Unlock()
	for _, c := range ready {
		e.sendDown(ctx, c, all[c.serial])
	}
	return nil
}

// sendDown sends one connection what it has not had yet.
func (e *Endpoint) sendDown(ctx context.Context, c *conn, d *store.Downlink) {
	if c.down.commands == nil {
		c.down.commands, c.down.epochs = map[telemetry.CommandID]bool{}, map[wire.Epoch]bool{}
	}
	for _, epoch := range d.Epochs {
		if !c.down.epochs[epoch] && e.publish(c, wire.Down{NewEpoch: epoch}) {
			c.down.epochs[epoch] = true
		}
	}
	now := e.cfg.Clock.Now()
	if left := d.Watch.Sub(now); left > 0 && c.down.watched.Sub(now) < shortest && d.Watch.After(c.down.watched) {
		if e.publish(c, wire.Down{Watch: min(left, longest)}) {
			c.down.watched = now.Add(min(left, longest))
		}
	}
	for _, command := range d.Commands {
		if c.down.commands[command.ID] || !e.cfg.Clock.Now().Before(command.Expires) {
			continue
		}
		if !e.publish(c, wire.Down{Command: &command}) {
			return // in order, or not at all
		}
		c.down.commands[command.ID] = true
		c.log.Info("a command was sent", "id", command.ID, "pump", command.Pump, "command", command.Name, "value", command.Value)
		if err := e.cfg.Store.Sent(ctx, command.ID); err != nil {
			c.log.Error("it could not be noted that a command was sent", "id", command.ID, "err", err)
		}
	}
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
