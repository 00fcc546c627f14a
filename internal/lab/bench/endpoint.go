package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"penstock/certs/pki"
	"penstock/internal/telemetry"
	format "penstock/uplink/wire"
)

func init() {
	Register("endpoint", "durable QoS 1 publishes a second at the endpoint, 1 and 1000 gateways, load on the same cores", endpointLoad)
}

const (
	endpointTime   = 5 * time.Second
	endpointRecord = 300 // bytes of a publish, about
)

// endpointLoad has gateways publish blocks as fast as they are acknowledged, one
// in flight each, over mutual TLS. An acknowledged block is on the disk.
func endpointLoad(ctx context.Context, emit func(Metric)) error {
	for _, clients := range []int{1, 100, 1000} {
		if err := endpointWith(ctx, clients, emit); err != nil {
			return fmt.Errorf("%d gateways: %w", clients, err)
		}
	}
	return nil
}

func endpointWith(ctx context.Context, clients int, emit func(Metric)) (err error) {
	b, err := newBackend(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	payload := blockOf(endpointRecord)
	var wg sync.WaitGroup
	var stored atomic.Int64
	var mu sync.Mutex
	var all []float64 // milliseconds from publish to PUBACK
	failed := make(chan error, clients)
	running, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan *rawClient, clients)
	gate := make(chan struct{}, 16) // handshakes at a time
	for i := range clients {
		wg.Go(func() {
			gate <- struct{}{}
			c, err := dialRaw(running, b, fmt.Sprintf("BENCH-%05d", i))
			<-gate
			if err != nil {
				failed <- err
			}
			ready <- c
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	began := time.Now()
	for range clients {
		c := <-ready
		wg.Go(func() {
			defer c.conn.Close()
			var took []float64
			for time.Since(began) < endpointTime && running.Err() == nil {
				at := time.Now()
				if err := c.publish(payload); err != nil {
					failed <- err
					stop()
					break
				}
				took = append(took, time.Since(at).Seconds()*1000)
				stored.Add(1)
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed := time.Since(began).Seconds()
	select {
	case err := <-failed:
		return err
	default:
	}
	keys := map[string]any{"clients": clients, "bytes": len(payload), "window": 1, "qos": 1, "durable": true}
	emit(Metric{"endpoint_publishes_per_s", float64(stored.Load()) / elapsed, "/s", keys})
	slices.Sort(all)
	emit(Metric{"puback_p50_ms", all[len(all)/2], "ms", keys})
	emit(Metric{"puback_p99_ms", all[len(all)*99/100], "ms", keys})
	return nil
}

// blockOf is the payload of a block of about so many bytes.
func blockOf(size int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	g := telemetry.Group{Period: time.Second, Series: []telemetry.Series{{Pump: "p", Point: "speed", Unit: "1", Scale: telemetry.Unit}, {Pump: "p", Point: "head", Unit: "1", Scale: telemetry.Unit}}}
	c, err := format.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}}, Groups: []telemetry.Group{g}})
	if err != nil {
		panic(err) // of constants
	}
	builder := format.NewBuilder(c)
	from := time.Now().Truncate(time.Minute)
	for seconds := 30; ; seconds += 10 {
		builder.Open(from)
		for s := range seconds {
			for i := range g.Series {
				builder.Add(telemetry.Reading{Series: i, Slot: from.Add(time.Duration(s) * time.Second), Raw: random.Int64N(4096)})
			}
		}
		p := new(format.Packer).AppendPayload(nil, format.KindBlock, builder.Seal(from.Add(time.Duration(seconds)*time.Second)))
		if len(p) >= size {
			return p
		}
	}
}

// rawClient speaks just enough MQTT, so that what is measured is the endpoint.
type rawClient struct {
	conn  *tls.Conn
	r     *bufio.Reader
	topic string
	epoch format.Epoch
	seq   uint64
}

func dialRaw(ctx context.Context, b *testBackend, serial string) (*rawClient, error) {
	cert, err := gatewayCertificate(b.ca, serial)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: pki.ForServer("127.0.0.1", func() (*tls.Certificate, error) { return &cert, nil }, b.ca.Pool(), time.Now, nil)}
	conn, err := d.DialContext(ctx, "tcp", b.address)
	if err != nil {
		return nil, err
	}
	c := &rawClient{conn: conn.(*tls.Conn), r: bufio.NewReader(conn), topic: "gw/" + serial + "/up"}
	copy(c.epoch[:], serial[len(serial)-8:])
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion = "MQTT", 4
	connect.CleanSession, connect.ClientIdentifier, connect.Keepalive = true, serial, 60
	if err := connect.Write(conn); err != nil {
		return nil, err
	}
	p, err := packets.ReadPacket(c.r)
	if err != nil {
		return nil, err
	}
	if ack, ok := p.(*packets.ConnackPacket); !ok || ack.ReturnCode != 0 {
		return nil, fmt.Errorf("the endpoint answered %v to CONNECT", p)
	}
	return c, nil
}

// publish sends one record and waits until it is acknowledged.
func (c *rawClient) publish(payload []byte) error {
	c.seq++
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID = c.topic, 1, uint16(c.seq%65535+1)
	p.Payload = format.AppendRecord(nil, c.epoch, format.History, c.seq, payload)
	if err := p.Write(c.conn); err != nil {
		return err
	}
	answer, err := packets.ReadPacket(c.r)
	if errors.Is(err, io.EOF) {
		return errors.New("the endpoint closed the connection")
	}
	if err != nil {
		return err
	}
	if ack, ok := answer.(*packets.PubackPacket); !ok || ack.MessageID != p.MessageID {
		return fmt.Errorf("the endpoint answered %v", answer)
	}
	return nil
}
