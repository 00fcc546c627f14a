package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"penstock/internal/telemetry"
)

// maxCommandText bounds each text of a command; a name or value that is longer
// is no command of any profile.
const maxCommandText = 256

// lastMilli is the end of the year 9999.
const lastMilli = 253402300800000 - 1

func parseCommand(b []byte) (telemetry.Command, error) {
	var c telemetry.Command
	named := false
	err := fields(b, func(field protowire.Number, inner []byte, v uint64) error {
		if len(inner) > maxCommandText {
			return fmt.Errorf("down: command: field %d has %d bytes, more than %d", field, len(inner), maxCommandText)
		}
		switch field {
		case 1:
			if len(inner) != len(c.ID) {
				return fmt.Errorf("down: command: an id of %d bytes, not %d", len(inner), len(c.ID))
			}
			c.ID, named = telemetry.CommandID(inner), true
		case 2:
			c.Pump = string(inner)
		case 3:
			c.Name = string(inner)
		case 4:
			c.Value = string(inner)
		case 5:
			c.Expires = time.UnixMilli(protowire.DecodeZigZag(v)).UTC()
		case 6:
			c.Owner = v
		}
		return nil
	})
	switch ms := c.Expires.UnixMilli(); {
	case err != nil:
		return c, err
	case !named:
		return c, fmt.Errorf("down: a command without an id")
	case c.Pump == "" || c.Name == "":
		return c, fmt.Errorf("down: command %v: no pump (%q) or no name (%q)", c.ID, c.Pump, c.Name)
	case ms <= 0 || ms > lastMilli:
		return c, fmt.Errorf("down: command %v: it expires at %d ms, which is no time", c.ID, ms)
	}
	return c, nil
}

func appendCommand(dst []byte, c telemetry.Command) []byte {
	dst = appendBytes(dst, 1, c.ID[:])
	dst = appendString(dst, 2, c.Pump)
	dst = appendString(dst, 3, c.Name)
	dst = appendString(dst, 4, c.Value)
	dst = appendSint(dst, 5, c.Expires.UnixMilli())
	return appendUint(dst, 6, c.Owner)
}

// AppendResult appends the body of a record of KindResult.
func AppendResult(dst []byte, r telemetry.CommandResult) []byte {
	dst = appendBytes(dst, 1, r.ID[:])
	dst = appendUint(dst, 2, uint64(r.Outcome))
	dst = appendSint(dst, 3, max(r.Time.UnixMilli(), 0))
	dst = appendSint(dst, 4, r.Raw)
	return appendString(dst, 5, r.Text)
}
