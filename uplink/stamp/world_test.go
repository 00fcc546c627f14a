package stamp

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

const dir = "/state/queue"

var (
	truth = time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC) // when the first boot begins
	built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	quiet = slog.New(slog.DiscardHandler)
)

// board is one boot of a machine, and what has been told it of the time.
type board struct {
	name        string
	began       time.Time // in truth
	up          time.Duration
	wall        time.Time // what its own clock showed when it was booted
	floor       time.Time // when it was booted
	known, sure bool
	off         time.Duration // by which what it was told is wrong
	doubt       time.Duration // how wrong that may be
}

func (b *board) Boot() string          { return b.name }
func (b *board) Uptime() time.Duration { return b.up }
func (b *board) now() time.Time        { return b.began.Add(b.up) }
func (b *board) Floor() time.Time      { return b.floor.Add(b.up) }

func (b *board) Booted() (time.Time, bool, bool) {
	at := b.wall
	if b.known {
		at = b.began.Add(b.off)
	}
	if at.Before(b.floor) {
		at = b.floor
	}
	return at, b.known, b.sure
}

func (b *board) Doubt() time.Duration { return b.doubt }

func (b *board) Claim() (time.Time, bool) { return b.wall, !b.wall.Before(b.floor) }

// told: our own service has told the time.
func (b *board) told() { b.known, b.sure = true, true }

var speed = func() *wire.Catalogue {
	c, err := wire.NewCatalogue(telemetry.Catalogue{Pumps: []telemetry.Pump{{ID: "p"}},
		Groups: []telemetry.Group{{Period: time.Second, Series: []telemetry.Series{{Pump: "p", Point: "speed", Scale: telemetry.Unit}}}}})
	if err != nil {
		panic(err)
	}
	return c
}()

// name names a record for ever.
type name struct {
	epoch [8]byte
	lane  queue.Lane
	seq   uint64
}

// world is what was measured, and what arrived of it.
type world struct {
	power     func() bool   // nil: it is there
	tolerance time.Duration // how far a time may be off without saying so
	boots     int
	readings  int64                   // made so far; each has its number as its value
	taken     map[int64]time.Time     // in truth
	acked     map[int64]bool          // Append returned without an error
	arrived   map[name]string         // payloads
	times     map[int64][]time.Time   // of readings and events, as they arrived; none: without a time
	unsure    map[int64]time.Duration // as they arrived
	gaps      []telemetry.Gap
	wrong     []string
}

func newWorld() *world {
	return &world{taken: map[int64]time.Time{}, acked: map[int64]bool{}, arrived: map[name]string{}, times: map[int64][]time.Time{}, unsure: map[int64]time.Duration{}}
}

func (w *world) fork() *world {
	f := *w
	f.taken, f.acked, f.arrived, f.times, f.unsure = maps.Clone(w.taken), maps.Clone(w.acked), maps.Clone(w.arrived), maps.Clone(w.times), maps.Clone(w.unsure)
	f.gaps, f.wrong = append([]telemetry.Gap(nil), w.gaps...), append([]string(nil), w.wrong...)
	return &f
}

func (w *world) fail(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// boot is another boot of a board without a clock.
func (w *world) boot(began, floor time.Time) *board {
	w.boots++
	return &board{name: fmt.Sprintf("boot %d", w.boots), began: began, floor: floor, wall: time.Unix(0, 0)}
}

func open(d *faultdisk.Disk, b *board, seed byte) (*Queue, queue.Recovery, error) {
	var key [32]byte
	key[0] = seed
	return Open(d, dir, queue.Options{Limit: 1 << 20, SegmentSize: 4096, MaxRecord: 2000, Rand: rand.NewChaCha8(key),
		EncodeGap: wire.GapPayload, Log: quiet}, b)
}

func mustOpen(t *testing.T, d *faultdisk.Disk, b *board) *Queue {
	t.Helper()
	q, _, err := open(d, b, byte(len(b.name))+b.name[len(b.name)-1])
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// measure takes a reading half a second ago, and appends the block of this second.
func (w *world) measure(q *Queue, b *board) error {
	b.up += time.Second
	upTo := clock.AtUptime(b.up)
	builder := wire.NewBuilder(speed)
	builder.Open(upTo.Add(-time.Second))
	w.readings++
	builder.Add(telemetry.Reading{Slot: upTo.Add(-500 * time.Millisecond), Raw: w.readings})
	w.taken[w.readings] = b.now().Add(-500 * time.Millisecond)
	body := bytes.Clone(builder.Seal(upTo))
	id := w.readings
	err := q.Append(queue.History, upTo, new(wire.Packer).AppendPayload(nil, wire.KindBlock, body))
	w.acked[id] = err == nil
	return err
}

// alarm appends an event of now.
func (w *world) alarm(q *Queue, b *board) error {
	w.readings++
	w.taken[w.readings] = b.now()
	e := telemetry.Event{Time: clock.AtUptime(b.up), Pump: "p", Point: "alarm_code", Raw: w.readings}
	id := w.readings
	err := q.Append(queue.Urgent, e.Time, new(wire.Packer).AppendPayload(nil, wire.KindEvent, wire.AppendEvent(nil, e)))
	w.acked[id] = err == nil
	return err
}

// deliver hands up to count records of a lane to the store, and discards them if it
// may. It returns how many there were.
func (w *world) deliver(q *Queue, lane queue.Lane, count int, discard bool) (n int, err error) {
	after := uint64(0)
	for n < count {
		r, ok, err := q.Peek(lane, after, nil)
		if err != nil {
			return n, err
		}
		if !ok || w.power != nil && !w.power() {
			break
		}
		n, after = n+1, r.Seq
		w.arrive(r)
	}
	if n > 0 && discard {
		err = q.Discard(lane, after)
	}
	return n, err
}

func (w *world) arrive(r queue.Record) {
	k := name{r.Epoch, r.Lane, r.Seq}
	if had, again := w.arrived[k]; again {
		if had != string(r.Payload) {
			w.fail("%v has two contents", k)
		}
		return
	}
	w.arrived[k] = string(r.Payload)
	rec, err := decode.ParseRecord(wire.AppendRecord(nil, r.Epoch, wire.Lane(r.Lane), r.Seq, r.Payload))
	if err != nil {
		w.fail("%v: %v", k, err)
		return
	}
	switch rec.Kind {
	case wire.KindBlock:
		b, err := decode.ParseBlock(rec.Body)
		if err != nil {
			w.fail("%v: %v", k, err)
			return
		}
		all, err := b.All(speed.Meaning().Groups)
		if err != nil || len(all) != 1 {
			w.fail("%v: %d readings, %v", k, len(all), err)
			return
		}
		id := all[0].Raw
		w.times[id] = append(w.times[id], all[0].Time())
		w.unsure[id] = b.Unsure
	case wire.KindEvent:
		e, err := decode.ParseEvent(rec.Body)
		if err != nil {
			w.fail("%v: %v", k, err)
			return
		}
		w.times[e.Raw] = append(w.times[e.Raw], e.Time)
		w.unsure[e.Raw] = e.Unsure
	case wire.KindGap:
		g, err := decode.ParseGap(rec.Body)
		if err != nil {
			w.fail("%v: %v", k, err)
			return
		}
		w.gaps = append(w.gaps, g)
	}
}

// check judges what arrived: all that was promised is there once, as near the truth
// as it says.
func (w *world) check() {
	for id, ok := range w.acked {
		switch n := len(w.times[id]); {
		case n > 1:
			w.fail("reading %d has arrived %d times", id, n)
		case n == 0 && ok:
			w.fail("reading %d, of %v, is lost", id, w.taken[id])
		case n == 1:
			if off := w.times[id][0].Sub(w.taken[id]); off.Abs() > max(w.unsure[id], w.tolerance)+time.Millisecond && !w.times[id][0].IsZero() {
				w.fail("reading %d is of %v, and says %v ± %v", id, w.taken[id], w.times[id][0], w.unsure[id])
			}
		}
	}
}

func (w *world) report(t *testing.T) {
	t.Helper()
	w.check()
	for _, s := range w.wrong {
		t.Error(s)
	}
}
