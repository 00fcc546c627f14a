package est

import (
	"fmt"
	"testing"
	"time"
)

// TestARushCostsNobodyItsOwnBudget: who is turned away because all gateways together
// ask for too much has used up nothing of what it may ask itself.
func TestARushCostsNobodyItsOwnBudget(t *testing.T) {
	l, now := newLimits(0), time.Unix(1_800_000_000, 0)
	for i := range altogetherBurst {
		if wait := l.wait(fmt.Sprintf("PSK-%04d", i), now); wait != 0 {
			t.Fatalf("gateway %d is kept waiting for %v", i, wait)
		}
	}
	for range 3 * perGatewayBurst {
		if wait := l.wait("PSK-LATE", now); wait <= 0 || wait > time.Second {
			t.Fatalf("in the rush it is to wait for %v", wait)
		}
	}
	if wait := l.wait("PSK-LATE", now.Add(time.Second)); wait != 0 {
		t.Errorf("after the rush it is kept waiting for %v", wait)
	}
}

// A gateway whose every certificate is refused elsewhere asks for another each half
// hour: the registry grows by six a day.
func TestAttackEnrolmentsThatHelpNobodyStayRare(t *testing.T) {
	l, now := newLimits(0), time.Unix(1_800_000_000, 0)
	granted := 0
	for range 10 * 48 {
		if l.wait("PSK-0001", now) == 0 {
			granted++
		}
		now = now.Add(30 * time.Minute)
	}
	if most := perGatewayBurst + 10*6; granted > most || granted < 10*6-1 {
		t.Errorf("%d certificates in ten days; want %d at most", granted, most)
	}
}

// Questions have their own budget, and come to an end too.
func TestAttackQuestionsOfOneGatewayAreLimited(t *testing.T) {
	s, now := New(Config{}), time.Unix(1_800_000_000, 0)
	answered := 0
	for range 1000 {
		if s.questions.wait("PSK-0001", now) == 0 {
			answered++
		}
	}
	if answered != perQuestionBurst {
		t.Errorf("%d questions are answered at once; want %d", answered, perQuestionBurst)
	}
	if wait := s.limits.wait("PSK-0001", now); wait != 0 {
		t.Errorf("the questions used up the enrolments: %v", wait)
	}
	if wait := s.questions.wait("PSK-0002", now); wait != 0 {
		t.Errorf("another gateway is kept waiting for %v", wait)
	}
}
