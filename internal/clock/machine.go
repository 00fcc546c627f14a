package clock

import (
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is a clock on the wall and a stopwatch that nobody can set: what it
// counts is the time since the machine was booted.
type Machine interface {
	Clock
	// Uptime is how long ago the machine was booted, suspension included. It goes
	// on through restarts of the process (CLOCK_BOOTTIME of clock_gettime(2)).
	Uptime() time.Duration
	// Boot names this boot; no other has the same name.
	Boot() string
	// Kept tells whether somebody keeps the clock on the wall right, such as an NTP
	// service of the machine's own: the kernel knows (adjtimex(2)).
	Kept() bool
}

func (system) Uptime() time.Duration {
	var t unix.Timespec
	// It fails for clocks that a kernel does not have; this one is there since 2.6.39.
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("clock: the kernel does not tell how long it has run: " + err.Error())
	}
	return time.Duration(t.Nano())
}

func (system) Boot() string { return bootID() }

func (system) Kept() bool {
	var t unix.Timex // asks, and changes nothing
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR
}

// bootID is the kernel's name for this boot, random(4). Where /proc is not there,
// each start of the process counts as a boot: that is no harm, it only knows less.
var bootID = sync.OnceValue(func() string {
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		if id := strings.TrimSpace(string(b)); id != "" {
			return id
		}
	}
	return rand.Text()
})

// SinceBoot is a clock that shows the machine's uptime, counted from the Unix
// epoch: it never steps, whatever becomes of the clock on the wall. It is for what
// is scheduled, and for stamps that are turned into times once the time is known.
func SinceBoot(m Machine) Clock { return sinceBoot{m} }

type sinceBoot struct{ Machine }

func (s sinceBoot) Now() time.Time { return AtUptime(s.Uptime()) }

// AtUptime is what SinceBoot shows at an uptime.
func AtUptime(d time.Duration) time.Time { return time.Unix(0, int64(d)).UTC() }
