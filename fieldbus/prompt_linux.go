package fieldbus

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Prompt gives the calling goroutine a thread of its own, and has the kernel
// wake that thread on time: with a real-time priority, the lowest, where the
// process may have one (root, CAP_SYS_NICE or RLIMIT_RTPRIO), and without the
// 50 µs that a timer may otherwise be late to spare the processor. At 115200
// baud a tenth of a millisecond is one part in a hundred of a transaction.
//
// The goroutine that owns a busy Line calls it once, and undo when it is done.
// It must spend its time waiting: while it computes, ordinary threads do not run
// on its processor.
func Prompt() (undo func()) {
	runtime.LockOSThread()
	// Where the kernel refuses, the thread is as it was, and waits are longer.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, // for this thread alone
	}, 0)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func() {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // the default again
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
		runtime.UnlockOSThread()
	}
}
