package queue

import (
	"errors"
	"time"

	"penstock/internal/disk"
)

// Queue is an open queue. Its methods may be called from any goroutine; a
// folder may be open in one Queue at a time.
type Queue struct{}

var errSoon = errors.New("queue: not built yet")

// Open opens the queue in dir, making it if there is none, and repairs what a
// power cut left. A full or read-only disk is no error: what is there can be
// read, and Append says what is wrong.
func Open(fsys disk.FS, dir string, o Options) (*Queue, Recovery, error) {
	return nil, Recovery{}, errSoon
}

// Append adds records to a lane, in order, and returns when they are durable.
// Concurrent Appends share one fsync.
//
// In the history lane upTo says that all readings up to then are in this or
// earlier records; after a power cut the gap begins there. A record that says
// nothing about readings (a catalogue) has the zero time. In the urgent lane
// upTo is the time of the event.
//
// After an error none of the payloads is in the queue and they may be appended
// again; where the disk is full or read-only, that works once it no longer is.
func (q *Queue) Append(lane Lane, upTo time.Time, payloads ...[]byte) error { return errSoon }

// Peek reads the first record after sequence number after that has not been
// discarded: after 0 is the oldest. ok is false when there is none (yet). The
// payload is appended to buf[:0] and belongs to the caller.
//
// Peeking in order is fast; stepping back, to send again after a reconnect, is
// not fast but allowed. Records that cannot be read are skipped and reported.
func (q *Queue) Peek(lane Lane, after uint64, buf []byte) (rec Record, ok bool, err error) {
	return Record{}, false, errSoon
}

// Discard says that everything up to and including seq has arrived. The cursor
// is written down now and then, not each time: after a crash some records
// are peeked again.
func (q *Queue) Discard(lane Lane, seq uint64) error { return errSoon }

// Changed returns a channel that is closed when the next record becomes
// durable. Take it before Peek, wait on it after Peek found nothing.
func (q *Queue) Changed() <-chan struct{} { return nil }

// Epoch is the epoch of records appended now.
func (q *Queue) Epoch() [8]byte { return [8]byte{} }

// NewEpoch starts another epoch with the next record, for when the endpoint
// has met other content under one of our names.
func (q *Queue) NewEpoch() error { return errSoon }

// Status tells how the queue is.
func (q *Queue) Status() Status { return Status{} }

// Close leaves the mark of a clean stop. What was appended stays.
func (q *Queue) Close() error { return errSoon }
