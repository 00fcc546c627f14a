package endpoint

import (
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A message without content may go out several times on a connection, and each is
// acknowledged: that brought the whole backend down.
func TestAMessageWithoutContentMayBeAcknowledgedTwice(t *testing.T) {
	e := &Endpoint{}
	h := &hook{e: e}
	c := &conn{proof: proof{came: make(chan struct{})}}
	cl := &mqtt.Client{Net: mqtt.ClientConnection{Conn: c}}
	given := func() bool {
		select {
		case <-c.proof.came:
			return true
		default:
			return false
		}
	}
	message := func(id uint16) {
		h.OnQosPublish(cl, packets.Packet{PacketID: id}, 0, 0)
		e.acknowledged(c, id)
		e.acknowledged(c, id)
	}
	message(1)
	if given() {
		t.Error("a message that was no question counts as answered")
	}
	c.proof.asked = true
	message(2)
	if !given() {
		t.Error("the question's PUBACK does not count")
	}
	message(3)
}
