package uplink

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// endpoint is an MQTT server that does what a test tells it: withhold PUBACKs,
// cut connections, refuse. It stores what it acknowledges, before it does.
type endpoint struct {
	t  testing.TB
	tl *tls.Config

	mu       sync.Mutex
	listener net.Listener
	conns    map[*peer]bool
	refuse   byte // CONNACK code
	delay    time.Duration
	// decide says what happens to the n-th publish of a connection; default ack.
	decide func(p *peer, n int, rec decode.Record) action

	stored   map[name]int // how often it arrived
	all      []*peer      // every connection there was
	at       map[name]time.Time
	connects []*packets.ConnectPacket
	states   []string
	wills    []string
	maxOpen  int
}

type name struct {
	lane queue.Lane
	seq  uint64
}

type action int

const (
	ack      action = iota
	withhold        // and do not store
	lose            // store, but the PUBACK is lost
	cut             // store, and cut the connection instead of PUBACK
)

func newEndpoint(t testing.TB, tl *tls.Config) *endpoint {
	return &endpoint{t: t, tl: tl, conns: map[*peer]bool{}, stored: map[name]int{}, at: map[name]time.Time{}}
}

func (e *endpoint) listen(l net.Listener) {
	e.mu.Lock()
	e.listener = l
	e.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.serve(tls.Server(c, e.tl))
		}
	}()
}

// attempts is how many clients have asked to be connected.
func (e *endpoint) attempts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.connects)
}

// stop ends the endpoint as kill -9 does.
func (e *endpoint) stop() {
	e.mu.Lock()
	l := e.listener
	e.listener = nil
	e.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	e.cutAll()
}

func (e *endpoint) cutAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.conns {
		_ = p.conn.NetConn().Close()
	}
}

// peer is one connection as the endpoint sees it.
type peer struct {
	conn    *tls.Conn
	mu      sync.Mutex // serialises writes
	n       int        // publishes on topic up
	open    map[uint16]decode.Record
	came    []name
	pubacks []uint16 // for what was sent down
}

func (p *peer) write(m packets.ControlPacket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = m.Write(p.conn)
}

func (p *peer) puback(id uint16) {
	m := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	m.MessageID = id
	p.write(m)
}

func (e *endpoint) serve(conn *tls.Conn) {
	p := &peer{conn: conn, open: map[uint16]decode.Record{}}
	defer conn.NetConn().Close()
	m, err := packets.ReadPacket(conn)
	if err != nil {
		// As pki.Listener does: a refused client may have written already, and a
		// reset would overtake the alert that says why.
		raw := conn.NetConn()
		_ = raw.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, raw)
		return
	}
	connect := m.(*packets.ConnectPacket)
	connack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	e.mu.Lock()
	e.connects = append(e.connects, connect)
	connack.ReturnCode = e.refuse
	e.conns[p] = true
	e.all = append(e.all, p)
	e.mu.Unlock()
	p.write(connack)
	polite := false
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conns, p)
		if !polite && connack.ReturnCode == 0 {
			e.wills = append(e.wills, string(connect.WillMessage))
		}
	}()
	if connack.ReturnCode != 0 {
		return
	}
	for {
		m, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *packets.SubscribePacket:
			s := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			s.MessageID, s.ReturnCodes = m.MessageID, []byte{1}
			p.write(s)
		case *packets.PingreqPacket:
			p.write(packets.NewControlPacket(packets.Pingresp))
		case *packets.PubackPacket:
			e.mu.Lock()
			p.pubacks = append(p.pubacks, m.MessageID)
			e.mu.Unlock()
		case *packets.DisconnectPacket:
			polite = true
			return
		case *packets.PublishPacket:
			if !e.published(p, m) {
				return
			}
		}
	}
}

func (e *endpoint) published(p *peer, m *packets.PublishPacket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	delay := e.delay
	acknowledge := func() {
		time.AfterFunc(delay, func() {
			e.mu.Lock()
			delete(p.open, m.MessageID)
			e.mu.Unlock()
			p.puback(m.MessageID)
		})
	}
	if m.TopicName != "gw/PSK-1/up" {
		e.states = append(e.states, m.TopicName+" "+string(m.Payload))
		acknowledge()
		return true
	}
	rec, err := decode.ParseRecord(m.Payload)
	if err != nil {
		e.t.Errorf("endpoint: %v", err)
		return false
	}
	p.open[m.MessageID] = rec
	e.maxOpen = max(e.maxOpen, len(p.open))
	p.came = append(p.came, name{queue.Lane(rec.Lane), rec.Seq})
	what := ack
	if e.decide != nil {
		what = e.decide(p, p.n, rec)
	}
	p.n++
	if what != withhold {
		k := name{queue.Lane(rec.Lane), rec.Seq}
		if e.stored[k] == 0 {
			e.at[k] = time.Now()
		}
		e.stored[k]++
	}
	switch what {
	case ack:
		acknowledge()
	case cut:
		return false
	}
	return true
}

// send publishes a message to whoever is connected.
func (e *endpoint) send(topic, message string, id uint16) {
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload, m.Qos, m.MessageID = topic, []byte(message), 1, id
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.conns {
		p.write(m)
	}
}

func (e *endpoint) has(lane queue.Lane, seq uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stored[name{lane, seq}] > 0
}

// fakeQueue is a queue in memory that checks what the session discards against
// what the endpoint has.
type fakeQueue struct {
	t       testing.TB
	e       *endpoint
	mu      sync.Mutex
	lanes   map[queue.Lane][]queue.Record
	base    map[queue.Lane]uint64 // discarded up to
	changed chan struct{}
	moved   chan struct{}
	broken  error
}

func newFakeQueue(t testing.TB, e *endpoint) *fakeQueue {
	return &fakeQueue{t: t, e: e, lanes: map[queue.Lane][]queue.Record{}, base: map[queue.Lane]uint64{}, changed: make(chan struct{}), moved: make(chan struct{}, 1)}
}

func (q *fakeQueue) add(lane queue.Lane, n int) {
	q.addSized(lane, n, 8)
}

func (q *fakeQueue) addSized(lane queue.Lane, n, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		seq := uint64(len(q.lanes[lane]) + 1)
		body := make([]byte, size)
		copy(body, fmt.Sprint(seq))
		for i := 8; i < size; i++ {
			body[i] = byte(rand.Uint32()) // nothing to compress
		}
		q.lanes[lane] = append(q.lanes[lane], queue.Record{Epoch: [8]byte{9}, Lane: lane, Seq: seq, Payload: new(wire.Packer).AppendPayload(nil, wire.KindEvent, body)})
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *fakeQueue) Peek(lane queue.Lane, after uint64, _ []byte) (queue.Record, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken != nil {
		return queue.Record{}, false, q.broken
	}
	after = max(after, q.base[lane])
	if after >= uint64(len(q.lanes[lane])) {
		return queue.Record{}, false, nil
	}
	return q.lanes[lane][after], true, nil
}

func (q *fakeQueue) Discard(lane queue.Lane, seq uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq <= q.base[lane] {
		q.t.Errorf("%v: discarded up to %d after %d", lane, seq, q.base[lane])
	}
	for s := q.base[lane] + 1; s <= seq; s++ {
		if q.e != nil && !q.e.has(lane, s) {
			q.t.Errorf("%v: discarded up to %d, but %d is not stored", lane, seq, s)
		}
	}
	q.base[lane] = seq
	select {
	case q.moved <- struct{}{}:
	default:
	}
	return nil
}

func (q *fakeQueue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

func (q *fakeQueue) discarded(lane queue.Lane) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.base[lane]
}

// progress tells of a discard, or that a while went by without one.
func (q *fakeQueue) progress() <-chan struct{} {
	c := make(chan struct{}, 1)
	go func() {
		select {
		case <-q.moved:
		case <-time.After(time.Second):
		}
		c <- struct{}{}
	}()
	return c
}
