package fieldbus

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestExactTimersAreTakenAndGivenBack(t *testing.T) {
	slack := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := slack()
	undo := ExactTimers()
	if got := slack(); got != 1 {
		t.Errorf("the timer slack is %d ns; want 1", got)
	}
	undo()
	if got := slack(); got < before && got != 50_000 {
		t.Errorf("afterwards the timer slack is %d ns; before it was %d", got, before)
	}
}
