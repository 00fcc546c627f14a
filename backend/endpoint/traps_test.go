package endpoint_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The engine has three traps. Each test shows first that the engine alone falls
// into it, so that a test of ours does not pass for a reason that has gone away,
// and then that the endpoint does not.

// ordinary is the hook that one would write after reading the engine's
// documentation: it allows a client its own topics, and reports a publish that
// was not kept as an error.
type ordinary struct {
	mqtt.HookBase
	keep error
}

func (*ordinary) ID() string { return "ordinary" }
func (*ordinary) Provides(b byte) bool {
	return bytes.IndexByte([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish}, b) >= 0
}
func (*ordinary) OnConnectAuthenticate(*mqtt.Client, mochi.Packet) bool { return true }
func (*ordinary) OnACLCheck(cl *mqtt.Client, topic string, _ bool) bool {
	return bytes.HasPrefix([]byte(topic), []byte("gw/"+cl.ID+"/"))
}
func (o *ordinary) OnPublish(_ *mqtt.Client, pk mochi.Packet) (mochi.Packet, error) {
	return pk, o.keep
}

// alone connects to a bare engine.
func alone(t *testing.T, engine *mqtt.Server, p *packets.ConnectPacket) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close() })
	go engine.EstablishConnection("test", there) //nolint:errcheck // ends with the pipe
	if err := here.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	exchange(t, here, p)
	return here
}

func exchange(t *testing.T, c net.Conn, p packets.ControlPacket) packets.ControlPacket {
	t.Helper()
	if err := p.Write(c); err != nil {
		t.Fatal(err)
	}
	answer, err := packets.ReadPacket(c)
	if err != nil {
		t.Fatalf("waiting for the answer to %v: %v", p, err)
	}
	return answer
}

func bare(t *testing.T, keep error) *mqtt.Server {
	t.Helper()
	engine := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := engine.AddHook(&ordinary{keep: keep}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

func foreignWill(id, topic string) *packets.ConnectPacket {
	p := connect(id)
	p.WillFlag, p.WillTopic, p.WillMessage = true, topic, []byte(`{"online":false,"session":9}`)
	return p
}

func TestTrapAWillGoesPastTheAccessCheck(t *testing.T) {
	engine := bare(t, nil)
	victim := alone(t, engine, connect("GW-0002"))
	exchange(t, victim, subscribe("gw/GW-0002/state"))
	alone(t, engine, foreignWill("GW-0001", "gw/GW-0002/state")).Close()
	if p, err := packets.ReadPacket(victim); err != nil {
		t.Fatalf("the engine alone no longer delivers a will past its access check (%v): this trap is gone", err)
	} else if will, ok := p.(*packets.PublishPacket); !ok || will.TopicName != "gw/GW-0002/state" {
		t.Fatalf("instead of the will came %v", p)
	}

	s := serve(t)
	c := s.dial(t, "GW-0001")
	c.send(foreignWill("GW-0001", "gw/GW-0002/state"))
	c.mustBeClosed("a will on the state of another gateway")
	if n := s.store.all(); n != 0 {
		t.Errorf("%d things were stored", n)
	}
}

func TestTrapAPlusIsTakenForAClientID(t *testing.T) {
	alone(t, bare(t, nil), connect("+")) // is answered by a CONNACK

	s := serve(t)
	c := s.dial(t, "GW-0001")
	c.send(connect("+"))
	c.mustBeClosed("the client id +")
}

func TestTrapAFailedPublishHookIsAcknowledgedAllTheSame(t *testing.T) {
	c := alone(t, bare(t, errDisk), connect("GW-0001"))
	if _, ok := exchange(t, c, publish("gw/GW-0001/up", 1, []byte("record"))).(*packets.PubackPacket); !ok {
		t.Fatal("the engine alone no longer acknowledges what its hook failed to keep: this trap is gone")
	}

	s := serve(t)
	gw := s.gateway(t, "GW-0001")
	gw.mustBeStored("before")
	s.store.failWith(errDisk)
	gw.send(publish("gw/GW-0001/up", 1, []byte("lost?")))
	gw.mustBeClosed("a commit that failed")
	if got := s.store.of("GW-0001"); len(got) != 1 || string(got[0]) != "before" {
		t.Errorf("stored: %q", got)
	}
	if st := s.endpoint.Stats(); st.Failed != 1 || st.Stored != 1 {
		t.Errorf("stats %+v", st)
	}
	// It comes back, sends again, and is stored once the store works.
	s.store.failWith(nil)
	s.gateway(t, "GW-0001").mustBeStored("lost?")
	if got := s.store.of("GW-0001"); len(got) != 2 {
		t.Errorf("stored: %q", got)
	}
}

func TestWhatFollowsAFailedPublishIsNotStoredEither(t *testing.T) {
	s := serve(t)
	s.store.failsOn = "first"
	gw := s.gateway(t, "GW-0001")
	// Both are in one write: the second is with the endpoint when the first fails.
	var both bytes.Buffer
	first, second := publish("gw/GW-0001/up", 1, []byte("first")), publish("gw/GW-0001/up", 1, []byte("second"))
	if err := errors.Join(first.Write(&both), second.Write(&both)); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.Write(both.Bytes()); err != nil {
		t.Fatal(err)
	}
	gw.mustBeClosed("a commit that failed")
	eventually(t, "the end of the connection", func() bool { return s.endpoint.Stats().Connected == 0 })
	if got := s.store.of("GW-0001"); len(got) != 0 {
		t.Errorf("stored after a failure in the same connection: %q; a gateway's records are kept in their order", got)
	}
}
