package endpoint_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/backend/store"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
)

func TestNoAcknowledgementBeforeTheStoreHasReturned(t *testing.T) {
	s := serve(t)
	gw := s.gateway(t, "GW-0001")
	s.store.entered, s.store.release = make(chan struct{}), make(chan struct{})
	gw.send(publish("gw/GW-0001/up", 1, []byte("record")))
	<-s.store.entered
	// The store has it and has not committed. Nothing may come now, however long
	// one waits; this waits long enough for an acknowledgement on loopback.
	if err := gw.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := gw.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("before the commit came %d bytes, %v", n, err)
	}
	// Others are served meanwhile: nobody waits for another's commit but in the store.
	s.gateway(t, "GW-0002").mustServe()
	if err := gw.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	close(s.store.release)
	if ack, ok := gw.receive().(*packets.PubackPacket); !ok || ack.MessageID != 7 {
		t.Errorf("after the commit came %v", ack)
	}
}

func TestManyGatewaysWaitInTheStoreTogether(t *testing.T) {
	const gateways = 20
	s := serve(t)
	s.store.entered, s.store.release = make(chan struct{}), make(chan struct{})
	var all []*client
	for i := range gateways {
		gw := s.gateway(t, "GW-10"+string(rune('A'+i)))
		gw.send(publish("gw/"+gw.serial+"/up", 1, []byte("record")))
		all = append(all, gw)
	}
	for range gateways { // all of them are in Append before any of them returns
		<-s.store.entered
	}
	close(s.store.release)
	for _, gw := range all {
		if _, ok := gw.receive().(*packets.PubackPacket); !ok {
			t.Errorf("%s was not acknowledged", gw.serial)
		}
	}
}

func TestWhatCannotBeDecodedIsStoredRawAndAcknowledged(t *testing.T) {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := &site{Authorities: pkitest.New(t), log: &logbook{}, clock: clock.System}
	t.Run("serve", func(t *testing.T) {
		s.run(t, db)
		gw := s.gateway(t, "GW-0001")
		gw.mustBeStored("this is no record")
		gw.mustBeStored("this is no record") // sent again: it is the same
		gw.mustServe()
	})
	counters, err := db.Counters(t.Context(), "GW-0001")
	if err != nil || counters != (store.Counters{Unreadable: 1}) {
		t.Errorf("counters %+v, %v; want one unreadable publish", counters, err)
	}
}

func TestAnEmptyRecordIsLookedAtLikeAnyOther(t *testing.T) {
	s := serve(t)
	s.gateway(t, "GW-0001").mustBeStored("")
	if got := s.store.of("GW-0001"); len(got) != 1 || len(got[0]) != 0 {
		t.Errorf("stored: %q", got)
	}
}

func TestANewConnectionTakesOverFromTheOld(t *testing.T) {
	s := serve(t)
	old := s.gateway(t, "GW-0001")
	old.send(publish("gw/GW-0001/state", 1, []byte(`{"online":true,"session":4}`)))
	old.receive()
	fresh := s.gateway(t, "GW-0001")
	// The engine says DISCONNECT first, which MQTT 3.1.1 knows in the other direction
	// only; clients close on it.
	if p, err := packets.ReadPacket(old.Conn); err == nil {
		if _, ok := p.(*packets.DisconnectPacket); !ok {
			t.Errorf("the old connection got %v", p)
		}
		old.mustBeClosed("another connection of the same gateway")
	}
	fresh.send(publish("gw/GW-0001/state", 1, []byte(`{"online":true,"session":5}`)))
	fresh.receive()
	fresh.mustBeStored("a record")
	// The end of the old one is noted by its own number, which does not touch the new.
	want := presence{"GW-0001", false, 4}
	eventually(t, "the end of session 4", func() bool { return slices.Contains(s.store.presences(), want) })
	fresh.Close()
	want.session = 5
	eventually(t, "the end of session 5", func() bool { return slices.Contains(s.store.presences(), want) })
	for _, p := range s.store.presences() {
		if p.session == 0 {
			t.Errorf("presence was noted without a session: %+v", p)
		}
	}
}

func TestAConnectionThatNeverSaidWhichSessionLeavesPresenceAlone(t *testing.T) {
	s := serve(t)
	s.gateway(t, "GW-0001").Close()
	eventually(t, "the end of the connection", func() bool { return s.endpoint.Stats().Connected == 0 })
	if p := s.store.presences(); len(p) != 0 {
		t.Errorf("presence %+v", p)
	}
}

func TestAStateThatCouldNotBeKeptIsNotAcknowledged(t *testing.T) {
	s := serve(t)
	gw := s.gateway(t, "GW-0001")
	s.store.failWith(errDisk)
	gw.send(publish("gw/GW-0001/state", 1, []byte(`{"online":true,"session":1}`)))
	gw.mustBeClosed("a state that was not kept")
}

func TestDropEndsTheConnectionsOfThatGatewayOnly(t *testing.T) {
	s := serve(t)
	dropped, other := s.gateway(t, "GW-0001"), s.gateway(t, "GW-0002")
	half := s.dial(t, "GW-0001") // has not sent CONNECT yet
	eventually(t, "three connections", func() bool { return s.endpoint.Stats().Connected == 3 })
	s.endpoint.Drop("GW-0001", "")
	dropped.mustBeClosed("Drop")
	half.mustBeClosed("Drop")
	other.mustServe()
}

func TestARefusedGatewayGetsNoCONNACKAndTheLogSaysWhy(t *testing.T) {
	s := serve(t)
	s.admit = func(serial string) error {
		if serial == "GW-0001" {
			return errors.New("it was stolen on Tuesday")
		}
		return nil
	}
	s.gateway(t, "GW-0002").mustServe()
	c := s.dial(t, "GW-0001") // a client of TLS 1.3 believes that it is in
	_ = connect("GW-0001").Write(c)
	if p, err := packets.ReadPacket(c); err == nil {
		t.Errorf("a revoked gateway was answered with %v", p)
	}
	eventually(t, "a refusal", func() bool { return s.endpoint.Stats().Refused == 1 })
	eventually(t, "its reason in the log", func() bool { return strings.Contains(s.log.String(), "it was stolen on Tuesday") })
	if s.store.all() != 0 {
		t.Error("something was stored")
	}
}

func TestTheEndFinishesCommitsThatAreUnderWay(t *testing.T) {
	s := &site{Authorities: pkitest.New(t), store: &memory{kept: map[string][][]byte{}}, log: &logbook{}, clock: clock.System}
	entered, release := make(chan struct{}), make(chan struct{})
	s.store.entered, s.store.release = entered, release
	t.Run("serve", func(t *testing.T) {
		s.run(t, s.store)
		gw := s.gateway(t, "GW-0001")
		gw.send(publish("gw/GW-0001/up", 1, []byte("record")))
		<-entered
		context.AfterFunc(t.Context(), func() { close(release) }) // the endpoint is told to stop first
	})
	if got := s.store.of("GW-0001"); len(got) != 1 {
		t.Errorf("stored: %q", got)
	}
}
