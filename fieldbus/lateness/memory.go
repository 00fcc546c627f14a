package lateness

import (
	"bytes"
	"time"
)

// Shape is what an answer looks like before its values are known. Two requests
// of one shape cannot tell their answers apart.
type Shape uint64

// Block names what a request reads or writes. Two requests for the same block
// return the same values, sampled at different times.
type Block uint64

// Limits are the bounds within which a device's pace is learnt.
type Limits struct {
	TimeoutLeast time.Duration // a device is given this long, however fast it has been
	TimeoutFirst time.Duration // while the device's pace is unknown
	TimeoutMost  time.Duration
	QuietLeast   time.Duration
	QuietMost    time.Duration
	RepeatLeast  time.Duration // an answer may be repeated within this time, by any device
	Pause        time.Duration // the device needs this long between its answer and the next request
}

// Defaults of Limits, and how fast what was learnt fades.
const (
	QuietMost   = 15 * time.Second
	RepeatLeast = 250 * time.Millisecond

	halfLife = 10 * time.Minute // of lateness, repetition and the learnt pause
)

// Learned is what is known of a device's pace. It may be stored and handed to
// Restore after a restart. The zero value stands for a device that is not known:
// it is then held to be late until the assumption has faded.
type Learned struct {
	Reply     time.Duration `json:"reply_ns,omitempty"`     // smoothed reply time; 0: it has never answered
	Deviation time.Duration `json:"deviation_ns,omitempty"` // of the reply time, smoothed
	Late      time.Duration `json:"late_ns,omitempty"`      // the longest reply time of late
	Repeat    time.Duration `json:"repeat_ns,omitempty"`    // the longest time of late after which an answer came again
	Pause     time.Duration `json:"pause_ns,omitempty"`     // that the device was found to need after an answer
}

// attempts is how many attempts of one request are remembered by their time.
const attempts = 8

// Asked is a request that was sent, once or several times unchanged.
type Asked struct {
	Shape   Shape
	Block   Block
	Request []byte // as it was sent

	sent [attempts]time.Time // the attempts' first bits; the oldest are dropped
	n    int                 // how many of sent are used
	last time.Time
	wire time.Duration // request and answer on the wire: no attempt can be answered sooner
	done time.Time     // the time at which it was answered; zero: it was not
	open bool          // fewer answers came than attempts were made
	// the quiet window when it was sent: a device that is fast again shortens none
	window time.Duration
	soon   bool // the first attempt followed the device's last answer closely
}

// remembered is how many requests are kept; the oldest closed one goes first.
const remembered = 64

// Memory is what a master remembers of one device. It belongs to the goroutine
// that owns the line.
type Memory struct {
	limits  Limits
	learned Learned
	at      time.Time // the time at which Late and Repeat were true

	past    []*Asked // the latest last
	free    []*Asked
	pending bool // the latest request is unanswered and may be repeated
	spoken  time.Time

	answered time.Time // the time of the device's last answer
	hasty    int       // requests that stayed unanswered because they came too soon, it seems
}

// New returns the memory of a device that is not known yet.
func New(limits Limits) *Memory {
	m := &Memory{learned: Learned{Late: limits.QuietLeast / 2}} // until the device is known
	m.SetLimits(limits)
	const usual = 16 // bytes of a request
	room, requests := make([]Asked, remembered), make([]byte, remembered*usual)
	for i := range room {
		room[i].Request = requests[i*usual : i*usual : (i+1)*usual]
		m.free = append(m.free, &room[i])
	}
	m.past = make([]*Asked, 0, remembered)
	return m
}

// SetLimits changes the bounds. What was learnt stays.
func (m *Memory) SetLimits(limits Limits) {
	if limits.QuietMost == 0 {
		limits.QuietMost = QuietMost
	}
	if limits.RepeatLeast == 0 {
		limits.RepeatLeast = RepeatLeast
	}
	m.limits = limits
}

// Learned returns what is known of the device's pace.
func (m *Memory) Learned() Learned { return m.learned }

// Restore takes over what was learnt before a restart. Values that no device can
// have are bounded.
func (m *Memory) Restore(l Learned) {
	bound := func(d, most time.Duration) time.Duration { return min(max(d, 0), most) }
	l.Reply = bound(l.Reply, m.limits.TimeoutMost)
	l.Deviation = bound(l.Deviation, m.limits.TimeoutMost)
	l.Late = bound(l.Late, m.limits.QuietMost)
	l.Repeat = bound(l.Repeat, m.limits.QuietMost)
	l.Pause = bound(l.Pause, pauseMost)
	m.learned, m.at = l, time.Time{}
}

// fade lets lateness and repetition decay up to now.
func (m *Memory) fade(now time.Time) {
	if m.at.IsZero() {
		m.at = now
		return
	}
	if now.Sub(m.at) > 100*halfLife { // nothing is left of it
		m.learned.Late, m.learned.Repeat, m.learned.Pause, m.at = 0, 0, 0, now
	}
	for now.Sub(m.at) >= halfLife/16 {
		for _, d := range []*time.Duration{&m.learned.Late, &m.learned.Repeat, &m.learned.Pause} {
			*d -= *d * 424 / 10000 // 2^(-1/16) is 0.9576
		}
		m.at = m.at.Add(halfLife / 16)
	}
}

// Timeout is how long an answer is waited for, beside its own time on the wire.
func (m *Memory) Timeout() time.Duration {
	if m.learned.Reply == 0 {
		return min(m.limits.TimeoutFirst<<min(m.silentAttempts(), 4), max(m.limits.TimeoutFirst, m.limits.TimeoutMost))
	}
	return min(max(m.learned.Reply+4*m.learned.Deviation, m.limits.TimeoutLeast), m.limits.TimeoutMost)
}

// silentAttempts is how often the pending request was sent before: a device that
// has never answered may be slow, so each further attempt waits twice as long.
func (m *Memory) silentAttempts() int {
	if !m.pending {
		return 0
	}
	return max(0, m.latest().n-1)
}

// ReplyTime is how long the device takes to answer, as a rule; 0: it never did.
func (m *Memory) ReplyTime() time.Duration { return m.learned.Reply }

// Spoken is the time at which the device was addressed last.
func (m *Memory) Spoken() time.Time { return m.spoken }

// Quiet is the quiet window: for this long after an unanswered request no other
// request of its shape is made, and the request itself may be repeated.
func (m *Memory) Quiet() time.Duration {
	return m.bounded(max(2*m.learned.Late, usualMost*m.learned.Reply))
}

// usualMost is how many times its usual reply time a device may be late by,
// although it never was.
const usualMost = 11

func (m *Memory) bounded(window time.Duration) time.Duration {
	return min(max(m.limits.QuietLeast, window), max(m.limits.QuietLeast, m.limits.QuietMost))
}

// guard is for how long the shape of an open request is avoided where the caller
// has another.
func (m *Memory) guard() time.Duration {
	return m.bounded(max(10*m.learned.Late, usualMost*m.learned.Reply))
}

// repetition is for how long an answer may come again.
func (m *Memory) repetition() time.Duration {
	return min(max(2*m.learned.Repeat, m.limits.RepeatLeast), m.Quiet())
}

func (m *Memory) latest() *Asked {
	if len(m.past) == 0 {
		return nil
	}
	return m.past[len(m.past)-1]
}

// until returns the time until which another request of the shape of a, for
// block, could be given an answer to a: with certainty none that is usual (hard),
// one from a device that becomes later or repeats itself (soft), or that repeats
// itself some transactions later (long).
func (m *Memory) until(a *Asked, block Block, care care) time.Time {
	switch {
	case a.open && care > firm:
		return a.last.Add(a.wire + max(a.window, m.guard()))
	case a.open, a == m.latest():
		return a.last.Add(a.wire + max(a.window, m.Quiet()))
	case care == long:
		return a.done.Add(max(m.repetition(), avoidLeast))
	case a.Block != block || care == soft:
		return a.done.Add(m.repetition())
	}
	// An older sample of the same values, from a device that was seen to repeat itself.
	window := min(2*m.learned.Repeat, m.Quiet())
	if care >= own {
		window = min(window, sameMost)
	}
	if care == firm {
		window = max(window, m.limits.RepeatLeast)
	}
	return a.done.Add(window)
}

// care is how careful a choice of shapes is.
type care int

const (
	hard care = iota // what is not waited for is an error
	own              // the same for a block that shares its shapes with no other
	firm             // and with many shapes, the repetition that any device may make as well
	soft
	long
)

// sameMost bounds for how long a block is not asked for because an older answer for
// the same block may come again. A block that is read regularly has other shapes,
// and each is used again as late as may be: a device that repeats itself must not be
// silenced by that.
const sameMost = time.Second

// avoidLeast is for how long the shape of a request that was answered is avoided where
// there is another: a device may repeat an answer some transactions later.
const avoidLeast = 5 * time.Second

// Owed returns the time until which the device may answer an open request. Who
// opens the line before then and knows nothing of it may take that answer for
// its own.
func (m *Memory) Owed() (at time.Time) {
	for _, a := range m.past {
		if until := a.last.Add(a.wire + max(a.window, m.Quiet())); a.open && until.After(at) {
			at = until
		}
	}
	return at
}

// Expire lets what was learnt fade, gives up a pending request whose quiet window
// is over, and forgets requests that can no longer be answered.
func (m *Memory) Expire(now time.Time) {
	m.fade(now)
	if m.pending && !m.repeatable(now) {
		m.pending = false
	}
	keep := 2 * m.guard()
	for i := 0; i < len(m.past); {
		if a := m.past[i]; a.last.Add(a.wire + max(a.window, keep)).After(now) {
			i++
		} else {
			m.forget(i)
		}
	}
}

func (m *Memory) forget(i int) {
	a := m.past[i]
	m.past = append(m.past[:i], m.past[i+1:]...)
	m.free = append(m.free, a)
}

// Pending returns the request that was sent last and is not answered, as long as
// it may be repeated; otherwise nil.
func (m *Memory) Pending() []byte {
	if !m.pending {
		return nil
	}
	return m.latest().Request
}

func (m *Memory) repeatable(now time.Time) bool {
	a := m.latest()
	return now.Before(a.sent[0].Add(a.wire + m.Quiet()))
}

// LastIs tells whether the request that was made last has this shape, and was
// answered.
func (m *Memory) LastIs(shape Shape) bool {
	l := m.latest()
	return l != nil && l.Shape == shape && !l.open
}

// Abandon gives up the pending request: another one is made next.
func (m *Memory) Abandon() { m.pending = false }

// Clear returns the time from which on a request may be sent: at once, or when
// no earlier request of its shape can be answered any more.
func (m *Memory) Clear(shape Shape, block Block, now time.Time) time.Time {
	return m.clear(shape, block, now, hard)
}

func (m *Memory) clear(shape Shape, block Block, now time.Time, care care) time.Time {
	at := m.rested(now)
	for i, a := range m.past {
		// Without room for one more, the request that would be forgotten has to expire first.
		full := len(m.free) == 0 && i == m.oldestClosed() && a.open
		if a.Shape != shape && !full {
			continue
		}
		if until := m.until(a, block, care); until.After(at) {
			at = until
		}
	}
	return at
}

// rested returns the time from which on the device may be addressed: a pause
// after its last answer. It is not before now.
func (m *Memory) rested(now time.Time) time.Time {
	pause := m.Pause()
	if pause == 0 || m.answered.IsZero() {
		return now
	}
	if at := m.answered.Add(pause); at.After(now) {
		return at
	}
	return now
}

// Pause is how long the device is left alone after an answer.
func (m *Memory) Pause() time.Duration { return max(m.limits.Pause, m.learned.Pause) }

// Avoid returns the time from which on the shape needs not be avoided where there
// is another: it is later than Clear, and covers a device that becomes several
// times later than it was.
func (m *Memory) Avoid(shape Shape, block Block, now time.Time) time.Time {
	return m.clear(shape, block, now, soft)
}

// Choose returns which of some shapes to use next for a block, and the time from
// which on it may be: the first that needs not be avoided for longer than it has to
// wait, else the one that may be used soonest, and of several such the one that is the
// safest. Other blocks may use these shapes as well. The shape of the request that was
// made last is never chosen where there is another.
func (m *Memory) Choose(shapes []Shape, block Block, now time.Time) (best int, at time.Time) {
	var avoid time.Time
	for i, s := range shapes {
		if m.last(s) && len(shapes) > 1 {
			continue
		}
		from, guarded := m.Clear(s, block, now), m.Avoid(s, block, now)
		if !guarded.After(from) {
			return i, from
		}
		if at.IsZero() || from.Before(at) || from.Equal(at) && guarded.Before(avoid) {
			best, at, avoid = i, from, guarded
		}
	}
	return best, at
}

// ChooseOwn is Choose for shapes that no other block uses. What can be mistaken then
// is an older answer for the same block only. So the block does not wait for long,
// and each shape is used again as late as may be.
func (m *Memory) ChooseOwn(shapes []Shape, block Block, now time.Time) (best int, at time.Time) {
	base, soonest := own, m.rested(now)
	if len(shapes) > 4 {
		base = firm
	}
	var bestCare care
	var bestUntil time.Time
	for i, s := range shapes {
		if m.last(s) && len(shapes) > 1 {
			continue
		}
		from, level, until := m.clear(s, block, now, base), base, time.Time{}
		for _, c := range [...]care{soft, long} {
			if until = m.clear(s, block, now, c); until.After(from) {
				break
			}
			level = c
		}
		if level == long && !from.After(soonest) {
			return i, from
		}
		if at.IsZero() || from.Before(at) ||
			from.Equal(at) && (level > bestCare || level == bestCare && until.Before(bestUntil)) {
			best, at, bestCare, bestUntil = i, from, level, until
		}
	}
	return best, at
}

// last tells whether the request that was made last has this shape.
func (m *Memory) last(s Shape) bool {
	l := m.latest()
	return l != nil && l.Shape == s
}

// Begin notes that a request is being sent. wire is the time that the request and
// its answer take on the wire.
func (m *Memory) Begin(request []byte, shape Shape, block Block, now time.Time, wire time.Duration) {
	m.spoken = now
	if m.pending && bytes.Equal(m.latest().Request, request) {
		a := m.latest()
		if a.n == attempts {
			copy(a.sent[1:], a.sent[2:]) // the first stays
			a.n--
		}
		a.sent[a.n], a.last = now, now
		a.window = max(a.window, m.Quiet())
		a.n++
		return
	}
	if len(m.free) == 0 {
		m.forget(m.oldestClosed())
	}
	a := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	*a = Asked{Shape: shape, Block: block, Request: append(a.Request[:0], request...), last: now, wire: wire, window: m.Quiet(), n: 1, open: true}
	a.sent[0] = now
	a.soon = !m.answered.IsZero() && now.Sub(m.answered) < pauseMost
	m.past = append(m.past, a)
	m.pending = true
}

// oldestClosed is the request to forget where there is no room: the oldest that
// was answered, else the oldest.
func (m *Memory) oldestClosed() int {
	for i, a := range m.past {
		if !a.open {
			return i
		}
	}
	return 0
}

// Answered notes that the pending request was answered, completely at now, and
// returns the earliest time at which the answer can have been sampled.
func (m *Memory) Answered(now time.Time) time.Time {
	m.fade(now)
	a := m.latest()
	m.pending, a.done, m.answered = false, now, now
	m.pace(a)
	if a.n == 1 {
		a.open = false
		m.learn(now.Sub(a.last) - a.wire)
		return a.sent[0]
	}
	// Which of several attempts was answered cannot be told: the request stays
	// open, for another answer to it may come, and the longest time counts.
	sampled := a.last
	for _, t := range a.sent[:a.n] {
		if t.Add(a.wire + m.Quiet()).After(now) {
			sampled = t
			break
		}
	}
	m.overdue(now.Sub(sampled) - a.wire)
	return sampled
}

// Refused is Answered for an answer that refuses the request and holds no value.
// Nothing that could be taken for a value is owed then, so that the request's shape
// is free at once. That is not sure where another attempt or request is open: the
// refusal may be the answer to that one.
func (m *Memory) Refused(now time.Time) {
	m.Answered(now)
	for _, a := range m.past {
		if a.open {
			return
		}
	}
	m.forget(len(m.past) - 1)
}

// The pause that a device is found to need: the first guess, and the most.
const (
	pauseFirst = 20 * time.Millisecond
	pauseMost  = 300 * time.Millisecond
)

// pace learns the pause that a device needs after an answer: a request that came
// soon after one stayed unanswered, and the same one was answered later, three
// times more often than not.
func (m *Memory) pace(a *Asked) {
	switch {
	case !a.soon:
	case a.n == 1:
		m.hasty = max(0, m.hasty-1)
	default:
		m.hasty++
	}
	if m.hasty < 3 {
		return
	}
	m.hasty = 0
	m.learned.Pause = min(max(2*m.learned.Pause, m.limits.Pause+pauseFirst), pauseMost)
}

// Seen notes an answer that nobody waits for, and tells whether it is one to an
// earlier request: whether fits is true of one.
func (m *Memory) Seen(fits func(*Asked) bool, now time.Time) bool {
	m.fade(now)
	var closed *Asked
	for i := len(m.past) - 1; i >= 0; i-- {
		a := m.past[i]
		if !fits(a) {
			continue
		}
		if a.open {
			// The answer to the last attempt, unless it came sooner than the wire allows.
			took := now.Sub(a.last) - a.wire
			if took < 0 {
				took = now.Sub(a.sent[0]) - a.wire
			}
			if a.n == 1 && a.done.IsZero() {
				a.open, a.done = false, now
				if m.pending && a == m.latest() {
					m.pending = false
				}
			}
			m.overdue(took)
			return true
		}
		// Answered already, so an answer was given twice. If it has just been
		// answered, that may have been by the copy of an older answer, and this is
		// the true one: the request before is then the one that was repeated.
		second := closed != nil
		if closed = a; second {
			break
		}
	}
	if closed != nil {
		m.learned.Repeat = m.raise(m.learned.Repeat, now.Sub(closed.done))
	}
	return closed != nil
}

// overdue learns from an answer that came after its time-out.
func (m *Memory) overdue(took time.Duration) {
	took = max(took, 0)
	m.learned.Late = m.raise(m.learned.Late, took)
	m.learn(min(took, 2*m.Timeout()))
}

// raise takes in a higher sighting, which at most doubles what is known.
func (m *Memory) raise(known, seen time.Duration) time.Duration {
	return max(known, min(seen, 2*max(known, m.limits.QuietLeast/2)))
}

// learn takes in a reply time, as RFC 6298 does.
func (m *Memory) learn(took time.Duration) {
	l := &m.learned
	took = max(took, time.Microsecond)
	if l.Reply == 0 {
		l.Reply, l.Deviation = took, took/2
		return
	}
	l.Deviation += (max(took-l.Reply, l.Reply-took) - l.Deviation) / 4
	l.Reply = max(l.Reply+(took-l.Reply)/8, time.Microsecond)
}
