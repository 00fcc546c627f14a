package modbus

import (
	"bytes"
	"slices"
	"time"

	gomodbus "github.com/goburrow/modbus"
)

// Defaults of Timing, and the bounds that hold whatever was learnt.
const (
	defaultReplyMin = 50 * time.Millisecond
	defaultReplyMax = 250 * time.Millisecond
	defaultQuiet    = time.Second

	longestReply = 5 * time.Second
	longestQuiet = 15 * time.Second
)

// Timing is what is known of a device's pace beforehand. Zero fields take the
// defaults: 50 ms, 250 ms, 1 s.
type Timing struct {
	// ReplyMin is the least time that the device is given to begin its answer,
	// however fast it has been so far.
	ReplyMin time.Duration
	// ReplyMax is how long a device is waited for while its pace is unknown,
	// and at most later, unless it has been seen to answer later still.
	ReplyMax time.Duration
	// Quiet is how long nothing else is asked of a device after a request to it
	// was given up. The window in force is never less than twice the longest
	// lateness seen, nor eleven times the usual reply time,
	// which an answer takes that is late by ten.
	Quiet time.Duration
}

func (t Timing) withDefaults() Timing {
	if t.ReplyMin <= 0 {
		t.ReplyMin = defaultReplyMin
	}
	if t.ReplyMax <= 0 {
		t.ReplyMax = defaultReplyMax
	}
	t.ReplyMax = max(t.ReplyMax, t.ReplyMin)
	if t.Quiet <= 0 {
		t.Quiet = defaultQuiet
	}
	return t
}

// asked is a request that was sent, once or several times unchanged.
type asked struct {
	shape       shape
	first, last time.Time     // the first and the last attempt's first bit
	wire        time.Duration // request and answer on the wire: no attempt can be answered sooner
	window      time.Duration // the quiet window when it was sent, so that a device which is fast again shortens none
	open        bool          // fewer answers came than attempts were made
}

// device is what a master remembers of one address.
type device struct {
	timing Timing
	client gomodbus.Client

	high   time.Duration // decaying maximum of the reply time; zero = never answered
	late   time.Duration // the longest lateness seen
	repeat time.Duration // the longest after which an answer was seen again

	// past holds the requests of the last quiet window, the latest last.
	past []asked
	room [32]asked

	pending bool // the latest request is unanswered and may be repeated
	request []byte
	copied  [frameMax]byte // where request lives

	measured time.Time // the first attempt of the request answered last
}

func newDevice() *device {
	d := &device{timing: Timing{}.withDefaults()}
	d.past = d.room[:0]
	return d
}

// patience is how long after the request's last bit an answer is waited for,
// beside its own time on the wire. Three times the longest recent reply time
// leaves room for a device that is slow only under load.
func (d *device) patience() time.Duration {
	most := max(d.timing.ReplyMax, min(d.late*3/2, longestReply))
	if d.high == 0 {
		return most
	}
	return min(max(d.timing.ReplyMin, 3*d.high), most)
}

// quiet is the quiet window in force.
func (d *device) quiet() time.Duration {
	return max(d.timing.Quiet, min(max(2*d.late, 11*d.high), longestQuiet))
}

// latest is the request sent last, or nil.
func (d *device) latest() *asked {
	if len(d.past) == 0 {
		return nil
	}
	return &d.past[len(d.past)-1]
}

// until is when an answer to a request need no longer be feared.
func (d *device) until(a *asked) time.Time {
	window := max(a.window, d.quiet())
	if !a.open && a != d.latest() {
		window = min(2*d.repeat, window)
	}
	return a.last.Add(a.wire + window)
}

// quietUntil is when another request than the pending one may be made.
func (d *device) quietUntil() time.Time {
	if !d.pending {
		return time.Time{}
	}
	return d.until(d.latest())
}

// owedUntil is when every request that is open need no longer be feared.
func (d *device) owedUntil() (at time.Time) {
	for i := range d.past {
		a := &d.past[i]
		if until := d.until(a); a.open && until.After(at) {
			at = until
		}
	}
	return at
}

// expire forgets what needs no longer be feared.
func (d *device) expire(now time.Time) {
	if d.pending && !now.Before(d.quietUntil()) {
		d.pending = false
	}
	quiet := d.quiet()
	d.past = slices.DeleteFunc(d.past, func(a asked) bool { return !now.Before(a.last.Add(a.wire + max(a.window, quiet))) })
	if len(d.past) < cap(d.past) {
		return
	}
	for i := range d.past[:len(d.past)-1] {
		if a := &d.past[i]; !a.open && !d.until(a).After(now) {
			d.past = slices.Delete(d.past, i, i+1)
			return
		}
	}
}

// clear tells from when on a request may be sent: at once, unless an answer to
// an earlier one could be taken for its own. The pending request may be
// repeated for the length of a quiet window; then it is given up.
func (d *device) clear(adu []byte, s shape, now time.Time) time.Time {
	if d.pending {
		if d.repeatable(now) && bytes.Equal(adu, d.request) {
			return now
		}
		return d.quietUntil()
	}
	return d.free(s, now)
}

// repeats tells whether a request of this function and data is the pending one.
func (d *device) repeats(now time.Time, function byte, data ...byte) bool {
	return d.repeatable(now) && d.request[1] == function &&
		bytes.Equal(d.request[2:len(d.request)-2], data)
}

// repeatable tells whether the pending request may be sent again.
func (d *device) repeatable(now time.Time) bool {
	return d.pending && now.Sub(d.latest().first) < d.quiet()
}

// free is clear for a new request, known only by its shape.
func (d *device) free(s shape, now time.Time) time.Time {
	at, full := now, len(d.past) == cap(d.past)
	for i := range d.past {
		a := &d.past[i]
		if until := d.until(a); (a.shape == s || full) && until.After(at) {
			at = until
		}
	}
	return at
}

// begin notes that a request is being sent.
func (d *device) begin(adu []byte, s shape, now time.Time, wire time.Duration) {
	if a := d.latest(); d.pending && a.shape == s {
		a.last = now
		a.window = max(a.window, d.quiet())
		return
	}
	d.past = append(d.past, asked{shape: s, first: now, last: now, wire: wire, window: d.quiet(), open: true})
	d.pending = true
	d.request = d.copied[:copy(d.copied[:], adu)]
}

// answered notes that the pending request was answered, completely at now.
func (d *device) answered(now time.Time) {
	a := d.latest()
	d.pending = false
	d.measured = a.first
	if a.last.Equal(a.first) {
		a.open = false
		d.learn(now.Sub(a.last) - a.wire)
		return
	}
	// One of several attempts was answered. Which, cannot be told, so the
	// request stays open: another answer to it may come.
	d.overdue(a, now)
}

// seen notes an answer to an earlier request, and tells whether there was one
// that it fits.
func (d *device) seen(s shape, now time.Time) bool {
	var fits *asked
	for i := len(d.past) - 1; i >= 0; i-- {
		a := &d.past[i]
		if a.shape != s {
			continue
		}
		if a.open {
			d.overdue(a, now)
			return true
		}
		// Answered already, so that an answer was given twice. If it has just
		// been answered, that may have been by the copy of an older answer,
		// and this is the true one: the request before is held to be repeated.
		second := fits != nil
		if fits = a; second {
			break
		}
	}
	if fits != nil {
		d.repeat = max(d.repeat, now.Sub(fits.last)-fits.wire)
	}
	return fits != nil
}

// overdue learns from an answer to one of several attempts. It is held to be
// the answer to the last one, unless it came sooner than the wire allows.
func (d *device) overdue(a *asked, now time.Time) {
	took := now.Sub(a.last) - a.wire
	if took < 0 {
		took = now.Sub(a.first) - a.wire
	}
	d.late = max(d.late, took)
	d.learn(took)
}

// learn takes in a reply time.
func (d *device) learn(took time.Duration) {
	took = max(took, time.Microsecond)
	if took >= d.high {
		d.high = took
		return
	}
	d.high -= (d.high - took) / 64
}
