package uplink

import (
	"time"

	"penstock/uplink/queue"
)

// stateLane stands for the state messages, which are not of the queue.
const stateLane queue.Lane = 0

// windowState is what is published and not acknowledged. It knows nothing of
// MQTT, so that its rules can be tested alone. It is owned by the session's
// goroutine.
//
// The rules: at most window records in flight, history only up to
// window-reserved, at most windowBytes together unless one travels alone; and the queue
// may discard only what is acknowledged together with everything before it in
// its lane.
type windowState struct {
	lanes map[queue.Lane]*laneState
	n     int       // records in flight
	bytes int       // of them
	last  time.Time // of the last PUBACK, or of the first publish after none was in flight
}

type laneState struct {
	sent    uint64 // the last published sequence number
	flights []*flight
}

// flight is one published record.
type flight struct {
	lane  queue.Lane
	seq   uint64
	size  int
	acked bool
}

func newWindow() *windowState {
	return &windowState{lanes: map[queue.Lane]*laneState{stateLane: {}, queue.Urgent: {}, queue.History: {}}}
}

// room tells whether a record of that size may be published now. An event does
// not wait for the bytes of history that are under way.
func (w *windowState) room(lane queue.Lane, size int) bool {
	if lane == queue.Urgent {
		return w.n < window
	}
	return w.n == 0 || w.n < window-reserved && w.bytes+size <= windowBytes
}

// publish notes a record as in flight.
func (w *windowState) publish(lane queue.Lane, seq uint64, size int, now time.Time) *flight {
	if w.n == 0 {
		w.last = now
	}
	l := w.lanes[lane]
	f := &flight{lane: lane, seq: seq, size: size}
	l.sent = seq
	l.flights = append(l.flights, f)
	w.n++
	w.bytes += size
	return f
}

// acknowledge notes a PUBACK. upTo is the last sequence number of the lane's
// contiguous acknowledged prefix, if this PUBACK moved it.
func (w *windowState) acknowledge(f *flight, now time.Time) (upTo uint64, moved bool) {
	f.acked = true
	w.last = now
	w.n--
	w.bytes -= f.size
	l := w.lanes[f.lane]
	for len(l.flights) > 0 && l.flights[0].acked {
		upTo, moved = l.flights[0].seq, true
		l.flights = l.flights[1:]
	}
	return upTo, moved
}

// stalled tells whether nothing was acknowledged for too long. A slow link is
// given the time that the bytes in flight take on the slowest.
func (w *windowState) stalled(now time.Time) bool {
	allowed := min(patience+time.Duration(w.bytes/slowest)*time.Second, longest)
	return w.n > 0 && now.Sub(w.last) > allowed
}
