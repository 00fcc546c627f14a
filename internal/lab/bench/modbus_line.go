package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
)

// wire is a serial line at true speed with a device at its end, on a
// pseudo-terminal.
//
// A pseudo-terminal delivers at once, so the wire holds a request for the time
// that its bits take, waits the device's turnaround, and releases the answer in
// pieces of at most 16 bytes, as a UART's FIFO would, each when its last bit
// would have arrived. All of these times lie on one absolute clock that starts
// with the request, so that lateness does not add up. The wire measures: when
// requests start, how long it was silent before them, and how late it was
// itself. To be late by microseconds rather than by the 100 that waking a
// sleeping thread can take, it watches the clock for the last stretch of each
// wait. That is its own processor's time, not the master's.
type wire struct {
	far, near  *os.File
	mode       fieldbus.Mode
	turnaround time.Duration // from the last bit of a request to the first of its answer

	// Owned by serve until it has returned.
	starts   []int64 // of requests, in nanoseconds of CLOCK_MONOTONIC
	silences []int64 // before each request but the first
	late     []int64 // of each piece released
}

const (
	watch = int64(300 * time.Microsecond) // how long the clock is watched before a time
	piece = 16                            // bytes that a FIFO hands over at once
)

// errDisturbed: something else came over the wire than one request. On a machine
// that holds the slave up for a second, a master tries again, and the slave finds
// two requests at once.
var errDisturbed = errors.New("the measurement was disturbed")

func newWire(mode fieldbus.Mode, turnaround time.Duration) (*wire, error) {
	far, near, err := pty.Open()
	if err != nil {
		return nil, err
	}
	// The near end stays open here too, so that the line outlives its masters.
	return &wire{far: far, near: near, mode: mode, turnaround: turnaround}, nil
}

func (w *wire) close() error { return errors.Join(w.near.Close(), w.far.Close()) }

// serve answers until stop is closed. Requests are the eight bytes of functions
// 03 and 04.
func (w *wire) serve(stop <-chan struct{}) error {
	defer fieldbus.Prompt()()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := int(w.far.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	var b [256]byte
	var end int64
	for {
		start, n, err := w.request(fd, b[:], end, stop)
		if err != nil || n == 0 {
			return err
		}
		if n != 8 || b[1] != 3 && b[1] != 4 {
			return fmt.Errorf("%w: % x is no request to read registers", errDisturbed, b[:n])
		}
		w.starts = append(w.starts, start)
		if end != 0 {
			w.silences = append(w.silences, start-end)
		}
		reply := replyOf(b[:8], func(register uint16) uint16 { return register })
		first := start + int64(w.mode.Wire(8)+w.turnaround)
		for sent := 0; sent < len(reply); sent = min(sent+piece, len(reply)) {
			upTo := min(sent+piece, len(reply))
			due := first + int64(w.mode.Wire(upTo))
			waitUntil(due)
			end = monotonic()
			w.late = append(w.late, end-due)
			if _, err := unix.Write(fd, reply[sent:upTo]); err != nil {
				return fmt.Errorf("answering: %w", err)
			}
		}
	}
}

// request waits for a request, and returns when it began. After an answer it
// sleeps until shortly before the next request may come, and then watches for a
// while.
func (w *wire) request(fd int, b []byte, end int64, stop <-chan struct{}) (start int64, n int, err error) {
	early := end + int64(modbus.Silence(w.mode)) - watch
	giveUp := early + 10*watch
	for n < 8 {
		k, err := unix.Read(fd, b[n:])
		now := monotonic()
		switch {
		case k > 0:
			if n == 0 {
				start = now
			}
			n += k
			continue
		case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return 0, 0, fmt.Errorf("waiting for a request: %w", err)
		}
		select {
		case <-stop:
			return 0, 0, nil
		default:
		}
		wait := int64(0)
		if now < early {
			wait = early - now
		} else if now > giveUp {
			wait = int64(20 * time.Millisecond)
		}
		if wait > 0 {
			ts := unix.NsecToTimespec(wait)
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return 0, 0, err
			}
		}
	}
	return start, n, nil
}

// periods are the times from request to request.
func (w *wire) periods() []int64 {
	out := make([]int64, 0, len(w.starts))
	for i := 1; i < len(w.starts); i++ {
		out = append(out, w.starts[i]-w.starts[i-1])
	}
	return out
}

func median(v []int64) int64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the kernel has this clock
	}
	return ts.Nano()
}

// waitUntil sleeps most of the way, and watches the clock for the rest.
func waitUntil(t int64) {
	if now := monotonic(); now < t-watch {
		ts := unix.NsecToTimespec(t - watch)
		// Woken early, it watches longer.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
	}
	for monotonic() < t {
	}
}

// replyOf is the answer to a read of registers.
func replyOf(request []byte, value func(register uint16) uint16) []byte {
	start, count := binary.BigEndian.Uint16(request[2:]), binary.BigEndian.Uint16(request[4:])
	b := make([]byte, 0, 5+2*int(count))
	b = append(b, request[0], request[1], byte(2*count))
	for i := range count {
		b = binary.BigEndian.AppendUint16(b, value(start+i))
	}
	return seal(b)
}

// seal appends the checksum, computed bit by bit as the serial line guide gives
// it, so that the master's own table is not checked against itself.
func seal(b []byte) []byte {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			low := c & 1
			if c >>= 1; low != 0 {
				c ^= 0xA001
			}
		}
	}
	return binary.LittleEndian.AppendUint16(b, c)
}
