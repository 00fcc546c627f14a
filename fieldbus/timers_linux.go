package fieldbus

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// ExactTimers gives the calling goroutine a thread of its own, and has the
// kernel end that thread's waits on time. For the ordinary thread it may add up
// to 50 µs, to wake the processor less often; between two frames at 115200 baud
// that is one part in a hundred. The goroutine that owns a busy Line calls it
// once, and undo when it is done.
func ExactTimers() (undo func()) {
	runtime.LockOSThread()
	// Where the kernel refuses, waits are as long as before.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func() {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // the default again
		runtime.UnlockOSThread()
	}
}
