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
	"penstock/internal/lab/trace"
	"penstock/internal/telemetry"
	"penstock/uplink"
	"penstock/uplink/queue"
	format "penstock/uplink/wire"
)

func init() {
	Register("reconnect", "a day's backlog is delivered after the link is back, and alarms overtake it", reconnect)
}

const (
	reconnectHours  = 24 // of the trace's hour
	reconnectPeriod = time.Minute
	reconnectRuns   = 5                     // at least; the median counts
	reconnectAlarms = 300                   // at least, over all runs: a 99th percentile needs some
	reconnectEvery  = 10 * time.Millisecond // between two alarms
)

// reconnect has a gateway come back with a day's backlog, again and again, each
// time to an empty store, until enough alarms were raised while it caught up.
func reconnect(ctx context.Context, emit func(Metric)) (err error) {
	hour, err := committedTrace(ctx)
	if err != nil {
		return err
	}
	var seconds, alarms []float64
	var day backlog
	for len(seconds) < reconnectRuns || len(alarms) < reconnectAlarms {
		took, raised, d, err := reconnectOnce(ctx, hour)
		if err != nil {
			return fmt.Errorf("run %d: %w", len(seconds)+1, err)
		}
		seconds, alarms, day = append(seconds, took.Seconds()), append(alarms, raised...), d
	}
	slices.Sort(seconds)
	slices.Sort(alarms)
	middle := seconds[len(seconds)/2]
	keys := map[string]any{"backlog_h": reconnectHours, "period_s": reconnectPeriod.Seconds(), "points": 40, "records": day.records, "backlog_bytes": day.bytes, "runs": len(seconds)}
	emit(Metric{"catch_up_s", middle, "s", keys})
	emit(Metric{"catch_up_readings_per_s", float64(day.readings) / middle, "/s", keys})
	with := map[string]any{"alarms": len(alarms), "every_ms": reconnectEvery.Milliseconds()}
	emit(Metric{"alarm_to_store_p50_ms", alarms[len(alarms)/2], "ms", with})
	emit(Metric{"alarm_to_store_p99_ms", alarms[len(alarms)*99/100], "ms", with})
	return nil
}

// reconnectOnce fills the queue of a real session with a day of one-minute blocks
// while nobody listens, lets it connect to a real endpoint over a real store, and
// raises alarms until it has caught up. It answers how long that took, and how
// many milliseconds each alarm took to the store.
func reconnectOnce(ctx context.Context, hour *trace.Trace) (catchUp time.Duration, alarms []float64, day backlog, err error) {
	b, err := newBackend(ctx)
	if err != nil {
		return 0, nil, day, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	const serial = "BENCH-0001"
	cert, err := b.gateway(ctx, serial)
	if err != nil {
		return 0, nil, day, err
	}
	auth := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"endpoint":"mqtts://%s"}`, b.address)
	}))
	server, err := b.ca.Server("auth", []string{"127.0.0.1"})
	if err != nil {
		return 0, nil, day, err
	}
	shown, err := server.Certificate()
	if err != nil {
		return 0, nil, day, err
	}
	auth.TLS = &tls.Config{Certificates: []tls.Certificate{*shown}, MinVersion: tls.VersionTLS12}
	auth.StartTLS()
	defer auth.Close()

	q, _, err := queue.Open(disk.OS, filepath.Join(b.dir, "queue"), queue.Options{Limit: 256 << 20, MaxRecord: format.MaxRecord, Clock: clock.System,
		Rand: rand.Reader, EncodeGap: format.GapPayload, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, nil, day, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if day, err = fillDay(q, hour); err != nil {
		return 0, nil, day, err
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
		return 0, nil, day, err
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
	var raising sync.WaitGroup
	caught := make(chan struct{})
	var late error
	raising.Go(func() { alarms, late = raiseAlarms(ctx, b, serial, q, caught) })
	err = s.Drain(ctx)
	catchUp = time.Since(began)
	close(caught)
	raising.Wait()
	if err = errors.Join(err, late); err != nil {
		return 0, nil, day, err
	}
	n, err := b.db.Counters(ctx, serial)
	if err != nil {
		return 0, nil, day, err
	}
	if int(n.Readings) != day.readings {
		return 0, nil, day, fmt.Errorf("%d readings are stored, and %d were made", n.Readings, day.readings)
	}
	return catchUp, alarms, day, nil
}

// raiseAlarms raises one alarm after the other until caught is closed, and waits
// for each of them.
func raiseAlarms(ctx context.Context, b *testBackend, serial string, q *queue.Queue, caught <-chan struct{}) (took []float64, err error) {
	updates, cancel := b.db.Subscribe(serial)
	defer func() { cancel() }()
	for raw := int64(1); ; raw++ {
		select {
		case <-caught:
			return took, nil
		default:
		}
		before, err := events(ctx, b, serial)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = q.Append(queue.Urgent, at, new(format.Packer).AppendPayload(nil, format.KindEvent,
			format.AppendEvent(nil, telemetry.Event{Time: at, Pump: "bus1-1", Point: "alarm_code", Raw: raw})))
		for now := before; err == nil && now == before; {
			select {
			case _, open := <-updates:
				if !open { // too many at once; look again
					cancel()
					updates, cancel = b.db.Subscribe(serial)
				}
				now, err = events(ctx, b, serial)
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(at).Seconds()*1000)
		if err := clock.System.Sleep(ctx, reconnectEvery); err != nil {
			return nil, err
		}
	}
}

// events counts the events that are stored.
func events(ctx context.Context, b *testBackend, serial string) (int, error) {
	return b.db.Count(ctx, serial, format.KindEvent)
}

// backlog is what a queue was filled with.
type backlog struct{ records, bytes, readings int }

// fillDay appends the hour of the trace, over and over, up to now.
func fillDay(q *queue.Queue, hour *trace.Trace) (day backlog, err error) {
	c, err := format.NewCatalogue(hour.Catalogue)
	if err != nil {
		return day, err
	}
	var packer format.Packer
	add := func(upTo time.Time, kind format.Kind, body []byte) error {
		payload := packer.AppendPayload(nil, kind, body)
		day.bytes += len(payload)
		day.records++
		return q.Append(queue.History, upTo, payload)
	}
	if err := add(time.Time{}, format.KindCatalogue, c.Body); err != nil {
		return day, err
	}
	builder := format.NewBuilder(c)
	begin := time.Now().Truncate(time.Minute).Add(-reconnectHours * hour.Length)
	minutes := batches(hour, reconnectPeriod)
	for h := range reconnectHours {
		later := begin.Add(time.Duration(h) * hour.Length).Sub(hour.Start)
		for _, m := range minutes {
			builder.Open(m.from.Add(later))
			for _, r := range m.readings {
				r.Slot = r.Slot.Add(later)
				builder.Add(r)
				day.readings++
			}
			upTo := m.from.Add(later + reconnectPeriod)
			if err := add(upTo, format.KindBlock, builder.Seal(upTo)); err != nil {
				return day, err
			}
		}
	}
	return day, nil
}
