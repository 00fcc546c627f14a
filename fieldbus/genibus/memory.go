package genibus

import (
	"bytes"
	"slices"
	"time"
)

// shape is what the replies to a request look like: its classes, operations and
// counts. Requests of different shapes cannot be answered by one another's
// replies. A SET is answered alike whatever it sets.
type shape uint64

func shapeOf(pdu []byte) shape {
	h := uint64(14695981039346656037) // FNV-1a
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for {
		a, rest, ok, err := Next(pdu)
		if err != nil || !ok {
			return shape(h)
		}
		mix(byte(a.Class))
		switch {
		case a.Operation() == Set:
			mix(0)
		case a.Operation() == Info:
			mix(0x80 | byte(len(a.Data)))
		default:
			mix(byte(len(a.Data)*max(a.Class.width(), 1)) & 0x7F)
		}
		pdu = rest
	}
}

// asked is a request that was sent, once or several times unchanged.
type asked struct {
	shape       shape
	first, last time.Time // the first and the last attempt's first bit
	wire        time.Duration
	done        time.Time // when it was answered
	open        bool      // fewer replies came than attempts were made
	kept        int       // length of request, which stays here to know its late replies
	request     [MaxPDU]byte
}

func (a *asked) pdu() []byte { return a.request[:a.kept] }

// memory is what a master remembers of one address, so that a late or repeated
// reply is never taken for the answer to another request. See Master.
type memory struct {
	high   time.Duration // decaying maximum of the reply time; zero: never answered
	late   time.Duration // the longest lateness seen
	repeat time.Duration // the longest after which a reply was seen again
	spoken time.Time     // when the device was addressed last

	past    []*asked // of the last quiet window, the latest last
	free    []*asked
	pending bool // the latest request is unanswered and may be repeated
}

// remembered is how many requests of a quiet window are kept apart.
const remembered = 16

func newMemory() *memory {
	d := &memory{past: make([]*asked, 0, remembered), free: make([]*asked, 0, remembered)}
	room := new([remembered]asked)
	for i := range room {
		d.free = append(d.free, &room[i])
	}
	return d
}

// patience is how long the device's reply is waited for.
func (d *memory) patience() time.Duration {
	return max(patience, min(d.late*3/2, patienceMost))
}

// quiet is the quiet window in force.
func (d *memory) quiet() time.Duration {
	return min(max(quietLeast, 2*d.late, 4*d.high), quietMost)
}

func (d *memory) latest() *asked {
	if len(d.past) == 0 {
		return nil
	}
	return d.past[len(d.past)-1]
}

// until is when a reply to a request need no longer be feared.
func (d *memory) until(a *asked) time.Time {
	window := d.quiet()
	if a.open {
		return a.last.Add(a.wire + window)
	}
	repeated := a.done.Add(min(max(2*d.repeat, repeatLeast), window))
	if a == d.latest() {
		return later(repeated, a.last.Add(a.wire+window))
	}
	return repeated
}

// owedUntil is when every request that is open need no longer be feared.
func (d *memory) owedUntil() (at time.Time) {
	for _, a := range d.past {
		if until := d.until(a); a.open && until.After(at) {
			at = until
		}
	}
	return at
}

// expire forgets what needs no longer be feared.
func (d *memory) expire(now time.Time) {
	if d.pending && !now.Before(d.until(d.latest())) {
		d.pending = false
	}
	// Kept for longer than it binds, so that a very late reply is known for one,
	// and teaches.
	for len(d.past) > 0 && !now.Before(d.past[0].last.Add(d.past[0].wire+4*d.quiet())) {
		d.forget(0)
	}
}

func (d *memory) forget(i int) {
	a := d.past[i]
	d.past = slices.Delete(d.past, i, i+1)
	d.free = append(d.free, a)
}

// quietUntil is when another request than the pending one may be made.
func (d *memory) quietUntil() time.Time {
	if !d.pending {
		return time.Time{}
	}
	return d.until(d.latest())
}

// repeats tells whether a request continues the pending one.
func (d *memory) repeats(pdu []byte) bool { return d.pending && bytes.Equal(pdu, d.latest().pdu()) }

// clear is from when on a request of this shape may be sent.
func (d *memory) clear(s shape, now time.Time) time.Time {
	at := now
	for _, a := range d.past {
		// Without room to remember one more, the oldest has to expire first.
		full := len(d.free) == 0 && a == d.past[0]
		if until := d.until(a); (a.shape == s || full) && until.After(at) {
			at = until
		}
	}
	return at
}

// begin notes that a request is being sent.
func (d *memory) begin(pdu []byte, now time.Time, wire time.Duration) {
	d.spoken = now
	if d.repeats(pdu) {
		d.latest().last = now
		return
	}
	if len(d.free) == 0 {
		d.forget(0)
	}
	a := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	a.shape, a.first, a.last, a.wire, a.open = shapeOf(pdu), now, now, wire, true
	a.kept = copy(a.request[:], pdu)
	d.past = append(d.past, a)
	d.pending = true
}

// answered notes that the pending request was answered, at now, and returns the
// time of its first attempt.
func (d *memory) answered(now time.Time) time.Time {
	a := d.latest()
	d.pending = false
	a.done = now
	if a.last.Equal(a.first) {
		a.open = false
		d.learn(now.Sub(a.last) - a.wire)
	} else {
		// Which of the attempts was answered cannot be told: the request stays
		// open, for another reply to it may come.
		d.overdue(a, now)
	}
	return a.first
}

// seen notes a reply that was not waited for, and tells whether it answers an
// earlier request.
func (d *memory) seen(reply []byte, now time.Time) bool {
	for i := len(d.past) - 1; i >= 0; i-- {
		a := d.past[i]
		if Match(a.pdu(), reply) != nil {
			continue
		}
		if a.open {
			d.overdue(a, now)
		} else {
			d.repeat = max(d.repeat, now.Sub(a.done))
		}
		return true
	}
	return false
}

// overdue learns from a reply to one of several attempts. It is held to be the
// reply to the last one, unless it came sooner than the wire allows.
func (d *memory) overdue(a *asked, now time.Time) {
	took := now.Sub(a.last) - a.wire
	if took < 0 {
		took = now.Sub(a.first) - a.wire
	}
	d.late = max(d.late, took)
	d.learn(took)
}

func (d *memory) learn(took time.Duration) {
	took = max(took, time.Microsecond)
	if took >= d.high {
		d.high = took
		return
	}
	d.high -= (d.high - took) / 64
}
