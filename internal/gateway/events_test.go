package gateway

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"penstock/fieldbus/poll"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/link"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// events decodes the events in the queue.
func (q *fakeQueue) events(t *testing.T) (all []telemetry.Event) {
	t.Helper()
	for _, rec := range q.records {
		r, err := decode.ParseRecord(wire.AppendRecord(nil, wire.Epoch{1}, wire.Lane(rec.Lane), rec.Seq, rec.Payload))
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != wire.KindEvent {
			continue
		}
		if rec.Lane != queue.Urgent {
			t.Errorf("an event in the %v lane", rec.Lane)
		}
		e, err := decode.ParseEvent(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestAnAlarmDoesNotWaitForThePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := telemetry.Catalogue{
			Pumps: []telemetry.Pump{{ID: "bus1-1"}},
			Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{
				{Pump: "bus1-1", Point: "speed"}, {Pump: "bus1-1", Point: "alarm_code"}, {Pump: "bus1-1", Point: "access"}}}},
		}
		q := &fakeQueue{refuse: errors.New("disk full")}
		h := newHerald(q, c, clock.System, slog.New(slog.DiscardHandler))
		stopped, ended := make(chan struct{}), make(chan struct{})
		go func() { h.run(context.Background(), stopped); close(ended) }()
		at := func(series int, raw int64, quality telemetry.Quality) {
			h.see(telemetry.Reading{Series: series, Slot: time.Now(), Raw: raw, Quality: quality})
		}
		at(0, 2900, telemetry.Good) // nobody's news
		at(1, 57, telemetry.Good)   // it came while the gateway was off
		at(2, 1, telemetry.Good)    // remote: as it was, for all we know
		time.Sleep(10 * time.Second)
		q.mu.Lock()
		q.refuse = nil
		q.mu.Unlock()
		time.Sleep(eventAgain)
		synctest.Wait()
		at(1, 0, telemetry.Missing) // no value at all
		at(1, 57, telemetry.Good)   // still there
		at(1, 0, telemetry.Good)    // gone
		at(2, 0, telemetry.Good)    // fallen back to local
		close(stopped)
		<-ended
		type news struct {
			point       string
			raw, before int64
		}
		want := []news{{"alarm_code", 57, 0}, {"alarm_code", 0, 57}, {"access", 0, 1}}
		got := q.events(t)
		if len(got) != len(want) {
			t.Fatalf("%+v", got)
		}
		for i, e := range got {
			if (news{e.Point, e.Raw, e.Before}) != want[i] || e.Pump != "bus1-1" {
				t.Errorf("%+v, want %+v", e, want[i])
			}
		}
	})
}

func TestAUsedUpBudgetIsToldInTheUrgentLane(t *testing.T) {
	q := &fakeQueue{}
	h := newHerald(q, telemetry.Catalogue{}, clock.System, slog.New(slog.DiscardHandler))
	w := link.Warning{Link: "modem", Time: time.UnixMilli(1780000000000).UTC(), Percent: 100, Before: 80}
	if err := h.warn(w); err != nil {
		t.Fatal(err)
	}
	want := telemetry.Event{Time: w.Time, Link: "modem", Point: "data_used", Raw: 100, Before: 80}
	if got := q.events(t); len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
	q.refuse = errors.New("disk full")
	if err := h.warn(w); err == nil {
		t.Error("a warning that the disk refused counts as told")
	}
}

func TestBlocksAreSealedOftenWhileSomebodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := testCatalogue(t)
		q := &fakeQueue{}
		r := newRecorder(q, w, time.Minute, time.Now, clock.System, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		stopped, ended := make(chan struct{}), make(chan struct{})
		go func() { r.run(ctx, stopped); close(ended) }()
		blocks := func(d time.Duration) int {
			before := len(q.records)
			for range int(d / time.Second) {
				r.add(telemetry.Reading{Slot: time.Now().Truncate(time.Second), Raw: 1})
				time.Sleep(time.Second)
			}
			synctest.Wait()
			return len(q.records) - before
		}
		time.Sleep(500 * time.Millisecond) // between the seals
		if n := blocks(10 * time.Second); n != 0 {
			t.Errorf("%d records while nobody looked", n)
		}
		time.Sleep(500 * time.Millisecond)
		r.watch(time.Minute, time.Second)
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		if n := len(q.records); n != 2 { // the catalogue, and what was open
			t.Errorf("%d records at once", n)
		}
		blocks(30 * time.Second)
		r.watch(time.Minute, time.Second) // renewed
		if n := blocks(50 * time.Second); n < 49 {
			t.Errorf("%d blocks in 50 s of watching", n)
		}
		blocks(11 * time.Second) // the lease ends
		if n := blocks(60 * time.Second); n > 2 {
			t.Errorf("%d blocks in a minute after the lease", n)
		}
		cancel()
		close(stopped)
		<-ended
	})
}

func TestEveryEndOfACommandHasItsWord(t *testing.T) {
	for err, want := range map[error]telemetry.Outcome{
		poll.ErrRefused: telemetry.Refused, poll.ErrNotFollowed: telemetry.NotFollowed,
		poll.ErrNoAnswer: telemetry.NoAnswer, context.Canceled: telemetry.OutcomeUnknown,
	} {
		if got := outcome(errors.Join(errors.New("setpoint of bus1-1"), err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
