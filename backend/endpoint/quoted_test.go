package endpoint

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestALongTopicIsNotLoggedWhole: nor any other text of a gateway that is judged.
func TestALongTopicIsNotLoggedWhole(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	for name, pk := range map[string]packets.Packet{
		"publish":   {FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: long},
		"retained":  {FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, TopicName: long},
		"subscribe": {FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, Filters: packets.Subscriptions{{Filter: long}}},
		"client id": {FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: protocol311, Connect: packets.ConnectParams{ClientIdentifier: long}},
		"will":      {FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: protocol311, Connect: packets.ConnectParams{ClientIdentifier: "GW-1", Clean: true, Keepalive: 30, WillFlag: true, WillTopic: long}},
	} {
		err := judge("GW-1", pk)
		if err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "60000 bytes") {
			t.Errorf("%s: %.400v", name, err)
		}
	}
}
