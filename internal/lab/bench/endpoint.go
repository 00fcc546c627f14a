package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
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
	catalogue, payload := blockOf(endpointRecord)
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
			if err == nil {
				err = c.publish(catalogue) // as any gateway does, first of all
			}
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
	worked, err := cpuTime()
	if err != nil {
		return err
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
	after, err := cpuTime()
	if err != nil {
		return err
	}
	keys := map[string]any{"clients": clients, "bytes": len(payload), "window": 1, "qos": 1, "durable": true}
	emit(Metric{"endpoint_publishes_per_s", float64(stored.Load()) / elapsed, "/s", keys})
	// How fast it goes depends on who else is on the machine; this does less so.
	emit(Metric{"cpu_us_per_publish", float64((after - worked).Microseconds()) / float64(stored.Load()), "us", keys})
	slices.Sort(all)
	emit(Metric{"puback_p50_ms", all[len(all)/2], "ms", keys})
	emit(Metric{"puback_p99_ms", all[len(all)*99/100], "ms", keys})
	return nil
}

// blockOf is the payload of a block of about so many bytes, and that of its catalogue.
func blockOf(size int) (catalogue, block []byte) {
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
			return new(format.Packer).AppendPayload(nil, format.KindCatalogue, c.Body), p
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

	record, packet []byte // used again
	answer         [4]byte
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

// publish sends one record and waits until it is acknowledged. It costs little:
// the load shares the cores with what is measured.
func (c *rawClient) publish(payload []byte) error {
	c.seq++
	id := uint16(c.seq%65535 + 1)
	c.record = format.AppendRecord(c.record[:0], c.epoch, format.History, c.seq, payload)
	b := append(c.packet[:0], 0x32) // PUBLISH, QoS 1
	b = binary.AppendUvarint(b, uint64(2+len(c.topic)+2+len(c.record)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.topic)))
	b = append(b, c.topic...)
	b = binary.BigEndian.AppendUint16(b, id)
	c.packet = append(b, c.record...)
	if _, err := c.conn.Write(c.packet); err != nil {
		return err
	}
	_, err := io.ReadFull(c.r, c.answer[:])
	if errors.Is(err, io.EOF) {
		return errors.New("the endpoint closed the connection")
	}
	if err != nil {
		return err
	}
	if want := [4]byte{0x40, 2, byte(id >> 8), byte(id)}; c.answer != want { // PUBACK
		return fmt.Errorf("the endpoint answered % x to publish %d", c.answer, id)
	}
	return nil
}

// cpuTime is what this process has used so far, on all cores.
func cpuTime() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, fmt.Errorf("asking for the processor time used: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}
