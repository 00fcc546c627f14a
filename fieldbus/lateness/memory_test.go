package lateness

import (
	"testing"
	"time"
)

var limits = Limits{
	TimeoutLeast: 50 * time.Millisecond, TimeoutFirst: 250 * time.Millisecond, TimeoutMost: 5 * time.Second,
	QuietLeast: time.Second,
}

const wire = 20 * time.Millisecond

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ask sends one request and, if took is not negative, answers it.
func ask(m *Memory, now time.Time, s Shape, took time.Duration) time.Time {
	m.Expire(now)
	m.Begin([]byte{byte(s)}, s, Block(s), now, wire)
	if took < 0 {
		return now
	}
	m.Answered(now.Add(wire + took))
	return now.Add(wire + took)
}

func TestAShapeThatIsOwedAnAnswerIsHeldBackAndOthersAreNot(t *testing.T) {
	m := New(limits)
	now := ask(m, epoch, 1, -1).Add(300 * time.Millisecond)
	m.Abandon()
	if at := m.Clear(1, 7, now); at.Sub(epoch) < time.Second {
		t.Errorf("the shape may be used again after %v", at.Sub(epoch))
	}
	if at := m.Clear(2, 7, now); at.After(now) {
		t.Errorf("another shape has to wait until %v", at.Sub(epoch))
	}
	i, at := m.Choose([]Shape{1, 2, 3}, 7, now)
	if i != 1 || at.After(now) {
		t.Errorf("chose %d at %v", i, at.Sub(epoch))
	}
}

// A device that becomes ten times later than it ever was is not fooled by, as long
// as there are other shapes.
func TestAnOpenShapeIsAvoidedForLongerThanItIsHeldBack(t *testing.T) {
	m := New(limits)
	m.Restore(Learned{Reply: 10 * time.Millisecond, Late: 1400 * time.Millisecond})
	now := ask(m, epoch, 1, -1)
	m.Abandon()
	for _, s := range []Shape{2, 3, 2, 3} {
		now = ask(m, now.Add(3*time.Second), s, 10*time.Millisecond)
	}
	if got := now.Sub(epoch); got < 12*time.Second || got > 14*time.Second {
		t.Fatalf("the test is about 12 to 14 s, not %v", got)
	}
	m.Expire(now)
	if i, _ := m.Choose([]Shape{1, 2, 3}, 7, now.Add(time.Second)); i == 0 {
		t.Error("a shape was chosen that a device may still answer that is ten times as late as before")
	}
}

func TestTheShapeOfTheLastRequestIsNeverChosenNext(t *testing.T) {
	m := New(limits)
	now := epoch
	last := Shape(0)
	for n := range 1000 {
		took := 10 * time.Millisecond
		if n%3 == 0 {
			took = -1
		}
		shapes := []Shape{1, 2, 3}
		i, at := m.Choose(shapes, 9, now)
		if shapes[i] == last {
			t.Fatalf("request %d has the shape of the one before", n)
		}
		last = shapes[i]
		now = ask(m, at, last, took).Add(100 * time.Millisecond)
		m.Abandon()
	}
}

func TestOneLateAnswerIsForgottenInAFewTransactions(t *testing.T) {
	m := New(limits)
	now := epoch
	for range 20 {
		now = ask(m, now, 1, 5*time.Millisecond).Add(time.Second)
	}
	ask(m, now, 1, -1)
	m.Abandon()
	m.Seen(func(a *Asked) bool { return a.Shape == 1 && a.open }, now.Add(500*time.Millisecond))
	if got := m.Quiet(); got > 3*500*time.Millisecond {
		t.Errorf("the quiet window is %v after one answer that was 500 ms late", got)
	}
	for range 20 {
		now = ask(m, now.Add(time.Second), 2, 5*time.Millisecond)
	}
	if got := m.Timeout(); got > 100*time.Millisecond {
		t.Errorf("the time-out is %v long after", got)
	}
	m.Expire(now.Add(2 * time.Hour))
	if got := m.Learned().Late; got > 10*time.Millisecond {
		t.Errorf("a lateness of %v is left after two hours", got)
	}
}

func TestASlowDeviceIsGivenItsTime(t *testing.T) {
	m := New(limits)
	now := epoch
	for range 10 {
		now = ask(m, now, 1, 900*time.Millisecond).Add(time.Second)
	}
	if got := m.Timeout(); got < 900*time.Millisecond || got > 2*time.Second {
		t.Errorf("a device that takes 900 ms is given %v", got)
	}
}

func TestSightingsRaiseLatenessStepByStep(t *testing.T) {
	m := New(limits)
	ask(m, epoch, 1, -1)
	before := m.Learned().Late
	m.Seen(func(*Asked) bool { return true }, epoch.Add(14*time.Second))
	if got := m.Learned().Late; got > 2*max(before, limits.QuietLeast/2) {
		t.Errorf("one frame that may have been another's raised the lateness from %v to %v", before, got)
	}
}

func TestAValueIsAsOldAsTheEarliestAttemptThatCanHaveBeenAnswered(t *testing.T) {
	m := New(limits)
	m.Begin([]byte{1}, 1, 1, epoch, wire)
	m.Begin([]byte{1}, 1, 1, epoch.Add(400*time.Millisecond), wire)
	if at := m.Answered(epoch.Add(500 * time.Millisecond)); !at.Equal(epoch) {
		t.Errorf("sampled at %v; the first attempt may have been answered", at.Sub(epoch))
	}
	if m.Owed().Before(epoch.Add(time.Second)) {
		t.Error("one of two attempts is not owed an answer any more")
	}
}

func TestAPauseThatADeviceNeedsIsLearnt(t *testing.T) {
	for _, needs := range []time.Duration{15 * time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond} {
		m := New(limits)
		now, last, failed := epoch, time.Time{}, 0
		for n := range 200 {
			s := Shape(n%5 + 1)
			_, now = m.Choose([]Shape{s}, Block(s), now)
			took := 5 * time.Millisecond
			if !last.IsZero() && now.Sub(last) < needs {
				failed++
				now = ask(m, now, s, -1).Add(250 * time.Millisecond)
			}
			now = ask(m, now, s, took)
			last = now
			now = now.Add(2 * time.Millisecond)
		}
		if p := m.Pause(); p < needs || failed > 30 {
			t.Errorf("a device that needs %v: learnt %v, %d requests came too soon", needs, p, failed)
		}
	}
	m := New(limits)
	for now, n := epoch, 0; n < 1000; n++ { // every fifth request is lost: that is no pause
		s := Shape(n%5 + 1)
		if n%5 == 0 {
			now = ask(m, now, s, -1).Add(250 * time.Millisecond)
		}
		now = ask(m, now, s, 5*time.Millisecond).Add(2 * time.Millisecond)
	}
	if p := m.Pause(); p != 0 {
		t.Errorf("losses taught a pause of %v", p)
	}
}

func TestWhatWasRestoredIsBounded(t *testing.T) {
	m := New(limits)
	m.Restore(Learned{Reply: -1, Deviation: time.Hour, Late: 1 << 62, Repeat: 1 << 62, Pause: 1 << 62})
	if m.Quiet() > QuietMost || m.Timeout() > limits.TimeoutMost || m.Pause() > pauseMost {
		t.Errorf("quiet %v, time-out %v, pause %v", m.Quiet(), m.Timeout(), m.Pause())
	}
}

func TestARefusalOwesNoValue(t *testing.T) {
	m := New(limits)
	m.Begin([]byte{1}, 1, 1, epoch, wire)
	now := epoch.Add(wire + 5*time.Millisecond)
	m.Refused(now)
	if at := m.Clear(1, 2, now); at.After(now) {
		t.Errorf("after a refusal its shape has to wait %v", at.Sub(now))
	}
	// It may have been the answer to an earlier request, and this one's is to come.
	m = New(limits)
	m.Begin([]byte{1}, 1, 1, epoch, wire)
	m.Abandon()
	m.Begin([]byte{2}, 2, 2, now, wire)
	m.Refused(now.Add(wire))
	if at := m.Clear(2, 3, now.Add(wire)); at.Sub(now) < time.Second {
		t.Errorf("the shape of a request that may still be answered is free after %v", at.Sub(now))
	}
}

// The latest request has been answered, an older one of the first shape has not: the
// first shape has to wait, and the second does not.
func TestAShapeThatHasToWaitIsNotChosenBeforeOneThatHasNot(t *testing.T) {
	m := New(limits)
	m.Restore(Learned{Reply: 5 * time.Millisecond, Late: QuietMost})
	now := ask(m, epoch, 1, -1).Add(100 * time.Millisecond)
	m.Abandon()
	now = ask(m, now, 3, 5*time.Millisecond).Add(time.Second)
	if i, at := m.ChooseOwn([]Shape{1, 2, 3}, 1, now); i != 1 || at.After(now) {
		t.Errorf("chose %d in %v", i, at.Sub(now))
	}
}
