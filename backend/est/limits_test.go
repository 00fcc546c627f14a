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
