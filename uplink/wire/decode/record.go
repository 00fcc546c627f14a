// Package decode reads Penstock's wire format back, for the backend and the lab.
//
// Its input comes from the network and may be anything: every function answers
// garbage with an error that names the field, and never uses more memory than a
// small multiple of wire.MaxRecord. Fields and kinds of a newer format are not
// errors: what is not understood is passed over, and the caller keeps the
// record's bytes.
package decode

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"penstock/uplink/wire"
	"penstock/uplink/wire/wirepb"
)

// ErrUnknownCompression: the body is packed in a way that a newer gateway
// knows. The record's name is good all the same.
var ErrUnknownCompression = errors.New("unknown compression")

// Record is one publish, its body expanded.
type Record struct {
	Epoch wire.Epoch
	Lane  wire.Lane
	Seq   uint64
	Kind  wire.Kind // may be one that this version does not know
	Body  []byte
}

// ParseRecord reads one publish. When the name (epoch, lane, seq) could be read
// but the body could not be expanded, it returns the record without Body
// together with the error: such a record can still be told from its repetition.
func ParseRecord(publish []byte) (Record, error) {
	if len(publish) > wire.MaxRecord {
		return Record{}, fmt.Errorf("record: %d bytes, more than %d", len(publish), wire.MaxRecord)
	}
	var pb wirepb.Record
	if err := proto.Unmarshal(publish, &pb); err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	if len(pb.Epoch) != len(wire.Epoch{}) {
		return Record{}, fmt.Errorf("record: epoch has %d bytes, not 8", len(pb.Epoch))
	}
	if pb.Lane != wirepb.Lane_LANE_URGENT && pb.Lane != wirepb.Lane_LANE_HISTORY {
		return Record{}, fmt.Errorf("record: lane %d is neither urgent nor history", pb.Lane)
	}
	if pb.Seq == 0 {
		return Record{}, errors.New("record: no sequence number")
	}
	r := Record{Epoch: wire.Epoch(pb.Epoch), Lane: wire.Lane(pb.Lane), Seq: pb.Seq, Kind: wire.Kind(pb.Kind)}
	body, err := expand(wire.Compression(pb.Compression), pb.Body)
	if err != nil {
		return r, fmt.Errorf("record %v %v %d: body: %w", r.Epoch, r.Lane, r.Seq, err)
	}
	r.Body = body
	return r, nil
}

func expand(how wire.Compression, packed []byte) ([]byte, error) {
	switch how {
	case wire.Stored:
		return packed, nil
	case wire.Deflate:
		r := flate.NewReader(bytes.NewReader(packed))
		body, err := io.ReadAll(io.LimitReader(r, wire.MaxRecord+1))
		if err != nil {
			return nil, fmt.Errorf("deflate: %w", err)
		}
		if len(body) > wire.MaxRecord {
			return nil, fmt.Errorf("expands to more than %d bytes", wire.MaxRecord)
		}
		return body, nil
	}
	return nil, fmt.Errorf("%w %d", ErrUnknownCompression, how)
}
