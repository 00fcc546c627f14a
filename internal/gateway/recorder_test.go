package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// fakeQueue keeps what was appended and can refuse it.
type fakeQueue struct {
	mu      sync.Mutex
	refuse  error
	dropped uint64
	epoch   [8]byte
	records []queue.Record
}

func (q *fakeQueue) Append(lane queue.Lane, upTo time.Time, payloads ...[]byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	for _, p := range payloads {
		q.records = append(q.records, queue.Record{Lane: lane, Seq: uint64(len(q.records) + 1), UpTo: upTo, Payload: p})
	}
	return nil
}

func (q *fakeQueue) Status() queue.Status {
	return queue.Status{Epoch: q.epoch, History: queue.LaneStatus{Dropped: q.dropped}}
}

// kinds decodes what is in the queue: readings of the blocks, and the kinds in order.
func (q *fakeQueue) kinds(t *testing.T, c telemetry.Catalogue) (kinds []wire.Kind, raws []int64) {
	t.Helper()
	for _, rec := range q.records {
		r, err := decode.ParseRecord(wire.AppendRecord(nil, wire.Epoch{1}, wire.Lane(rec.Lane), rec.Seq, rec.Payload))
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, r.Kind)
		if r.Kind == wire.KindBlock {
			raws = append(raws, blockRaws(t, c, r.Body)...)
		}
	}
	return kinds, raws
}

func testCatalogue(t *testing.T) (telemetry.Catalogue, *wire.Catalogue) {
	t.Helper()
	c := telemetry.Catalogue{
		Pumps: []telemetry.Pump{{ID: "bus1-1", Name: "P", Family: "f", Bus: "bus1", Address: 1}},
		Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{
			{Pump: "bus1-1", Point: "speed", Unit: "/min", Scale: telemetry.Unit}}}},
	}
	w, err := wire.NewCatalogue(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

func TestEachPeriodIsOneRecordUnderACatalogueSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := testCatalogue(t)
		q := &fakeQueue{}
		r := newRecorder(q, w, 10*time.Second, time.Now, clock.System, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		stopped, ended := make(chan struct{}), make(chan struct{})
		go func() { r.run(ctx, stopped); close(ended) }()
		for i := range 25 {
			time.Sleep(time.Second)
			r.add(telemetry.Reading{Slot: time.Now(), Raw: int64(i)})
		}
		time.Sleep(time.Second)
		cancel()
		r.add(telemetry.Reading{Slot: time.Now(), Raw: 25}) // from the transaction in flight
		close(stopped)
		<-ended
		kinds, raws := q.kinds(t, c)
		if want := []wire.Kind{wire.KindCatalogue, wire.KindBlock, wire.KindBlock, wire.KindBlock}; !slices.Equal(kinds, want) {
			t.Errorf("records %v, want %v", kinds, want)
		}
		if len(raws) != 26 {
			t.Fatalf("%d readings recorded of 26: %v", len(raws), raws)
		}
		for i, raw := range raws {
			if raw != int64(i) {
				t.Errorf("reading %d is %d", i, raw)
			}
		}
	})
}

func TestADiskThatRefusesLosesNothingUntilMemoryIsFull(t *testing.T) {
	c, w := testCatalogue(t)
	q := &fakeQueue{refuse: errors.New("no space left")}
	now := time.Unix(1e9, 0)
	r := newRecorder(q, w, time.Minute, nil, fixed{now}, slog.New(slog.DiscardHandler))
	for i := range 5 {
		r.add(telemetry.Reading{Slot: now.Add(time.Duration(i) * time.Second), Raw: int64(i)})
		r.seal(now.Add(time.Duration(i+1) * time.Minute))
	}
	q.refuse = nil
	r.seal(now.Add(time.Hour))
	if _, raws := q.kinds(t, c); len(raws) != 5 {
		t.Errorf("after the disk came back: %v", raws)
	}

	q.refuse, q.records = errors.New("no space left"), nil
	for i := range 5 {
		r.add(telemetry.Reading{Slot: now.Add(time.Duration(i) * time.Second), Raw: int64(i)})
		r.seal(now.Add(time.Hour + time.Duration(i+1)*time.Minute))
		r.pending[len(r.pending)-1].payload = append(make([]byte, 0, pendingLimit/2), r.pending[len(r.pending)-1].payload...)
	}
	if len(r.pending) != 5 {
		t.Fatalf("%d blocks pending", len(r.pending))
	}
	for i := range r.pending { // as if they were large
		r.pending[i].payload = r.pending[i].payload[:pendingLimit/2]
	}
	r.bound()
	if len(r.pending) != 2 || r.lost == nil || r.lost.Reason != telemetry.QueueFull || !r.lost.To.Equal(now.Add(time.Hour+3*time.Minute)) {
		t.Errorf("%d pending, lost %+v; want 2, and a gap to the third block's end", len(r.pending), r.lost)
	}
}

func TestTheCatalogueIsSentAgainWhenHistoryWasDropped(t *testing.T) {
	c, w := testCatalogue(t)
	q := &fakeQueue{}
	now := time.Unix(1e9, 0)
	r := newRecorder(q, w, time.Minute, nil, fixed{now}, slog.New(slog.DiscardHandler))
	for i := range 3 {
		if i == 2 {
			q.dropped = 7
		}
		r.add(telemetry.Reading{Slot: now.Add(time.Duration(i) * time.Minute), Raw: 1})
		r.seal(now.Add(time.Duration(i+1) * time.Minute))
	}
	kinds, _ := q.kinds(t, c)
	if want := []wire.Kind{wire.KindCatalogue, wire.KindBlock, wire.KindBlock, wire.KindCatalogue, wire.KindBlock}; !slices.Equal(kinds, want) {
		t.Errorf("records %v, want %v", kinds, want)
	}
}

func blockRaws(t *testing.T, c telemetry.Catalogue, body []byte) (raws []int64) {
	t.Helper()
	b, err := decode.ParseBlock(body)
	if err != nil {
		t.Fatal(err)
	}
	readings, err := b.All(c.Groups)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readings {
		raws = append(raws, r.Raw)
	}
	return raws
}

// fixed is a clock that stands still.
type fixed struct{ now time.Time }

func (f fixed) Now() time.Time                                   { return f.now }
func (f fixed) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// TestTheCatalogueIsToldAgain: daily, when the endpoint asks, and in a new epoch.
func TestTheCatalogueIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := testCatalogue(t)
		q := &fakeQueue{}
		r := newRecorder(q, w, time.Minute, time.Now, clock.System, slog.New(slog.DiscardHandler))
		block := func(after time.Duration) (catalogues int) {
			before := len(q.records)
			time.Sleep(after)
			r.add(telemetry.Reading{Slot: time.Now()})
			r.seal(time.Now())
			kinds, _ := q.kinds(t, c)
			for _, k := range kinds[before:] {
				if k == wire.KindCatalogue {
					catalogues++
				}
			}
			return catalogues
		}
		for _, step := range []struct {
			what  string
			do    func()
			after time.Duration
			want  int
		}{
			{"the first block", func() {}, 0, 1},
			{"the next", func() {}, time.Minute, 0},
			{"asked, just told", r.recall, time.Minute, 0},
			{"asked some minutes ago", func() {}, askedMost, 1},
			{"answered", func() {}, askedMost, 0},
			{"asked later", r.recall, time.Minute, 1},
			{"a new epoch", func() { q.epoch = [8]byte{1} }, time.Minute, 1},
			{"nearly a day", func() {}, tellEvery - time.Minute, 0},
			{"a day", func() {}, time.Minute, 1},
		} {
			step.do()
			if got := block(step.after); got != step.want {
				t.Errorf("%s: %d catalogues", step.what, got)
			}
		}
	})
}
