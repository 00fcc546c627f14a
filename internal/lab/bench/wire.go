package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/lab/netns"
	"penstock/internal/lab/trace"
	"penstock/internal/telemetry"
	"penstock/uplink"
	"penstock/uplink/queue"
	wireformat "penstock/uplink/wire"
)

func init() {
	Register("wire", "bytes on the wire a reading: our session and endpoint over a counted cable, beside JSON, SenML and Sparkplug B", wireBench)
}

// wireSample is how many single JSON readings stand for all: at four a second the
// whole trace would take three hours.
const wireSample = 240

var wirePeriods = []time.Duration{10 * time.Second, 60 * time.Second, 300 * time.Second}

// wireBench plays the trace over cables between network namespaces, one for each
// format and period, all at once, record by record: the next one follows when the
// one before is acknowledged, and not before 250 ms have passed, so that every
// record pays for its own acknowledgements as it does in the field.
func wireBench(ctx context.Context, emit func(Metric)) (err error) {
	shop, err := newWorkshop(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close()) }()
	hour, err := committedTrace(ctx)
	if err != nil {
		return err
	}
	emit(Metric{"delta_entropy_bytes", hour.DeltaEntropy(), "By", map[string]any{"readings": hour.Count(), "length_s": hour.Length.Seconds()}})
	for _, period := range wirePeriods {
		coded, err := codings(hour, period)
		if err != nil {
			return err
		}
		for _, coding := range []string{"packed", "deflated", "plain"} {
			emit(Metric{"block_bytes_per_reading", float64(coded[coding]) / float64(hour.Count()), "By", map[string]any{"period_s": period.Seconds(), "coding": coding}})
		}
	}

	b, err := openWireBackend(ctx, shop.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	runs := wireRuns(b, hour)
	results, failures := make([]wireResult, len(runs)), make([]error, len(runs))
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var all sync.WaitGroup
	for i, r := range runs {
		all.Go(func() {
			l, err := b.newWireLink(ctx, fmt.Sprintf("WIRE-%04d", i))
			if err == nil {
				results[i], err = r.play(ctx, l)
				err = errors.Join(err, l.close())
			}
			if err != nil {
				failures[i] = fmt.Errorf("%v: %w", r.keys, err)
				giveUp() // the others' figures alone are worth nothing
			}
		})
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for i, r := range runs {
		results[i].emit(r.keys, emit)
	}
	return nil
}

// wireRun is a format at a period.
type wireRun struct {
	keys map[string]any
	play func(context.Context, *wireLink) (wireResult, error)
}

// wireResult is what went over the cable.
type wireResult struct {
	readings, messages, payload int
	handshake, data             netns.Traffic
}

func (r wireResult) emit(keys map[string]any, emit func(Metric)) {
	with := func(more map[string]any) map[string]any {
		for k, v := range keys {
			more[k] = v
		}
		return more
	}
	n := float64(r.readings)
	emit(Metric{"ip_bytes_per_reading", float64(r.data.Bytes) / n, "By", with(map[string]any{
		"readings": r.readings, "messages": r.messages, "packets": r.data.Packets, "payload_bytes_per_reading": float64(r.payload) / n,
	})})
	emit(Metric{"handshake_bytes", float64(r.handshake.Bytes), "By", with(map[string]any{"packets": r.handshake.Packets})})
}

func wireRuns(b *wireBackend, hour *trace.Trace) (runs []wireRun) {
	for _, period := range wirePeriods {
		runs = append(runs, wireRun{map[string]any{"period_s": period.Seconds()}, func(ctx context.Context, l *wireLink) (wireResult, error) {
			return playOurs(ctx, l, hour, period)
		}})
		for _, f := range wireFormats {
			runs = append(runs, wireRun{map[string]any{"period_s": period.Seconds(), "peer": f.name}, func(ctx context.Context, l *wireLink) (wireResult, error) {
				all := batches(hour, period)
				r := wireResult{readings: hour.Count()}
				messages := make([][]byte, len(all))
				for i, m := range all {
					messages[i] = f.write(m)
				}
				return playPeer(ctx, l, r, messages)
			}})
		}
	}
	runs = append(runs, wireRun{map[string]any{"peer": "json-a-reading"}, func(ctx context.Context, l *wireLink) (wireResult, error) {
		var messages [][]byte
		n := 0
		for _, m := range batches(hour, hour.Length) {
			for _, reading := range m.readings {
				if n%(hour.Count()/wireSample) == 0 {
					messages = append(messages, encode(m.json(reading)))
				}
				n++
			}
		}
		return playPeer(ctx, l, wireResult{readings: len(messages)}, messages)
	}})
	return runs
}

// playOurs sends the trace the way the firmware does: builder, queue, session.
// The catalogue is the first record and counts.
func playOurs(ctx context.Context, l *wireLink, hour *trace.Trace, period time.Duration) (r wireResult, err error) {
	q, _, err := queue.Open(disk.OS, filepath.Join(l.b.dir, l.serial, "queue"), queue.Options{
		MaxRecord: wireformat.MaxRecord, EncodeGap: wireformat.GapPayload, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	s, err := l.session(ctx, q)
	if err != nil {
		return r, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		_ = s.Run(running) // it ends with its context and not before
		close(ended)
	}()
	defer func() {
		stop()
		<-ended
	}()
	if err := until(ctx, func() bool { return s.Status().State == uplink.Connected }); err != nil {
		return r, fmt.Errorf("connecting: %w (%s)", err, s.Status().LastError)
	}
	if r.handshake, err = l.settle(ctx); err != nil {
		return r, err
	}

	send := func(upTo time.Time, payload []byte) error {
		began := clock.System.Now()
		if err := q.Append(queue.History, upTo, payload); err != nil {
			return err
		}
		if err := until(ctx, func() bool { return q.Status().History.Waiting == 0 }); err != nil {
			return fmt.Errorf("no acknowledgement: %w (%s)", err, s.Status().LastError)
		}
		r.messages++
		r.payload += len(payload)
		return clock.System.Sleep(ctx, wireSpacing-clock.System.Now().Sub(began))
	}
	catalogue, err := wireformat.NewCatalogue(hour.Catalogue)
	if err != nil {
		return r, err
	}
	var packer wireformat.Packer
	if err := send(time.Time{}, packer.AppendPayload(nil, wireformat.KindCatalogue, catalogue.Body)); err != nil {
		return r, err
	}
	builder := wireformat.NewBuilder(catalogue)
	for _, m := range batches(hour, period) {
		builder.Open(m.from)
		for _, reading := range m.readings {
			builder.Add(reading)
		}
		upTo := m.from.Add(period)
		if err := send(upTo, packer.AppendPayload(nil, wireformat.KindBlock, builder.Seal(upTo))); err != nil {
			return r, err
		}
	}
	total, err := l.settle(ctx)
	if err != nil {
		return r, err
	}
	r.readings, r.data = hour.Count(), total.Sub(r.handshake)
	if s.Status().Connections != 1 {
		return r, fmt.Errorf("%d connections: the count is spoilt", s.Status().Connections)
	}
	return r, sameAsTrace(ctx, l, hour)
}

// sameAsTrace holds what the endpoint stored against the trace: every value, at
// its time to the millisecond, and nothing else.
func sameAsTrace(ctx context.Context, l *wireLink, hour *trace.Trace) error {
	type slot struct {
		pump, point string
		at          int64
	}
	want := map[slot]trace.Value{}
	hour.Readings(func(r telemetry.Reading) {
		s := hour.Catalogue.Groups[r.Group].Series[r.Series]
		want[slot{s.Pump, s.Point, r.Slot.UnixMilli()}] = trace.Value{Raw: r.Raw, Quality: r.Quality}
	})
	wrong := 0
	err := l.b.store.Readings(ctx, l.serial, func(r store.Reading) {
		k := slot{r.Pump, r.Point, r.Time.UnixMilli()}
		if v, ok := want[k]; !ok || v != (trace.Value{Raw: r.Raw, Quality: r.Quality}) {
			wrong++
		}
		delete(want, k)
	})
	if err == nil && (wrong > 0 || len(want) > 0) {
		err = fmt.Errorf("the store has %d wrong readings and lacks %d", wrong, len(want))
	}
	return err
}

func playPeer(ctx context.Context, l *wireLink, r wireResult, messages [][]byte) (wireResult, error) {
	c, err := l.peer(ctx)
	if err != nil {
		return r, err
	}
	defer c.Disconnect(0)
	if r.handshake, err = l.settle(ctx); err != nil {
		return r, err
	}
	for _, m := range messages {
		began := clock.System.Now()
		t := c.Publish("gw/"+l.serial+"/up", 1, false, m)
		if !t.WaitTimeout(wirePatience) {
			return r, errors.New("no acknowledgement")
		}
		if err := t.Error(); err != nil {
			return r, err
		}
		r.messages++
		r.payload += len(m)
		if err := clock.System.Sleep(ctx, wireSpacing-clock.System.Now().Sub(began)); err != nil {
			return r, err
		}
	}
	total, err := l.settle(ctx)
	r.data = total.Sub(r.handshake)
	return r, err
}

// until waits for a condition.
func until(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, wirePatience)
	defer cancel()
	for !ok() {
		if err := clock.System.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
