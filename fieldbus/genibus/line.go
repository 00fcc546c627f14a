package genibus

import (
	"context"
	"errors"
	"time"

	"penstock/fieldbus/lateness"
)

// Line is the serial line that a master works on, at 9600 8N1. fieldbus.Line is
// one.
type Line interface {
	// Write sends a telegram in one write, so that no byte of it comes late, and
	// returns when its first bit left. It need not wait for the last.
	Write(telegram []byte) (time.Time, error)
	// Read waits for bytes until the deadline and returns those that are there.
	// When none came, its error has a method Timeout() bool that says true, as
	// net.Error has.
	Read(p []byte, deadline time.Time) (int, error)
	// Quiet waits until the wire has been silent for d, and empties the receive
	// buffer. What it heard meanwhile is put into heard.
	Quiet(d time.Duration, heard []byte) (int, error)
}

// Clock tells the time and waits.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// Times of the protocol (GENIbus Protocol Specification, chapter on timing).
const (
	// Gap is the silence between two telegrams.
	Gap = 3 * time.Millisecond
	// ReplyMost is how long after a request a device may begin its reply.
	ReplyMost = 50 * time.Millisecond
	// AfterMessage is how long the bus is left alone after a Data Message.
	AfterMessage = 50 * time.Millisecond
	// NotPolled is how long a device must not have been addressed before it
	// answers connection requests.
	NotPolled = 20 * time.Second
	// RemoteLimit is how long a pump in remote may be left alone before it falls
	// back to local. KeepAlive is how often a master addresses it at least.
	RemoteLimit = 6 * time.Second
	KeepAlive   = 3 * time.Second
)

// Times of this master.
const (
	// patience is how long a reply's first byte is waited for. The specification
	// advises 60 ms; a driver and a USB adapter hold bytes back for a while.
	patience = 90 * time.Millisecond
	// patienceMost bounds what a late device teaches.
	patienceMost = time.Second
	// breath is the gap that ends a telegram. On the wire 1.2 ms would do, but
	// user space sees bytes only when the driver hands them over.
	breath = 30 * time.Millisecond
	// quietLeast is the least time for which a device is not asked anything that a
	// late reply could fit: ten times what the specification allows a device.
	quietLeast = 10 * ReplyMost
	// repeatLeast is how long after a reply its repetition is reckoned with; more
	// where one was seen to come later.
	repeatLeast = 2 * ReplyMost
	// courtesy is how long another master must not have been heard before this
	// one speaks again. A master that is there speaks every 2.5 s.
	courtesy = 10 * time.Second
	// regular is the longest pause of a master that is there; some ask every 5 s.
	regular = 6 * time.Second
	// suspicion is how long this one is silent as long as another master was heard
	// less than masterSure times; one heard less than masterLikely times is noise.
	suspicion    = 3 * time.Second
	masterLikely = 3
	masterSure   = 6
)

// limits are the bounds within which a device's pace is learnt.
var limits = lateness.Limits{
	TimeoutLeast: patience, TimeoutFirst: patience, TimeoutMost: patienceMost,
	QuietLeast: quietLeast, RepeatLeast: repeatLeast,
}

// Wire is the time that n bytes take.
func Wire(n int) time.Duration { return time.Duration(n) * 10 * time.Second / 9600 }

// timeout tells whether a Read ended because nothing came.
func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
