package fieldbus

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// heldMost is how long a wait for bytes keeps its processor slot; see readable.
const heldMost = 10 * time.Millisecond

// readable waits until the terminal has bytes, at most for d, and tells whether it
// has, or may have: an error is left to the read that follows.
//
// The wait is a system call of which Go's scheduler is not told, so that it does
// not take the thread's processor slot away and hand it back: at 115200 baud that
// cost two thirds of the processor time of a transaction (decision 0074). The
// thread sleeps in the kernel meanwhile and takes no processor time, but nobody
// else can use its slot: whoever runs a bus gives the program one slot more than it
// has processors. The wait ends early, as if nothing had come, after heldMost or by
// a signal.
func readable(fd int, d time.Duration) bool {
	type pollfd struct {
		fd              int32
		events, revents int16
	}
	p := pollfd{fd: int32(fd), events: unix.POLLIN}
	until := unix.NsecToTimespec(min(d, heldMost).Nanoseconds())
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&until)), 0, 0, 0)
	return errno == 0 && n > 0 || errno != 0 && errno != unix.EINTR
}

// monotonic is the time that the kernel's waits are measured by.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // it cannot fail
	}
	return time.Duration(t.Nano())
}
