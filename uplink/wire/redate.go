package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// undatedField marks a payload whose times are not times of day yet. It stands at
// the payload's beginning, on the gateway's own disk only: it is never published.
const undatedField protowire.Number = 15

// Undated puts a mark in front of payload: its times count from the beginning of
// the boot of that name.
func Undated(boot uint64, payload []byte) []byte {
	dst := protowire.AppendTag(make([]byte, 0, len(payload)+9), undatedField, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, boot)
	return append(dst, payload...)
}

// CutUndated takes the mark of Undated off. ok is false where there is none.
func CutUndated(payload []byte) (boot uint64, rest []byte, ok bool) {
	head := protowire.AppendTag(make([]byte, 0, 9), undatedField, protowire.Fixed64Type)
	if len(payload) < len(head)+8 || string(payload[:len(head)]) != string(head) {
		return 0, payload, false
	}
	return binary.LittleEndian.Uint64(payload[len(head):]), payload[len(head)+8:], true
}

// KindOf reads a payload's kind.
func KindOf(payload []byte) (Kind, error) {
	p, err := splitPayload(payload)
	return p.kind, err
}

// Redate appends payload with each of its times, which are Unix milliseconds,
// replaced by what date says. A reader is told that they may be off by unsure
// either way. It changes blocks, events and gaps; other kinds stay as they are. A
// gap has no room for unsure: its ends are to be chosen so that it covers what it
// should.
func Redate(dst, payload []byte, date func(ms int64) int64, unsure time.Duration) ([]byte, error) {
	p, err := splitPayload(payload)
	if err != nil {
		return nil, err
	}
	times := p.kind.times()
	if times == 0 {
		return append(dst, payload...), nil
	}
	if p.compression != Stored {
		return nil, fmt.Errorf("a %v that is compressed cannot be dated", p.kind)
	}
	body, err := redateBody(make([]byte, 0, len(p.body)+24), p.body, times, date)
	if err != nil {
		return nil, fmt.Errorf("dating a %v: %w", p.kind, err)
	}
	switch ms := uint64(max(unsure.Milliseconds(), 0)); p.kind {
	case KindBlock:
		body = appendUint(body, 6, ms)
	case KindEvent:
		body = appendUint(body, 7, ms)
	}
	dst = appendUint(dst, 4, uint64(p.kind))
	return appendBytes(dst, 6, body), nil
}

// times are the fields of a body of this kind that hold a time, a bit for each.
func (k Kind) times() (fields uint64) {
	switch k {
	case KindBlock:
		return 1 << 2
	case KindEvent:
		return 1 << 1
	case KindGap:
		return 1<<2 | 1<<3
	}
	return 0
}

// redateBody puts the dated fields ahead of the others. A field that is left out
// is a time of 0, as proto3 has it.
func redateBody(dst, body []byte, times uint64, date func(ms int64) int64) ([]byte, error) {
	var was [4]int64
	rest := make([]byte, 0, len(body))
	for len(body) > 0 {
		field, kind, n := protowire.ConsumeField(body)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		if field < 4 && times>>field&1 == 1 {
			if kind != protowire.VarintType {
				return nil, fmt.Errorf("field %d is no time", field)
			}
			_, _, tag := protowire.ConsumeTag(body)
			v, _ := protowire.ConsumeVarint(body[tag:n])
			was[field] = protowire.DecodeZigZag(v)
		} else {
			rest = append(rest, body[:n]...)
		}
		body = body[n:]
	}
	for field := range protowire.Number(4) {
		if times>>field&1 == 1 {
			dst = appendSint(dst, field, date(was[field]))
		}
	}
	return append(dst, rest...), nil
}

// parts are the fields of a payload.
type parts struct {
	kind        Kind
	compression Compression
	body        []byte
}

var errPayload = errors.New("this is no payload of a record")

func splitPayload(b []byte) (p parts, err error) {
	err = fields(b, func(field protowire.Number, inner []byte, v uint64) error {
		switch field {
		case 4:
			p.kind = Kind(v)
		case 5:
			p.compression = Compression(v)
		case 6:
			p.body = inner
		}
		return nil
	})
	if err != nil {
		return parts{}, errPayload
	}
	return p, nil
}
