package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"penstock/fieldbus/poll"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
	"penstock/uplink/link"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

const (
	// eventRoom bounds the events that the disk has not taken yet.
	eventRoom = 256
	// eventAgain is how soon an event is tried again that the disk refused.
	eventAgain = time.Second
)

// urgentPoints are the points whose change does not wait for the reporting
// period: somebody should look, or the pump has fallen back to local. Those that
// are true count as news when they are first seen, too: an alarm may have come
// while the gateway was off.
var urgentPoints = map[string]bool{
	"alarm_code": true, "warning_code": true, "drive_fault": true,
	"access": false, "forced_local": false,
}

// herald sees every reading and puts those that are news into the urgent lane, at
// once. It never makes a bus wait for the disk.
type herald struct {
	queue appender
	clock clock.Clock
	log   *slog.Logger
	news  chan telemetry.Event

	mu      sync.Mutex               // guards watched; the goroutines of the buses own the entries of their own pumps
	watched map[[2]int]*watchedPoint // by group and series of the catalogue
}

type watchedPoint struct {
	pump, point string
	first       bool // a first value that is not 0 is news
	known       bool
	raw         int64
}

func newHerald(q appender, c telemetry.Catalogue, clk clock.Clock, log *slog.Logger) *herald {
	h := &herald{queue: q, clock: clk, log: log, news: make(chan telemetry.Event, eventRoom), watched: map[[2]int]*watchedPoint{}}
	h.learn(c)
	return h
}

// learn takes in what the pumps are called now. A pump that has another ID is another
// pump, of which nothing was seen yet.
func (h *herald) learn(c telemetry.Catalogue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g := range c.Groups {
		for i, s := range c.Groups[g].Series {
			first, ok := urgentPoints[s.Point]
			if w := h.watched[[2]int{g, i}]; ok && (w == nil || w.pump != s.Pump) {
				h.watched[[2]int{g, i}] = &watchedPoint{pump: s.Pump, point: s.Point, first: first}
			}
		}
	}
}

// exchanged tells that another device stands at a pump's address: it is the pump with
// this ID now.
func (h *herald) exchanged(pump string, s poll.Standing) {
	if len(s.Devices) < 2 {
		return // the first that has ever told what it is
	}
	now := s.Devices[s.Present]
	h.tell(telemetry.Event{Time: h.clock.Now(), Pump: pump, Point: telemetry.Exchanged, Raw: int64(now.Family)<<16 | int64(now.Type)<<8 | int64(now.Version)})
}

// see takes a reading of the catalogue. Readings of one series come from one
// goroutine.
func (h *herald) see(r telemetry.Reading) {
	h.mu.Lock()
	w := h.watched[[2]int{r.Group, r.Series}]
	h.mu.Unlock()
	if w == nil || r.Quality != telemetry.Good || w.known && w.raw == r.Raw {
		return
	}
	news := w.known || w.first && r.Raw != 0
	e := telemetry.Event{Time: r.Time(), Pump: w.pump, Point: w.point, Raw: r.Raw, Before: w.raw}
	w.known, w.raw = true, r.Raw
	if !news {
		return
	}
	h.tell(e)
}

// tell queues an event. It never waits.
func (h *herald) tell(e telemetry.Event) {
	select {
	case h.news <- e:
	default: // the disk has refused for long; the reading is in a block all the same
		h.log.Error("an event found no room", "pump", e.Pump, "point", e.Point, "raw", e.Raw)
	}
}

// run makes events durable until ctx ends and the buses have stopped.
func (h *herald) run(ctx context.Context, stopped <-chan struct{}) {
	for {
		select {
		case e := <-h.news:
			h.keep(ctx, e)
			continue
		case <-stopped:
		}
		select {
		case e := <-h.news: // the buses have said their last
			h.keep(ctx, e)
		default:
			return
		}
	}
}

func (h *herald) keep(ctx context.Context, e telemetry.Event) {
	h.log.Info("an event", "pump", e.Pump, "point", e.Point, "raw", e.Raw, "before", e.Before)
	for {
		err := h.append(e)
		if err == nil {
			return
		}
		h.log.Error("an event cannot be kept on disk; trying again", "err", err)
		if h.clock.Sleep(ctx, eventAgain) != nil {
			return
		}
	}
}

// append returns nil once an event is durable.
func (h *herald) append(e telemetry.Event) error {
	return h.queue.Append(queue.Urgent, e.Time, new(wire.Packer).AppendPayload(nil, wire.KindEvent, wire.AppendEvent(nil, e)))
}

// warn tells the cloud that a link has used most or all of its data for the month.
func (h *herald) warn(w link.Warning) error {
	return h.append(telemetry.Event{Time: w.Time, Link: w.Link, Point: telemetry.DataUsed, Raw: int64(w.Percent), Before: int64(w.Before)})
}
