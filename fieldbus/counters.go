package fieldbus

import (
	"sync/atomic"
	"time"
)

// Counters count what happened on a line since the program started, over every
// re-opening. Any goroutine may read them.
type Counters struct {
	Requests   atomic.Uint64 // frames sent
	Answers    atomic.Uint64 // requests that were answered, exceptions included
	Exceptions atomic.Uint64 // answers that refused the request
	Timeouts   atomic.Uint64 // requests that nothing answered
	Corrupt    atomic.Uint64 // answers with a bad checksum
	Cut        atomic.Uint64 // answers that stopped before their end
	Foreign    atomic.Uint64 // well-formed frames of another device or master
	Stale      atomic.Uint64 // well-formed answers to an earlier request: late or repeated
	Echoes     atomic.Uint64 // our own requests, heard back
	Noise      atomic.Uint64 // bytes that belong to no frame
	Babble     atomic.Uint64 // times the line did not fall silent
	Opened     atomic.Uint64 // times the port was opened
	Vanished   atomic.Uint64 // times the port failed while open
	Sent       atomic.Uint64 // bytes
	Received   atomic.Uint64 // bytes

	busy atomic.Int64 // nanoseconds
}

// AddBusy accounts for a time in which the line was taken: from a request's
// first bit to the end of its answer or its time-out, and the silence before it.
func (c *Counters) AddBusy(d time.Duration) { c.busy.Add(int64(d)) }

// Busy is the whole time that the line was taken. The occupancy of a bus is the
// growth of Busy over the time in which it grew.
func (c *Counters) Busy() time.Duration { return time.Duration(c.busy.Load()) }
