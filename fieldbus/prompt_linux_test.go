package fieldbus

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPromptThreadIsGivenBackAsItWas(t *testing.T) {
	runtime.LockOSThread() // the same thread throughout
	defer runtime.UnlockOSThread()
	look := func() (slack int, policy uint32) {
		slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return slack, attr.Policy
	}
	slackBefore, policyBefore := look()
	undo := Prompt()
	slack, policy := look()
	// A real-time thread has no timer slack at all, and reports zero.
	if slack > 1 {
		t.Errorf("the timer slack is %d ns; want none", slack)
	}
	if policy != unix.SCHED_FIFO {
		t.Logf("no real-time priority here (policy %d)", policy)
	}
	undo()
	if slack, policy := look(); slack != slackBefore || policy != policyBefore {
		t.Errorf("afterwards the slack is %d ns and the policy %d; before they were %d and %d", slack, policy, slackBefore, policyBefore)
	}
}
