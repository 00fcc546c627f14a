package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxRecord is the endpoint's limit on one publish, and on a record's body when
// it is expanded. Nothing larger enters the queue.
const MaxRecord = 256 << 10

// MaxCells bounds the numbers in a block's columns: one reading or one row of
// exceptions takes one or four.
const MaxCells = 256 << 10

// MaxSeries and MaxPumps bound a catalogue. Two bytes can state a series, which
// takes a reader a hundred.
const (
	MaxSeries = 8192
	MaxPumps  = 1024
)

// CellsPerByte bounds the readings of a block by the bytes of its packed columns.
// Columns that rest take one byte for 7,500 readings at best.
const CellsPerByte = 16384

// recordOverhead is the most that AppendRecord adds to a body: epoch, lane,
// sequence number, kind, compression and the body's own header.
const recordOverhead = 10 + 2 + 11 + 2 + 2 + 5

// Epoch numbers one life of the queue: 8 random bytes, new whenever sequence
// numbers start again.
type Epoch [8]byte

func (e Epoch) String() string { return fmt.Sprintf("%x", e[:]) }

// Lane orders records: within a lane strictly, and the urgent lane overtakes
// history.
type Lane uint8

const (
	Urgent  Lane = 1 // events, command results, gaps
	History Lane = 2 // catalogues and blocks
)

// Lanes are all lanes, the most urgent first.
var Lanes = [...]Lane{Urgent, History}

func (l Lane) String() string {
	switch l {
	case Urgent:
		return "urgent"
	case History:
		return "history"
	}
	return fmt.Sprintf("lane %d", uint8(l))
}

// Kind says what a record's body is.
type Kind uint32

const (
	KindBlock     Kind = 1
	KindCatalogue Kind = 2
	KindGap       Kind = 3
	KindEvent     Kind = 4
	KindResult    Kind = 5
)

func (k Kind) String() string {
	switch k {
	case KindBlock:
		return "block"
	case KindCatalogue:
		return "catalogue"
	case KindGap:
		return "gap"
	case KindEvent:
		return "event"
	case KindResult:
		return "result"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// AppendRecord appends the publish that carries payload, which AppendPayload made:
// it puts epoch, lane and sequence number in front, and nothing else. The parts
// of a protobuf message may be written one after the other.
func AppendRecord(dst []byte, epoch Epoch, lane Lane, seq uint64, payload []byte) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, epoch[:])
	dst = appendUint(dst, 2, uint64(lane))
	dst = appendUint(dst, 3, seq)
	return append(dst, payload...)
}

// appendUint and its like leave a zero out, as proto3 does.
func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, field, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

func appendSint(dst []byte, field protowire.Number, v int64) []byte {
	return appendUint(dst, field, protowire.EncodeZigZag(v))
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return protowire.AppendString(dst, s)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return protowire.AppendBytes(dst, b)
}
