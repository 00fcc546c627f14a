package queue

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
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
	// Last, if not nil, is told by Open the latest time in the queue, zero if there
	// is none, before it asks Clock: a clock that starts over can start behind it.
	Last func(time.Time)
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

// Queue is an open queue. Its methods may be called from any goroutine; a
// folder may be open in one Queue at a time.
//
// Locks are taken in this order: reader.mu, commit, trim, mu. mu is never held
// while the disk works, and reading takes commit only to write the gap record of
// damage it met: the reader does not block the writer, nor the writer the reader.
type Queue struct {
	fsys disk.FS
	dir  string
	o    Options

	commit sync.Mutex // held while records are written
	buf    []byte     // owned by commit: records being encoded
	stale  bool       // owned by commit: a write failed, so the epoch must change
	futile bool       // owned by commit: dropping history did not help a full disk

	trim     sync.Mutex // held while the head is written or segments are removed
	head     headFile
	tombs    []*tomb // owned by trim: dropped segments whose file is still there
	dirDirty bool    // owned by trim: a rename is not safe yet
	headDue  bool    // owned by trim: the start of this run is not on disk yet

	mu        sync.Mutex // guards what follows and the lanes
	lanes     [2]lane
	epoch     [8]byte
	runStart  int64
	runNext   uint64
	waiting   []*appending // not yet taken by a committer
	gaps      []gap        // losses that have no record yet
	headAt    time.Time    // when the cursors were last written
	unsettled bool         // settle has something to do
	changed   chan struct{}
	closed    bool
	err       error
}

// lane returns a lane by its name.
func (q *Queue) lane(l Lane) *lane { return &q.lanes[l.index()] }

func (l Lane) valid() bool { return l == Urgent || l == History }

// Changed returns a channel that is closed when the next record becomes
// durable. Take it before Peek, wait on it after Peek found nothing.
func (q *Queue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return q.changed
}

// Epoch is the epoch of records appended now.
func (q *Queue) Epoch() [8]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.epoch
}

// NewEpoch starts another epoch with the next record, for when the endpoint
// has met other content under one of our names.
func (q *Queue) NewEpoch() error {
	q.commit.Lock()
	defer q.commit.Unlock()
	return q.drawEpoch()
}

// drawEpoch changes the epoch; the caller holds commit.
func (q *Queue) drawEpoch() error {
	var epoch [8]byte
	if _, err := io.ReadFull(q.o.Rand, epoch[:]); err != nil {
		return fmt.Errorf("queue: drawing an epoch: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.epoch, q.stale = epoch, false
	return nil
}

// Close leaves the mark of a clean stop. What was appended stays.
func (q *Queue) Close() error {
	err := q.close()
	for i := range q.lanes {
		r := &q.lanes[i].read
		r.mu.Lock()
		r.close()
		r.mu.Unlock()
	}
	return err
}

func (q *Queue) close() error {
	q.commit.Lock()
	defer q.commit.Unlock()
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.closed = true
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	finish(waiting, ErrClosed)
	err := q.prepare()
	q.trim.Lock()
	defer q.trim.Unlock()
	if err == nil {
		err = q.writeHead(true)
	}
	for i := range q.lanes {
		q.lanes[i].seal()
	}
	return errors.Join(err, q.head.close())
}

// Status tells how the queue is.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Status{Epoch: q.epoch, Bytes: q.bytes(), Limit: q.o.Limit, Err: q.err}
	s.Urgent, s.History = q.lane(Urgent).status(), q.lane(History).status()
	return s
}

// bytes is the room that the queue takes on disk; q.mu is held.
func (q *Queue) bytes() int64 {
	return headSize + q.lanes[0].bytes() + q.lanes[1].bytes()
}

func (l *lane) status() LaneStatus {
	s := LaneStatus{
		Waiting: l.next - 1 - l.cursor,
		Bytes:   l.bytes(),
		Next:    l.next,
		Cursor:  l.cursor,
		Dropped: l.dropped,
		Damaged: l.damaged,
	}
	if s.Waiting > 0 {
		s.Oldest = timeOf(l.cursorStamp)
	}
	return s
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
