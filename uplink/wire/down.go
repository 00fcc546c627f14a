package wire

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"penstock/internal/telemetry"
)

// Down is what the endpoint sends to a gateway.
type Down struct {
	// Watch is for how long somebody looks, 0 if the message does not say.
	Watch time.Duration
	// NewEpoch is an epoch that must not be used any longer, zero if none.
	NewEpoch Epoch
	// Command is to be carried out, nil if the message brings none.
	Command *telemetry.Command
	// TellCatalogue asks for the catalogue in force, once more.
	TellCatalogue bool
}

// MaxWatch is the longest lease that counts: a backend that dies must not leave
// gateways chattering on metered links.
const MaxWatch = 5 * time.Minute

// MaxDown bounds a message, so that a gateway never has to take more of an
// endpoint. The longest there is today, a command, has some 850 bytes.
const MaxDown = 4 << 10

var errDown = errors.New("down: not a message of the wire format")

// ParseDown reads a message from gw/<serial>/down. What a newer endpoint says
// beyond this version is passed over.
func ParseDown(b []byte) (Down, error) {
	var d Down
	err := fields(b, func(field protowire.Number, inner []byte, _ uint64) error {
		switch field {
		case 1:
			return fields(inner, func(field protowire.Number, _ []byte, v uint64) error {
				if field == 1 {
					d.Watch = time.Duration(min(v, uint64(MaxWatch.Milliseconds()))) * time.Millisecond
				}
				return nil
			})
		case 2:
			return fields(inner, func(field protowire.Number, b []byte, _ uint64) error {
				if field == 1 && len(b) != len(d.NewEpoch) {
					return fmt.Errorf("down: an epoch of %d bytes", len(b))
				}
				if field == 1 {
					d.NewEpoch = Epoch(b)
				}
				return nil
			})
		case 3:
			c, err := parseCommand(inner)
			d.Command = &c
			return err
		case 4:
			d.TellCatalogue = true
		}
		return nil
	})
	if err != nil {
		return Down{}, err
	}
	return d, nil
}

// AppendDown appends d as a message for gw/<serial>/down.
func AppendDown(dst []byte, d Down) []byte {
	if d.Watch > 0 {
		dst = appendBytes(dst, 1, appendUint(nil, 1, uint64(d.Watch.Milliseconds())))
	}
	if d.NewEpoch != (Epoch{}) {
		dst = appendBytes(dst, 2, appendBytes(nil, 1, d.NewEpoch[:]))
	}
	if d.Command != nil {
		dst = appendBytes(dst, 3, appendCommand(nil, *d.Command))
	}
	if d.TellCatalogue {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendBytes(dst, nil) // present, without content
	}
	return dst
}

// fields visits the fields of a message: bytes of length-delimited ones, the
// number of varints. Others are skipped.
func fields(b []byte, visit func(field protowire.Number, bytes []byte, v uint64) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errDown
		}
		b = b[n:]
		var inner []byte
		var v uint64
		switch kind {
		case protowire.BytesType:
			inner, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return errDown
		}
		b = b[n:]
		if err := visit(field, inner, v); err != nil {
			return err
		}
	}
	return nil
}
