package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"
)

// The format is described in the package comment.

const (
	recordHead = 32
	maxPayload = 1<<24 - 1

	flagMore = 1 // of the same Append
	flagGap  = 2
	flagOpen = 4 // the opening of a segment
	flags    = flagMore | flagGap | flagOpen

	opening    = "penstock queue 1"
	openingLen = recordHead + len(opening) + 8

	noTime = math.MinInt64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stampOf is a time as it is written; the zero time is none.
func stampOf(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixMilli()
}

func timeOf(stamp int64) time.Time {
	if stamp == noTime {
		return time.Time{}
	}
	return time.UnixMilli(stamp).UTC()
}

// entry is a record as it lies in a segment.
type entry struct {
	epoch   [8]byte
	flags   byte
	seq     uint64
	upTo    int64
	payload []byte
}

func appendRecord(dst []byte, lane Lane, e entry) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.payload))|uint32(byte(lane)<<4|e.flags)<<24)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, e.epoch[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, e.seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.upTo))
	dst = append(dst, e.payload...)
	binary.LittleEndian.PutUint32(dst[at+4:], checksum(dst[at:]))
	return dst
}

func checksum(record []byte) uint32 {
	return crc32.Update(crc32.Checksum(record[:4], castagnoli), castagnoli, record[8:])
}

// plausible looks at the head of what may be a record of lane: how long would
// the record be, and which number would it have?
func plausible(b []byte, lane Lane) (size int, seq uint64, ok bool) {
	word := binary.LittleEndian.Uint32(b)
	kind := byte(word >> 24)
	if Lane(kind>>4) != lane || kind&0x0f&^flags != 0 {
		return 0, 0, false
	}
	return recordHead + int(word&maxPayload), binary.LittleEndian.Uint64(b[16:]), true
}

// parse reads the record that fills b, which plausible has measured. The
// payload stays part of b.
func parse(b []byte) (e entry, ok bool) {
	if binary.LittleEndian.Uint32(b[4:]) != checksum(b) {
		return entry{}, false
	}
	e = entry{
		flags:   b[3] & 0x0f,
		seq:     binary.LittleEndian.Uint64(b[16:]),
		upTo:    int64(binary.LittleEndian.Uint64(b[24:])),
		payload: b[recordHead:],
	}
	copy(e.epoch[:], b[8:16])
	return e, true
}

// appendOpening begins a segment: stamp is the lane's last time so far, and
// stampSeq the record that had it.
func appendOpening(dst []byte, lane Lane, epoch [8]byte, base uint64, stamp int64, stampSeq uint64) []byte {
	payload := binary.LittleEndian.AppendUint64([]byte(opening), stampSeq)
	return appendRecord(dst, lane, entry{epoch: epoch, flags: flagOpen, seq: base, upTo: stamp, payload: payload})
}

// stampSeq reads an opening's own payload.
func (e entry) stampSeq() (uint64, bool) {
	if len(e.payload) != len(opening)+8 || string(e.payload[:len(opening)]) != opening {
		return 0, false
	}
	return binary.LittleEndian.Uint64(e.payload[len(opening):]), true
}

const (
	segmentSuffix = ".log"
	lostSuffix    = ".lost"
)

func segmentName(lane Lane, base, previous uint64) string {
	return fmt.Sprintf("%s-%016x-%016x"+segmentSuffix, lane, base, previous)
}

// span is a row of records of one lane that are lost, and the times around them.
type span struct {
	lane         Lane
	from, to     uint64 // first and last number
	since, until int64  // stamps
}

func lostName(s span) string {
	return fmt.Sprintf("%s-%016x-%016x-%016x-%016x"+lostSuffix, s.lane, s.from, s.to, uint64(s.since), uint64(s.until))
}

var errName = errors.New("not a file of the queue")

// parseName reads a lane and the numbers of a file's name.
func parseName(name, suffix string, count int) (Lane, []uint64, error) {
	stem, ok := strings.CutSuffix(name, suffix)
	parts := strings.Split(stem, "-")
	if !ok || len(parts) != 1+count {
		return 0, nil, errName
	}
	lane := Urgent
	switch parts[0] {
	case Urgent.String():
	case History.String():
		lane = History
	default:
		return 0, nil, errName
	}
	numbers := make([]uint64, count)
	for i, p := range parts[1:] {
		n, err := strconv.ParseUint(p, 16, 64)
		if err != nil || len(p) != 16 {
			return 0, nil, errName
		}
		numbers[i] = n
	}
	return lane, numbers, nil
}

func parseSegmentName(name string) (lane Lane, base, previous uint64, err error) {
	lane, n, err := parseName(name, segmentSuffix, 2)
	if err != nil || n[0] == 0 {
		return 0, 0, 0, errName
	}
	return lane, n[0], n[1], nil
}

func parseLostName(name string) (span, error) {
	lane, n, err := parseName(name, lostSuffix, 4)
	if err != nil || n[0] == 0 || n[1] < n[0] {
		return span{}, errName
	}
	return span{lane: lane, from: n[0], to: n[1], since: int64(n[2]), until: int64(n[3])}, nil
}
