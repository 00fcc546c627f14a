package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"penstock/internal/status"
)

const protocol311 = 4

// hook is our side of the engine. The engine calls it from the goroutine that
// reads the connection in question.
type hook struct {
	mqtt.HookBase
	e *Endpoint
}

func (h *hook) ID() string { return "penstock" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnPacketRead, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnQosPublish, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnSubscribed, mqtt.OnDisconnect:
		return true
	}
	return false
}

func topic(serial, leaf string) string { return "gw/" + serial + "/" + leaf }

// OnPacketRead judges a packet before the engine sees it. ErrRejectPacket ends
// the connection, whatever the packet was; any other error would be ignored.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	err := judge(c.serial, pk)
	if pk.FixedHeader.Type == packets.Connect {
		if c.connected {
			err = errors.New("a second CONNECT")
		}
		c.connected = true
		if err == nil && h.e.cfg.Check != nil {
			err = h.e.cfg.Check(c.serial, c.leaf)
		}
	}
	if err != nil {
		c.violates(h.e, err)
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Type == packets.Puback {
		h.e.acknowledged(c, pk.PacketID)
	}
	return pk, nil
}

// judge holds a packet against the rights of the gateway.
func judge(serial string, pk packets.Packet) error {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return judgeConnect(serial, pk)
	case packets.Publish:
		switch {
		case pk.FixedHeader.Retain:
			return fmt.Errorf("a retained publish on %s", quoted(pk.TopicName))
		case pk.TopicName == topic(serial, "up") && pk.FixedHeader.Qos != 1:
			return fmt.Errorf("a record with QoS %d; it takes QoS 1 to be acknowledged", pk.FixedHeader.Qos)
		case pk.TopicName == topic(serial, "up"):
			return nil
		case pk.TopicName == topic(serial, "state") && pk.FixedHeader.Qos <= 1:
			return nil
		}
		return fmt.Errorf("a publish on %s with QoS %d", quoted(pk.TopicName), pk.FixedHeader.Qos)
	case packets.Subscribe, packets.Unsubscribe:
		for _, f := range pk.Filters {
			if f.Filter != topic(serial, "down") {
				return fmt.Errorf("a subscription to %s", quoted(f.Filter))
			}
		}
		return nil
	case packets.Puback, packets.Pingreq, packets.Disconnect:
		return nil
	}
	return fmt.Errorf("a packet of type %d", pk.FixedHeader.Type)
}

// quoted is a text of a gateway as the log takes it: it may be 64 kB long.
func quoted(text string) string {
	const most = 100
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return fmt.Sprintf("%q… (%d bytes)", text[:most], len(text))
}

func judgeConnect(serial string, pk packets.Packet) error {
	p := pk.Connect
	keepAlive := time.Duration(p.Keepalive) * time.Second
	switch {
	case pk.ProtocolVersion != protocol311:
		return fmt.Errorf("MQTT version %d; this endpoint speaks 3.1.1", pk.ProtocolVersion)
	case p.ClientIdentifier != serial:
		return fmt.Errorf("client id %s, and the certificate is of %s", quoted(p.ClientIdentifier), serial)
	case !p.Clean:
		return errors.New("a session that outlives its connection; clean session is required")
	case keepAlive == 0 || keepAlive > maxKeepAlive:
		return fmt.Errorf("a keepalive of %v; allowed: 1 s to %v", keepAlive, maxKeepAlive)
	case p.WillFlag && p.WillTopic != topic(serial, "state"):
		return fmt.Errorf("a will on %s", quoted(p.WillTopic))
	case p.WillFlag && (p.WillRetain || p.WillQos > 1):
		return errors.New("a will that is retained or has QoS 2")
	}
	return nil
}

// OnConnectAuthenticate: the certificate was verified in the handshake, and
// OnPacketRead has seen that the client id is its serial number.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	return ok && cl.ID == c.serial
}

// OnACLCheck repeats the rights of judge for the engine.
func (h *hook) OnACLCheck(cl *mqtt.Client, name string, write bool) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	if write {
		return slices.Contains([]string{topic(c.serial, "up"), topic(c.serial, "state")}, name)
	}
	return name == topic(c.serial, "down")
}

// OnPublish keeps a publish. The engine acknowledges after it returns, unless
// it returns ErrRejectPacket; an ordinary error would be acknowledged.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil // what deliver sends down
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	var err error
	if pk.TopicName == topic(c.serial, "up") {
		err = h.e.cfg.Store.Append(context.Background(), c.serial, pk.Payload)
	} else {
		err = h.state(c, pk.Payload)
	}
	if err != nil {
		h.e.stats.failed.Add(1)
		c.log.Error("not kept and not acknowledged; the connection is closed", "topic", pk.TopicName, "err", err)
		cl.Stop(err)
		return pk, packets.ErrRejectPacket
	}
	h.e.stats.stored.Add(1)
	// Nobody subscribes to what gateways publish: the store has it.
	pk.Ignore = true
	return pk, nil
}

// state takes in what a gateway says of itself.
func (h *hook) state(c *conn, payload []byte) error {
	var s status.State
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("its state is not the JSON of a state: %w", err)
	}
	c.session = s.Session
	return h.e.cfg.Store.SetPresence(context.Background(), c.serial, s.Online, s.Session, payload)
}

// OnDisconnect notes that the gateway is gone, by its session's number: the end
// of a connection that was taken over does not mark the new one offline. That
// is what its will asks for, so the will itself need not be delivered.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || c.session == 0 {
		return
	}
	if err := h.e.cfg.Store.SetOffline(context.Background(), c.serial, c.session); err != nil {
		c.log.Error("the gateway's presence could not be kept", "err", err)
	}
}
