package uplink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// stream is a connection from which a test's bytes come; what is written is kept.
type stream struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *stream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *stream) Write(b []byte) (int, error) { return s.out.Write(b) }

const connack = "\x20\x02\x00\x00"

func message(topic string, id uint16, payload int) string {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = binary.BigEndian.AppendUint16(append(body, topic...), id)
	body = append(body, make([]byte, payload)...)
	return string(append(binary.AppendUvarint([]byte{0x32}, uint64(len(body))), body...))
}

// guarded reads what an endpoint sends on a connection on which publish 1 and
// subscription 2 wait for their answers.
func guarded(in io.Reader) (passed string, err, told error) {
	g := newGuard(&stream{in: in}, "gw/PSK-1/down", func(err error) { told = err })
	for _, b := range []string{"\x32\x06\x00\x01t\x00\x01x", "\x82\x06\x00\x02\x00\x01t\x01"} {
		if _, err := g.Write([]byte(b)); err != nil {
			return "", err, nil
		}
	}
	b, err := io.ReadAll(g)
	return string(b), err, told
}

func TestAPacketThatNoEndpointMaySendEndsTheSession(t *testing.T) {
	flood := strings.Repeat(message("gw/PSK-1/down", 7, 1), unhandled)
	for name, c := range map[string]struct{ before, bad, says string }{
		"256 MiB":                   {connack, "\x32\xff\xff\xff\x7f", "4113 are the most"},
		"five bytes of length":      {connack, "\x32\x80\x80\x80\x80\x01", "five bytes"},
		"five bytes, stating 4 GiB": {connack, "\x32\xff\xff\xff\xff\x0f", "the most"},
		"length in more bytes":      {connack, "\x40\x82\x00\x00\x01", "more bytes than it takes"},
		"before CONNACK":            {"", "\x32\xff\xff\xff\x7f", "ahead of CONNACK"},
		"long CONNACK":              {"", "\x20\xff\xff\xff\x7f", "the most"},
		"64 MiB":                    {connack, "\x32\x80\x80\x80\x20", "the most"},
		"a message too long":        {connack, message("gw/PSK-1/down", 1, wire.MaxDown+1)[:4], "the most"},
		"QoS 0":                     {connack, "\x30\x03\x00\x01x", "QoS 0"},
		"QoS 2":                     {connack, "\x34\x05\x00\x01x\x00\x01", "QoS 2"},
		"QoS 3":                     {connack, "\x36\x05\x00\x01x\x00\x01", "QoS 3"},
		"empty topic":               {connack, message("", 1, 0), "another topic"},
		"another topic":             {connack, message("gw/PSK-2/down", 1, 0), "another topic"},
		"wildcard topic":            {connack, message("gw/PSK-1/#", 1, 9), "another topic"},
		"topic beyond the packet":   {connack, "\x32\x02\xff\xff", "another topic"},
		"message 0":                 {connack, message("gw/PSK-1/down", 0, 0), "number 0"},
		"no time to acknowledge":    {connack + flood, message("gw/PSK-1/down", 7, 1), "without waiting"},
		"second CONNACK":            {connack, connack, "second CONNACK"},
		"session present":           {"", "\x20\x02\x01\x00", "clean one"},
		"CONNACK flags":             {"", "\x21\x02\x00\x00", "flags"},
		"CONNECT":                   {connack, "\x10\x00", "no reason"},
		"PUBREC":                    {connack, "\x50\x02\x00\x01", "no reason"},
		"PUBREL":                    {connack, "\x62\x02\x00\x01", "no reason"},
		"PUBCOMP":                   {connack, "\x70\x02\x00\x01", "no reason"},
		"SUBSCRIBE":                 {connack, "\x82\x06\x00\x01\x00\x01t\x01", "no reason"},
		"UNSUBSCRIBE":               {connack, "\xa2\x05\x00\x01\x00\x01t", "no reason"},
		"UNSUBACK":                  {connack, "\xb0\x02\x00\x01", "no reason"},
		"PINGREQ":                   {connack, "\xc0\x00", "no reason"},
		"DISCONNECT":                {connack, "\xe0\x00", "no reason"},
		"packet type 0":             {connack, "\x00\x00", "no reason"},
		"packet type 15":            {connack, "\xf0\x00", "no reason"},
		"PINGRESP unasked":          {connack, "\xd0\x00", "without a ping"},
		"PUBACK of nothing":         {connack, "\x40\x02\x00\x09", "does not wait"},
		"PUBACK of a subscription":  {connack, "\x40\x02\x00\x02", "does not wait"},
		"PUBACK twice":              {connack + "\x40\x02\x00\x01", "\x40\x02\x00\x01", "does not wait"},
		"short PUBACK":              {connack, "\x40\x01\x00", "of 1 bytes"},
		"SUBACK of a publish":       {connack, "\x90\x03\x00\x01\x01", "no subscription"},
		"SUBACK of two topics":      {connack, "\x90\x04\x00\x02\x01\x01", "the most"},
		"SUBACK of no topic":        {connack, "\x90\x02\x00\x02", "of 2 bytes"},
		"SUBACK grants more":        {connack, "\x90\x03\x00\x02\x02", "grants QoS 2"},
	} {
		t.Run(name, func(t *testing.T) {
			passed, err, told := guarded(strings.NewReader(c.before + c.bad))
			var broken *violation
			if !errors.As(err, &broken) || !errors.As(told, &broken) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, told %v, not %q", err, told, c.says)
			}
			if passed != c.before {
				t.Errorf("%x passed, not %x", passed, c.before)
			}
		})
	}
}

func TestWhatAnEndpointMaySendPasses(t *testing.T) {
	for name, in := range map[string]string{
		"answers":      connack + "\x90\x03\x00\x02\x01\x40\x02\x00\x01",
		"a refusal":    "\x20\x02\x00\x05",
		"the longest":  connack + message("gw/PSK-1/down", 9, wire.MaxDown),
		"again, empty": connack + message("gw/PSK-1/down", 9, 0) + message("gw/PSK-1/down", 9, 0),
	} {
		if passed, err, told := guarded(strings.NewReader(in)); passed != in || err != nil || told != nil {
			t.Errorf("%s: %x passed, then %v, told %v", name, passed, err, told)
		}
	}
	if _, err, told := guarded(strings.NewReader(connack + "\x40")); !errors.Is(err, io.ErrUnexpectedEOF) || told != nil {
		t.Errorf("a connection that ends in a packet: %v, told %v", err, told)
	}
}

// FuzzGuard feeds streams to the guard and what passes to paho's own parser: it
// must read the same packets, and none of a kind that it trusts too far.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(connack + "\x90\x03\x00\x02\x01\x40\x02\x00\x01"))
	f.Add([]byte(connack + message("gw/PSK-1/down", 9, 40)))
	f.Add([]byte(connack + "\x32\xff\xff\xff\xff\x7f"))
	f.Add([]byte(connack + "\x40\x82\x00\x00\x01"))
	f.Add([]byte("\x20\x02\x01\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		passed, _, _ := guarded(bytes.NewReader(in))
		if !bytes.HasPrefix(in, []byte(passed)) {
			t.Fatalf("%x passed of %x", passed, in)
		}
		acks := 0
		for r := strings.NewReader(passed); r.Len() > 0; {
			p, err := packets.ReadPacket(r)
			if err != nil {
				t.Fatalf("%x passed, and paho says %v", passed, err)
			}
			switch p := p.(type) {
			case *packets.ConnackPacket:
			case *packets.PubackPacket:
				if acks++; p.MessageID != 1 {
					t.Fatalf("a PUBACK for %d", p.MessageID)
				}
			case *packets.SubackPacket:
				if p.MessageID != 2 || len(p.ReturnCodes) != 1 {
					t.Fatalf("%+v", p)
				}
			case *packets.PublishPacket:
				if p.TopicName != "gw/PSK-1/down" || p.Qos != 1 || len(p.Payload) > wire.MaxDown {
					t.Fatalf("%v", p.FixedHeader)
				}
			default:
				t.Fatalf("%T passed", p)
			}
		}
		if acks > 1 {
			t.Fatal("two PUBACKs for one publish")
		}
	})
}

// TestAPacketOf256MiBCostsNothing is about memory: what the guard takes for a
// stream is bounded by the longest message, whatever length is stated.
func TestAPacketOf256MiBCostsNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		_, err, _ := guarded(io.MultiReader(strings.NewReader(connack+"\x32\xff\xff\xff\x7f"), zeros{}))
		var broken *violation
		if !errors.As(err, &broken) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
		t.Errorf("100 streams took %d bytes", took)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestAHostileEndpointIsLeftAloneLongerAndLonger: it acknowledges a record in each
// session, so that the session is a good one, and breaks the protocol then.
func TestAHostileEndpointIsLeftAloneLongerAndLonger(t *testing.T) {
	play(t, func(p *plant) {
		p.cfg.Rand = func() float64 { return 0.9 }
		p.e.decide = func(peer *peer, n int, _ decode.Record) action {
			if n > 0 {
				_, _ = peer.conn.Write([]byte("\x32\xff\xff\xff\x7f"))
				return withhold
			}
			return ack
		}
		p.q.add(queue.History, 500)
		p.start()
		time.Sleep(time.Hour)
		if n := p.e.attempts(); n < 5 || n > 20 {
			t.Errorf("%d connections in an hour", n)
		}
		if st := p.s.Status(); !strings.Contains(st.LastError, "broke the protocol: PUBLISH of") {
			t.Errorf("%+v", st)
		}
		asked := p.auth.questions()
		if len(asked) < 3 || !strings.Contains(asked[1].body, "endpoint.test:8883") {
			t.Errorf("the auth service was not asked for another endpoint: %v", asked)
		}
		p.e.set(func(e *endpoint) { e.decide = nil })
		p.drain(3 * time.Hour)
		p.e.complete(queue.History, 500)
	})
}

// TestOnlyAPUBACKDeletesARecord answers a publish with each other acknowledgement
// that bears its number.
func TestOnlyAPUBACKDeletesARecord(t *testing.T) {
	for name, head := range map[string]string{"SUBACK": "\x90\x03", "UNSUBACK": "\xb0\x02", "PUBCOMP": "\x70\x02", "PUBREC": "\x50\x02"} {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *plant) {
				p.e.decide = func(peer *peer, _ int, _ decode.Record) action {
					for id := range byte(20) {
						_, _ = peer.conn.Write([]byte(head + "\x00" + string(rune(id)) + strings.Repeat("\x01", int(head[1])-2)))
					}
					return withhold
				}
				p.q.add(queue.History, 21)
				p.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				if d := p.q.discarded(queue.History); d != 0 {
					t.Errorf("discarded up to %d", d)
				}
				p.e.set(func(e *endpoint) { e.decide = nil })
				p.drain(3 * time.Hour)
				p.e.complete(queue.History, 21)
			})
		})
	}
}
