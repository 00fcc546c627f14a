package endpoint_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// These tests hold the endpoint to the rights of a gateway as they are fixed:
// publish gw/<serial>/up and /state, subscribe gw/<serial>/down, a will on its own
// state, nothing retained.

func TestAGatewayMayDoWhatItMayAndNothingElse(t *testing.T) {
	const own, foreign = "GW-0001", "GW-0002"
	state := []byte(`{"online":true,"session":1}`)
	retained := func(p *packets.PublishPacket) *packets.PublishPacket { p.Retain = true; return p }
	for _, tc := range []struct {
		does    string
		packet  packets.ControlPacket
		allowed bool
	}{
		{"publishes a record", publish("gw/GW-0001/up", 1, []byte("record")), true},
		{"publishes its state", publish("gw/GW-0001/state", 1, state), true},
		{"publishes its state with QoS 0", publish("gw/GW-0001/state", 0, state), true},
		{"subscribes to its commands", subscribe("gw/GW-0001/down"), true},
		{"pings", packets.NewControlPacket(packets.Pingreq), true},

		{"publishes a record of another gateway", publish("gw/GW-0002/up", 1, []byte("record")), false},
		{"publishes the state of another gateway", publish("gw/GW-0002/state", 1, state), false},
		{"publishes a command to itself", publish("gw/GW-0001/down", 1, nil), false},
		{"publishes a command to another gateway", publish("gw/GW-0002/down", 1, nil), false},
		{"publishes below its own topic", publish("gw/GW-0001/up/more", 1, nil), false},
		{"publishes on a topic of the server's", publish("$SYS/broker/version", 1, nil), false},
		{"publishes on a wildcard", publish("gw/+/up", 1, nil), false},
		{"publishes on no topic", publish("", 1, nil), false},
		{"publishes a record with QoS 0", publish("gw/GW-0001/up", 0, []byte("record")), false},
		{"publishes a record with QoS 2", publish("gw/GW-0001/up", 2, []byte("record")), false},
		{"publishes its state with QoS 2", publish("gw/GW-0001/state", 2, state), false},
		{"publishes a retained record", retained(publish("gw/GW-0001/up", 1, []byte("record"))), false},
		{"publishes a retained state", retained(publish("gw/GW-0001/state", 1, state)), false},
		{"publishes a state that is none", publish("gw/GW-0001/state", 1, []byte("hello")), false},

		{"subscribes to the commands of another gateway", subscribe("gw/GW-0002/down"), false},
		{"subscribes to its own records", subscribe("gw/GW-0001/up"), false},
		{"subscribes to all commands", subscribe("gw/+/down"), false},
		{"subscribes to everything", subscribe("#"), false},
		{"subscribes to its commands in a shared subscription", subscribe("$share/x/gw/GW-0001/down"), false},
		{"subscribes to its commands and to another's", subscribe("gw/GW-0001/down", "gw/GW-0002/down"), false},
		{"connects twice", connect(own), false},
		{"sends a packet that only a server sends", packets.NewControlPacket(packets.Pingresp), false},
	} {
		t.Run(tc.does, func(t *testing.T) {
			s := serve(t)
			c := s.gateway(t, own)
			c.send(tc.packet)
			if tc.allowed {
				c.mustServeAfter(tc.packet)
				return
			}
			c.mustBeClosed("a gateway " + tc.does)
			if n := s.store.all(); n != 0 {
				t.Errorf("%d things were stored", n)
			}
			eventually(t, "a violation or a failure", func() bool { st := s.endpoint.Stats(); return st.Violations+st.Failed == 1 })
			if log := s.log.String(); !strings.Contains(log, "level=WARN") && !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "gateway="+own) {
				t.Errorf("the log does not say who did it:\n%s", log)
			}
			// Nobody else is harmed.
			s.gateway(t, foreign).mustBeStored("a record")
		})
	}
}

// mustServeAfter reads the answers to an allowed packet, then pings.
func (c *client) mustServeAfter(p packets.ControlPacket) {
	c.t.Helper()
	switch p := p.(type) {
	case *packets.PublishPacket:
		if p.Qos == 1 {
			if ack, ok := c.receive().(*packets.PubackPacket); !ok || ack.MessageID != p.MessageID {
				c.t.Errorf("not acknowledged: %v", ack)
			}
		}
	case *packets.SubscribePacket:
		if ack, ok := c.receive().(*packets.SubackPacket); !ok || !bytes.Equal(ack.ReturnCodes, p.Qoss) {
			c.t.Errorf("not granted: %v", ack)
		}
	case *packets.PingreqPacket:
		if _, ok := c.receive().(*packets.PingrespPacket); !ok {
			c.t.Error("a ping was not answered")
		}
	}
	c.mustServe()
}

func TestAConnectMustFitTheCertificateAndTheRules(t *testing.T) {
	will := func(topic string, qos byte, retain bool) func(p *packets.ConnectPacket) {
		return func(p *packets.ConnectPacket) {
			p.WillFlag, p.WillTopic, p.WillQos, p.WillRetain, p.WillMessage = true, topic, qos, retain, []byte(`{"online":false}`)
		}
	}
	for _, tc := range []struct {
		does    string
		change  func(p *packets.ConnectPacket)
		allowed bool
	}{
		{"connects as itself", func(*packets.ConnectPacket) {}, true},
		{"leaves a will on its state", will("gw/GW-0001/state", 1, false), true},
		{"leaves a will on its state with QoS 0", will("gw/GW-0001/state", 0, false), true},
		{"shows a user name", func(p *packets.ConnectPacket) { p.UsernameFlag, p.Username = true, "GW-0002" }, true}, // of no meaning

		{"connects as another gateway", func(p *packets.ConnectPacket) { p.ClientIdentifier = "GW-0002" }, false},
		{"connects as its serial in lower case", func(p *packets.ConnectPacket) { p.ClientIdentifier = "gw-0001" }, false},
		{"connects without a client id", func(p *packets.ConnectPacket) { p.ClientIdentifier = "" }, false},
		{"connects as everybody", func(p *packets.ConnectPacket) { p.ClientIdentifier = "#" }, false},
		{"wants a session that outlives its connection", func(p *packets.ConnectPacket) { p.CleanSession = false }, false},
		{"wants to be held for ever", func(p *packets.ConnectPacket) { p.Keepalive = 0 }, false},
		{"wants to be held for hours", func(p *packets.ConnectPacket) { p.Keepalive = 20000 }, false},
		{"speaks MQTT 3.1", func(p *packets.ConnectPacket) { p.ProtocolName, p.ProtocolVersion = "MQIsdp", 3 }, false},
		{"leaves a will on its records", will("gw/GW-0001/up", 1, false), false},
		{"leaves a will on a wildcard", will("gw/+/state", 1, false), false},
		{"leaves a retained will", will("gw/GW-0001/state", 1, true), false},
		{"leaves a will with QoS 2", will("gw/GW-0001/state", 2, false), false},
	} {
		t.Run(tc.does, func(t *testing.T) {
			s := serve(t)
			c := s.dial(t, "GW-0001")
			p := connect("GW-0001")
			tc.change(p)
			c.send(p)
			if tc.allowed {
				if ack, ok := c.receive().(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
					t.Fatalf("refused: %v", ack)
				}
				c.mustBeStored("a record")
				return
			}
			c.mustBeClosed("a gateway that " + tc.does)
			if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "gateway=GW-0001") {
				t.Errorf("the log does not say who did it:\n%s", log)
			}
			if n := s.endpoint.Stats().Violations; n != 1 {
				t.Errorf("%d violations were counted", n)
			}
		})
	}
}

func TestThePublishToAForeignTopicIsLoggedWithWhoAndWhere(t *testing.T) {
	s := serve(t)
	c := s.gateway(t, "GW-0001")
	c.send(publish("gw/GW-0002/up", 1, []byte("forged")))
	c.mustBeClosed("a foreign topic")
	log := s.log.String()
	for _, want := range []string{"gateway=GW-0001", "gw/GW-0002/up", "remote=127.0.0.1:"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not mention %s:\n%s", want, log)
		}
	}
}

func TestAPacketThatIsTooLargeOrNoneEndsTheConnectionAndIsLogged(t *testing.T) {
	for does, first := range map[string][]byte{
		"announces a publish of 2 MiB":          {0x32, 0x80, 0x80, 0x80, 0x01}, // MQTT 3.1.1, 2.2.3
		"sends a length without end":            {0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"sends a packet of a type that is none": {0xF0, 0x00},
		"sends a publish without a topic":       {0x32, 0x00},
	} {
		s := serve(t)
		c := s.gateway(t, "GW-0001")
		if _, err := c.Write(first); err != nil {
			t.Fatal(err)
		}
		c.mustBeClosed("a gateway that " + does)
		eventually(t, "a violation", func() bool { return s.endpoint.Stats().Violations == 1 })
		if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "gateway=GW-0001") {
			t.Errorf("a gateway %s, and the log does not say who:\n%s", does, log)
		}
	}
}

func TestNothingIsTakenBeforeConnect(t *testing.T) {
	for does, p := range map[string]packets.ControlPacket{
		"publishes": publish("gw/GW-0001/up", 1, []byte("record")), "subscribes": subscribe("gw/GW-0001/down"),
		"pings": packets.NewControlPacket(packets.Pingreq),
	} {
		s := serve(t)
		c := s.dial(t, "GW-0001")
		c.send(p)
		c.mustBeClosed("a gateway that " + does + " before it has connected")
		if s.store.all() != 0 {
			t.Errorf("what a gateway %s before it has connected was stored", does)
		}
	}
}
