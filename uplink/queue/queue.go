package queue

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// Lane is one of the two logs of a queue. The numbers are those of the wire
// format and of the bytes on disk.
type Lane uint8

const (
	// Urgent holds events, command results and gap records. It is sent ahead
	// of History and, when the queue is full, kept longer.
	Urgent Lane = 1
	// History holds catalogues and blocks of readings.
	History Lane = 2
)

func (l Lane) String() string {
	switch l {
	case Urgent:
		return "urgent"
	case History:
		return "history"
	}
	return fmt.Sprintf("lane %d", uint8(l))
}

// Record is one record as it was appended. (Epoch, Lane, Seq) is its name, for
// ever: no other content ever gets the same.
type Record struct {
	Epoch   [8]byte
	Lane    Lane
	Seq     uint64
	UpTo    time.Time // zero when it was appended without one
	Payload []byte
}

var (
	// ErrTooLarge: a payload is longer than Options.MaxRecord. Nothing of that
	// Append was written, and no retry will help.
	ErrTooLarge = errors.New("payload is larger than a record may be")
	// ErrClosed: the queue has been closed.
	ErrClosed = errors.New("queue is closed")
)

// Options says how a queue is kept. The zero value of a field takes the default.
type Options struct {
	// Limit bounds the bytes on disk, everything included; 64 MB by default.
	Limit int64
	// SegmentSize is the size at which a new segment is begun, 256 KB by
	// default. It is what goes at once when the queue is full.
	SegmentSize int
	// MaxRecord bounds a payload, 64 KB by default: the endpoint's own limit.
	MaxRecord int
	// Clock stamps the start of a run and paces the writing of the cursors.
	Clock clock.Clock
	// Rand is where epochs come from: crypto/rand.Reader, unless a test
	// wants to know them.
	Rand io.Reader
	// EncodeGap makes the payload of a gap record. Required: a queue that
	// cannot say what it lost must not lose anything.
	EncodeGap func(telemetry.Gap) []byte
	// Log hears about damage, drops and a disk that fails. Never nil.
	Log *slog.Logger
}

// Recovery is what Open found.
type Recovery struct {
	// Clean: the last run ended with Close, or there was none.
	Clean bool
	// NewEpoch: records appended from now on carry another epoch than the
	// last run's.
	NewEpoch bool
	// Gaps are the losses found: the UncleanStop interval of a run that was
	// killed, Damaged records, and QueueFull drops whose record had not been
	// written yet. The queue itself appends a record for each to the urgent
	// lane, before anything else; the caller need only show them.
	Gaps []telemetry.Gap
}

// Status is a queue at one moment.
type Status struct {
	Epoch           [8]byte
	Bytes, Limit    int64 // on disk
	Urgent, History LaneStatus
	// Err is why the last write failed, nil once one has succeeded again.
	Err error
}

// LaneStatus is one lane at one moment.
type LaneStatus struct {
	Waiting uint64    // records appended and not yet discarded
	Bytes   int64     // on disk, discarded records that still occupy it included
	Next    uint64    // the next sequence number
	Cursor  uint64    // the last sequence number discarded
	Oldest  time.Time // the waiting records begin here; zero when unknown
	Dropped uint64    // records dropped since Open because the queue was full
	Damaged uint64    // records found unreadable since Open
}
