package uplink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/uplink/wire"
)

const (
	// unhandled bounds the messages that have come down and are not acknowledged
	// yet: paho keeps each of them in memory, with a goroutine.
	unhandled = 128
	// longestAnswer is the longest packet that an endpoint may send besides a
	// message: a SUBACK of one topic.
	longestAnswer = 3
)

// violation is an endpoint that breaks MQTT 3.1.1, or what docs/protocol.md makes
// of it.
type violation struct{ text string }

func (v *violation) Error() string { return "the endpoint broke the protocol: " + v.text }

func violated(format string, args ...any) error { return &violation{fmt.Sprintf(format, args...)} }

// guard is the connection that paho is handed. paho believes the endpoint: it
// allocates whatever length a packet states, up to 256 MiB and beyond; it
// completes a publish on any kind of acknowledgement that bears its number; and
// it panics on a SUBACK of two topics. So a packet is read whole here, and paho
// sees it only if the endpoint may send it now: a PUBACK for a publish that waits
// for one, the SUBACK of our subscription, a PINGRESP for a ping, a message of
// the down topic. Anything else ends the session.
//
// Read has one caller, and so has Write; they may run at the same time.
type guard struct {
	net.Conn
	topic    string
	fail     func(error)   // told of the violation that Read returned
	in       *bufio.Reader // owned by Read
	packet   []byte        // owned by Read: the packet last read, its room used again
	rest     []byte        // owned by Read: what of packet paho has not taken yet
	bad      error         // owned by Read: what ended the session
	accepted bool          // owned by Read: CONNACK has come

	mu        sync.Mutex
	publishes map[uint16]bool // guarded by mu: sent, without their PUBACK yet
	subscribe map[uint16]bool // guarded by mu: sent, without their SUBACK yet
	pings     int             // guarded by mu: sent and not answered
	messages  map[uint16]int  // guarded by mu: come down, without our PUBACK yet
	waiting   int             // guarded by mu: how many these are
}

// newGuard watches over a connection to an endpoint that may send messages on topic.
func newGuard(conn net.Conn, topic string, fail func(error)) *guard {
	return &guard{Conn: conn, topic: topic, fail: fail, in: bufio.NewReaderSize(conn, 2<<10),
		publishes: map[uint16]bool{}, subscribe: map[uint16]bool{}, messages: map[uint16]int{}}
}

// Read hands out packets that have passed.
func (g *guard) Read(b []byte) (int, error) {
	if len(g.rest) == 0 {
		if g.bad != nil {
			return 0, g.bad
		}
		if err := g.next(); err != nil {
			g.bad = err
			var broken *violation
			if errors.As(err, &broken) {
				g.fail(err)
			}
			return 0, err
		}
	}
	n := copy(b, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// next reads the next packet and checks it.
func (g *guard) next() error {
	head, err := g.in.ReadByte()
	if err != nil {
		return err
	}
	kind, flags := head>>4, head&0x0f
	longest, err := g.expect(kind, flags)
	if err != nil {
		return err
	}
	g.packet = append(g.packet[:0], head)
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := g.in.ReadByte()
		if err != nil {
			return cutShort(err)
		}
		g.packet = append(g.packet, b)
		if length |= int(b&0x7f) << shift; length > longest {
			return violated("%s of %d bytes or more, where %d are the most", packets.PacketNames[kind], length, longest)
		}
		if b&0x80 == 0 {
			if b == 0 && shift > 0 {
				return violated("%s whose length is written in more bytes than it takes", packets.PacketNames[kind])
			}
			break
		}
		if shift == 21 {
			return violated("%s whose length has five bytes", packets.PacketNames[kind])
		}
	}
	start := len(g.packet)
	for range length {
		g.packet = append(g.packet, 0)
	}
	body := g.packet[start:]
	if _, err := io.ReadFull(g.in, body); err != nil {
		return cutShort(err)
	}
	if err := g.check(kind, flags, body); err != nil {
		return err
	}
	g.rest = g.packet
	return nil
}

// cutShort is the error of a connection that ends within a packet.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// expect is how long a packet of that kind may be, by its first byte.
func (g *guard) expect(kind, flags byte) (longest int, err error) {
	switch {
	case kind == packets.Connack && g.accepted:
		return 0, violated("a second CONNACK")
	case kind != packets.Connack && !g.accepted:
		return 0, violated("packet type %d ahead of CONNACK", kind)
	case kind == packets.Publish:
		if qos := flags >> 1 & 3; qos != 1 {
			return 0, violated("a message of QoS %d, where QoS 1 is agreed", qos)
		}
		return 2 + len(g.topic) + 2 + wire.MaxDown, nil
	case kind != packets.Connack && kind != packets.Puback && kind != packets.Suback && kind != packets.Pingresp:
		return 0, violated("packet type %d (%s), which it has no reason to send", kind, packets.PacketNames[kind])
	case flags != 0:
		return 0, violated("%s with flags %04b", packets.PacketNames[kind], flags)
	}
	return longestAnswer, nil
}

// check judges a whole packet.
func (g *guard) check(kind, flags byte, body []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := packets.PacketNames[kind]
	want := map[byte]int{packets.Connack: 2, packets.Puback: 2, packets.Suback: 3, packets.Pingresp: 0}
	if n, fixed := want[kind]; fixed && n != len(body) {
		return violated("%s of %d bytes, not %d", name, len(body), n)
	}
	switch kind {
	case packets.Connack:
		if body[0] != 0 {
			return violated("CONNACK speaks of a session of before; we asked for a clean one")
		}
		g.accepted = true
	case packets.Pingresp:
		if g.pings == 0 {
			return violated("PINGRESP without a ping")
		}
		g.pings--
	case packets.Puback:
		if id := binary.BigEndian.Uint16(body); !take(g.publishes, id) {
			return violated("PUBACK for message %d, which does not wait for one", id)
		}
	case packets.Suback:
		if id := binary.BigEndian.Uint16(body); !take(g.subscribe, id) {
			return violated("SUBACK %d, which answers no subscription", id)
		}
		if code := body[2]; code > 1 && code != 0x80 {
			return violated("SUBACK grants QoS %d, where 1 was asked for", code)
		}
	case packets.Publish:
		return g.message(body)
	}
	return nil
}

// message judges a message that comes down. mu is held.
func (g *guard) message(body []byte) error {
	head := 2 + len(g.topic)
	if len(body) < head+2 || int(binary.BigEndian.Uint16(body)) != len(g.topic) || string(body[2:head]) != g.topic {
		return violated("a message on another topic than %s", g.topic)
	}
	id := binary.BigEndian.Uint16(body[head:])
	if id == 0 {
		return violated("a message with number 0")
	}
	if g.waiting >= unhandled {
		return violated("%d messages without waiting for their PUBACK", g.waiting)
	}
	g.waiting++
	g.messages[id]++
	return nil
}

func take(from map[uint16]bool, id uint16) bool {
	was := from[id]
	delete(from, id)
	return was
}

// Write sends a packet of paho's, which writes each with one call, and notes what
// may be answered to it.
func (g *guard) Write(b []byte) (int, error) {
	if err := g.sent(b); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

func (g *guard) sent(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	body := b[1:]
	length, n := binary.Uvarint(body)
	if n <= 0 || length != uint64(len(body)-n) {
		return fmt.Errorf("uplink: %d bytes that are not one MQTT packet are not sent", len(b))
	}
	body = body[n:]
	g.mu.Lock()
	defer g.mu.Unlock()
	switch b[0] >> 4 {
	case packets.Publish:
		if len(body) < 2 || len(body) < 4+int(binary.BigEndian.Uint16(body)) {
			return fmt.Errorf("uplink: a message of %d bytes without a number is not sent", len(b))
		}
		g.publishes[binary.BigEndian.Uint16(body[2+int(binary.BigEndian.Uint16(body)):])] = true
	case packets.Subscribe:
		if len(body) >= 2 {
			g.subscribe[binary.BigEndian.Uint16(body)] = true
		}
	case packets.Pingreq:
		g.pings++
	case packets.Puback:
		if len(body) < 2 {
			break
		}
		id := binary.BigEndian.Uint16(body)
		if g.messages[id]--; g.messages[id] <= 0 {
			delete(g.messages, id)
		}
		g.waiting--
	}
	return nil
}
