package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

// pendingLimit bounds the sealed blocks kept in memory while the disk refuses
// them; past it the oldest go, named in a gap record.
const pendingLimit = 1 << 20 // bytes

const (
	// tellEvery is how often the catalogue is told again, with nobody asking: a
	// backend that was restored from a backup may have lost it.
	tellEvery = 24 * time.Hour
	// askedMost is how often it is told at most because the endpoint asks.
	askedMost = 10 * time.Minute
)

// appender is what the recorder needs of the queue.
type appender interface {
	Append(lane queue.Lane, upTo time.Time, payloads ...[]byte) error
	Status() queue.Status
}

// recorder gathers readings in the open block, and each reporting period seals
// it as one durable record.
type recorder struct {
	queue  appender
	clock  clock.Clock
	log    *slog.Logger
	period time.Duration
	// settled is a time before which no reading is still on its way: a block
	// is complete up to there.
	settled func() time.Time

	full chan struct{} // a block that can take no more asks to be sealed

	looks chan struct{} // holds one: somebody has begun to look

	mu           sync.Mutex
	builder      *wire.Builder
	catalogue    *wire.Catalogue // that builder works by
	turned       []sealed        // blocks that a new catalogue has ended, oldest first
	lastUpTo     time.Time       // the end of the last block
	watchedUntil time.Time       // somebody looks
	watchedEvery time.Duration   // and a block is sealed this often
	recalled     bool            // the endpoint asks for the catalogue

	// The reporting goroutine owns the rest.
	packer  wire.Packer
	pending []sealed // oldest first
	lost    *telemetry.Gap
	dropped uint64          // of the history lane, when the catalogue was last appended
	told    *wire.Catalogue // is in the queue, ahead of the blocks that come next
	toldAt  time.Time
	epoch   [8]byte // that it was told in
	trouble bool    // said in the log
}

type sealed struct {
	upTo      time.Time
	body      []byte // of a block that is not packed yet
	payload   []byte
	catalogue *wire.Catalogue
}

func newRecorder(q appender, c *wire.Catalogue, period time.Duration, settled func() time.Time, clk clock.Clock, log *slog.Logger) *recorder {
	r := &recorder{queue: q, clock: clk, log: log, period: period, catalogue: c, settled: settled,
		full: make(chan struct{}, 1), looks: make(chan struct{}, 1), builder: wire.NewBuilder(c)}
	r.lastUpTo = clk.Now()
	r.builder.Open(r.lastUpTo)
	return r
}

// add takes a reading. It never waits for the disk.
func (r *recorder) add(reading telemetry.Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.builder.Add(reading) {
		select {
		case r.full <- struct{}{}:
		default: // asked already
		}
	}
}

// watch has blocks sealed more often for the length of a lease.
func (r *recorder) watch(lease, every time.Duration) {
	now := r.clock.Now()
	r.mu.Lock()
	begins := !now.Before(r.watchedUntil)
	r.watchedUntil, r.watchedEvery = now.Add(lease), every
	r.mu.Unlock()
	if begins {
		select {
		case r.looks <- struct{}{}:
		default: // told already
		}
	}
}

// recall has the catalogue told again ahead of the next block.
func (r *recorder) recall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recalled = true
}

// due tells whether the catalogue in force has to be told again: since another is in
// force, history was dropped that may have held it, a new epoch has begun, the
// endpoint asks, or a day has passed.
func (r *recorder) due(c *wire.Catalogue, s queue.Status) bool {
	since := r.clock.Now().Sub(r.toldAt)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told != c || s.History.Dropped != r.dropped || s.Epoch != r.epoch ||
		since >= tellEvery || r.recalled && since >= askedMost
}

// every is how long a block stays open now.
func (r *recorder) every() time.Duration {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.watchedUntil) {
		return min(r.period, r.watchedEvery)
	}
	return r.period
}

// run seals every period until ctx ends, and then once more: a stop loses
// nothing. The buses must have stopped by the time that stopped is closed.
func (r *recorder) run(ctx context.Context, stopped <-chan struct{}) {
	for {
		wait, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-r.full:
				cancel()
			case <-r.looks:
				cancel()
			case <-wait.Done():
			}
		}()
		_ = r.clock.Sleep(wait, r.every()) // its error says that it was cut short
		cancel()
		if ctx.Err() != nil {
			<-stopped
			r.seal(r.clock.Now())
			return
		}
		r.seal(r.settled())
	}
}

// seal ends the open block and hands everything sealed to the queue.
func (r *recorder) seal(upTo time.Time) {
	r.mu.Lock()
	r.end(upTo)
	turned := r.turned
	r.turned = nil
	r.mu.Unlock()
	for _, s := range turned {
		s.payload, s.body = r.packer.AppendPayload(nil, wire.KindBlock, s.body), nil
		r.pending = append(r.pending, s)
	}
	r.flush()
}

// end ends the open block and begins the next. mu is held.
func (r *recorder) end(upTo time.Time) {
	if upTo.Before(r.lastUpTo) {
		upTo = r.lastUpTo // the clock was set back
	}
	if r.builder.Len() > 0 {
		body := bytes.Clone(r.builder.Seal(upTo))
		r.turned = append(r.turned, sealed{upTo: upTo, body: body, catalogue: r.catalogue})
	}
	r.builder.Open(upTo)
	r.lastUpTo = upTo
}

// turn puts a new catalogue in force: what was added before is of the old one,
// what comes after of the new one. It never waits for the disk.
func (r *recorder) turn(c *wire.Catalogue) {
	upTo := r.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(upTo)
	r.catalogue, r.builder = c, wire.NewBuilder(c)
	r.builder.Open(r.lastUpTo)
}

// flush appends what is pending, in order. What the disk refuses is tried again
// with the next seal.
func (r *recorder) flush() {
	if len(r.pending) == 0 {
		return
	}
	if err := r.append(); err != nil {
		if !r.trouble {
			r.log.Error("readings cannot be kept on disk; they are held in memory and tried again", "err", err)
		}
		r.trouble = true
		r.bound()
		return
	}
	if r.trouble {
		r.log.Info("readings are kept on disk again")
	}
	r.trouble = false
}

func (r *recorder) append() error {
	if r.lost != nil {
		if err := r.queue.Append(queue.Urgent, r.lost.To, wire.GapPayload(*r.lost)); err != nil {
			return err
		}
		r.lost = nil
	}
	for len(r.pending) > 0 {
		// Blocks mean nothing without their catalogue, so it goes ahead of them
		// once, and again when it is due.
		if c, s := r.pending[0].catalogue, r.queue.Status(); r.due(c, s) {
			payload := r.packer.AppendPayload(nil, wire.KindCatalogue, c.Body)
			if err := r.queue.Append(queue.History, time.Time{}, payload); err != nil {
				return err
			}
			r.told, r.toldAt, r.dropped, r.epoch = c, r.clock.Now(), s.History.Dropped, s.Epoch
			r.mu.Lock()
			r.recalled = false
			r.mu.Unlock()
		}
		if err := r.queue.Append(queue.History, r.pending[0].upTo, r.pending[0].payload); err != nil {
			return err
		}
		r.pending = r.pending[1:]
	}
	return nil
}

// bound drops the oldest pending blocks beyond the limit and remembers the gap.
func (r *recorder) bound() {
	size := 0
	for _, s := range r.pending {
		size += len(s.payload)
	}
	for size > pendingLimit && len(r.pending) > 1 {
		oldest := r.pending[0]
		if r.lost == nil {
			r.lost = &telemetry.Gap{Reason: telemetry.QueueFull, From: oldest.upTo.Add(-r.period)}
		}
		r.lost.To = oldest.upTo
		size -= len(oldest.payload)
		r.pending = r.pending[1:]
	}
}
