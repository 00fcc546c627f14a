package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink"
	"penstock/uplink/queue"
	format "penstock/uplink/wire"
)

func init() {
	Register("reconnect", "a day's backlog is delivered after the link is back, and alarms overtake it", reconnect)
}

const (
	reconnectDay    = 24 * time.Hour
	reconnectPeriod = time.Minute
	reconnectAlarms = 100
	reconnectEvery  = 10 * time.Millisecond // between two alarms
)

// reconnect fills the queue of a real session with a day of one-minute blocks of
// 40 points while nobody listens, lets it connect to a real endpoint over a real
// store, and raises alarms while it catches up.
func reconnect(ctx context.Context, emit func(Metric)) (err error) {
	b, err := newBackend(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	const serial = "BENCH-0001"
	cert, err := b.gateway(ctx, serial)
	if err != nil {
		return err
	}
	auth := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"endpoint":"mqtts://%s"}`, b.address)
	}))
	server, err := b.ca.Server("auth", []string{"127.0.0.1"})
	if err != nil {
		return err
	}
	shown, err := server.Certificate()
	if err != nil {
		return err
	}
	auth.TLS = &tls.Config{Certificates: []tls.Certificate{*shown}, MinVersion: tls.VersionTLS12}
	auth.StartTLS()
	defer auth.Close()

	q, _, err := queue.Open(disk.OS, filepath.Join(b.dir, "queue"), queue.Options{Limit: 256 << 20, MaxRecord: format.MaxRecord, Clock: clock.System,
		Rand: rand.Reader, EncodeGap: format.GapPayload, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	bytes, records, readings, err := fillDay(q)
	if err != nil {
		return err
	}

	quiet := slog.New(slog.DiscardHandler)
	s, err := uplink.NewSession(uplink.Config{Serial: serial, AuthURL: auth.URL, Queue: q, FS: disk.OS, Dir: b.dir, Clock: clock.System,
		Rand: mathrand.Float64, Log: quiet, State: func(session uint64, online bool) []byte {
			return fmt.Appendf(nil, `{"online":%v,"session":%d}`, online, session)
		},
		TLS: func(name string) *tls.Config {
			return pki.ForServer(name, func() (*tls.Certificate, error) { return &cert, nil }, b.ca.Pool(), time.Now, nil)
		}})
	if err != nil {
		return err
	}
	session, hangUp := context.WithCancel(ctx)
	ended := make(chan struct{})
	began := time.Now() // the link is back
	go func() {
		defer close(ended)
		_ = s.Run(session) // it ends with its context and not before
	}()
	defer func() {
		hangUp()
		<-ended
	}()

	// Alarms, each waited for in the store.
	var mu sync.Mutex
	var took []float64
	var wg sync.WaitGroup
	caught := make(chan struct{})
	var late error
	raised := 0
	wg.Go(func() {
		updates, cancel := b.db.Subscribe(serial)
		defer func() { cancel() }()
		for raised < reconnectAlarms {
			select {
			case <-caught:
				if raised >= 10 { // enough to speak of
					return
				}
			default:
			}
			before, err := events(ctx, b, serial)
			if err == nil {
				at := time.Now()
				err = q.Append(queue.Urgent, at, new(format.Packer).AppendPayload(nil, format.KindEvent,
					format.AppendEvent(nil, telemetry.Event{Time: at, Pump: "bus1-1", Point: "alarm_code", Raw: int64(raised + 1)})))
				for err == nil {
					var now int
					if now, err = events(ctx, b, serial); now > before {
						mu.Lock()
						took = append(took, time.Since(at).Seconds()*1000)
						mu.Unlock()
						break
					}
					select {
					case _, open := <-updates:
						if !open { // too many at once; look again
							cancel()
							updates, cancel = b.db.Subscribe(serial)
						}
					case <-ctx.Done():
						err = ctx.Err()
					}
				}
			}
			if err != nil {
				late = err
				return
			}
			raised++
			if clock.System.Sleep(ctx, reconnectEvery) != nil {
				return
			}
		}
	})
	err = s.Drain(ctx)
	catchUp := time.Since(began)
	close(caught)
	wg.Wait()
	if err = errors.Join(err, late); err != nil {
		return err
	}
	n, err := b.db.Counters(ctx, serial)
	if err != nil {
		return err
	}
	if int(n.Readings) != readings {
		return fmt.Errorf("%d readings are stored, and %d were made", n.Readings, readings)
	}
	keys := map[string]any{"backlog_h": reconnectDay.Hours(), "period_s": reconnectPeriod.Seconds(), "points": 40, "records": records, "backlog_bytes": bytes}
	emit(Metric{"catch_up_s", catchUp.Seconds(), "s", keys})
	emit(Metric{"catch_up_readings_per_s", float64(readings) / catchUp.Seconds(), "/s", keys})
	slices.Sort(took)
	emit(Metric{"alarm_to_store_p50_ms", took[len(took)/2], "ms", map[string]any{"alarms": len(took)}})
	emit(Metric{"alarm_to_store_p99_ms", took[min(len(took)-1, len(took)*99/100)], "ms", map[string]any{"alarms": len(took)}})
	return nil
}

// events counts the events that are stored.
func events(ctx context.Context, b *testBackend, serial string) (int, error) {
	return b.db.Count(ctx, serial, format.KindEvent)
}

// fillDay appends a day of blocks: 10 points each second, 30 each ten seconds.
func fillDay(q *queue.Queue) (size, records, readings int, err error) {
	groups := []telemetry.Group{{Period: time.Second}, {Period: 10 * time.Second}}
	for i := range 40 {
		g := &groups[min(i/10, 1)]
		g.Series = append(g.Series, telemetry.Series{Pump: "bus1-1", Point: fmt.Sprintf("point_%d", i), Unit: "1", Scale: telemetry.Unit})
	}
	c, err := format.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "bus1-1", Name: "Pump", Family: "bench", Bus: "bus1", Address: 1}}, Groups: groups})
	if err != nil {
		return 0, 0, 0, err
	}
	var packer format.Packer
	add := func(upTo time.Time, kind format.Kind, body []byte) error {
		payload := packer.AppendPayload(nil, kind, body)
		size += len(payload)
		records++
		return q.Append(queue.History, upTo, payload)
	}
	if err := add(time.Time{}, format.KindCatalogue, c.Body); err != nil {
		return 0, 0, 0, err
	}
	random := mathrand.New(mathrand.NewPCG(1, 9))
	raw := make([]int64, 40)
	builder := format.NewBuilder(c)
	end := time.Now().Truncate(time.Minute)
	for from := end.Add(-reconnectDay); from.Before(end); from = from.Add(reconnectPeriod) {
		builder.Open(from)
		for second := range int(reconnectPeriod / time.Second) {
			for g := range groups {
				if second%int(groups[g].Period/time.Second) != 0 {
					continue
				}
				for i := range groups[g].Series {
					v := &raw[g*10+i]
					if random.IntN(3) == 0 { // a plant: most values stay, some walk
						*v += int64(random.NormFloat64() * 8)
					}
					builder.Add(telemetry.Reading{Group: g, Series: i, Slot: from.Add(time.Duration(second) * time.Second), Raw: *v})
					readings++
				}
			}
		}
		upTo := from.Add(reconnectPeriod)
		if err := add(upTo, format.KindBlock, builder.Seal(upTo)); err != nil {
			return 0, 0, 0, err
		}
	}
	return size, records, readings, nil
}
