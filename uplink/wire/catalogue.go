package wire

import (
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"penstock/internal/telemetry"
)

// Name is a catalogue's name: the first 8 bytes of the SHA-256 of its body.
// Blocks carry it, so that a reader knows which catalogue explains them.
type Name [8]byte

func (n Name) String() string { return fmt.Sprintf("%x", n[:]) }

// NameOf is the name of the catalogue with this body.
func NameOf(body []byte) Name {
	sum := sha256.Sum256(body)
	return Name(sum[:8])
}

// Catalogue is a telemetry.Catalogue in its wire form. It is immutable.
type Catalogue struct {
	Name   Name
	Body   []byte // of a record of KindCatalogue
	groups []telemetry.Group
	pumps  []telemetry.Pump
}

// Meaning is the catalogue that was encoded.
func (c *Catalogue) Meaning() telemetry.Catalogue {
	return telemetry.Catalogue{Pumps: c.pumps, Groups: c.groups}
}

// NewCatalogue checks and encodes c.
func NewCatalogue(c telemetry.Catalogue) (*Catalogue, error) {
	series := 0
	for _, g := range c.Groups {
		series += len(g.Series)
	}
	if series > MaxSeries || len(c.Pumps) > MaxPumps {
		return nil, fmt.Errorf("catalogue: %d points of %d pumps; the most are %d and %d", series, len(c.Pumps), MaxSeries, MaxPumps)
	}
	index := make(map[string]uint64, len(c.Pumps))
	var body, scratch, inner []byte
	for i, p := range c.Pumps {
		if _, twice := index[p.ID]; twice {
			return nil, fmt.Errorf("catalogue: two pumps have the id %q", p.ID)
		}
		if p.Address < 0 {
			return nil, fmt.Errorf("catalogue: pump %q: address %d is negative", p.ID, p.Address)
		}
		index[p.ID] = uint64(i)
		scratch = appendString(scratch[:0], 1, p.ID)
		scratch = appendString(scratch, 2, p.Name)
		scratch = appendString(scratch, 3, p.Family)
		scratch = appendString(scratch, 4, p.Bus)
		scratch = appendUint(scratch, 5, uint64(p.Address))
		body = appendBytes(body, 1, scratch)
	}
	for i, g := range c.Groups {
		if g.Period < time.Millisecond || g.Period%time.Millisecond != 0 {
			return nil, fmt.Errorf("catalogue: group %d: period %v is not a whole number of milliseconds", i, g.Period)
		}
		if len(g.Series) == 0 {
			return nil, fmt.Errorf("catalogue: group %d has no series", i)
		}
		scratch = appendUint(scratch[:0], 1, uint64(g.Period.Milliseconds()))
		for j, s := range g.Series {
			pump, ok := index[s.Pump]
			if !ok {
				return nil, fmt.Errorf("catalogue: group %d, series %d: no pump has the id %q", i, j, s.Pump)
			}
			inner = appendUint(inner[:0], 1, pump)
			inner = appendString(inner, 2, s.Point)
			inner = appendString(inner, 3, s.Unit)
			inner = appendSint(inner, 4, unlessOne(s.Scale.Num))
			inner = appendSint(inner, 5, s.Scale.Add)
			inner = appendSint(inner, 6, unlessOne(s.Scale.Den))
			inner = appendString(inner, 7, s.Enum)
			if !s.Scale.Known() {
				inner = appendUint(inner, 8, 1)
			}
			scratch = appendBytes(scratch, 2, inner)
		}
		body = appendBytes(body, 2, scratch)
	}
	if len(body)+recordOverhead > MaxRecord {
		return nil, fmt.Errorf("catalogue: %d bytes, more than the %d that an endpoint takes", len(body), MaxRecord)
	}
	return &Catalogue{Name: NameOf(body), Body: body, groups: c.Groups, pumps: c.Pumps}, nil
}

// unlessOne leaves the usual factor out; the decoder reads 0 as 1.
func unlessOne(v int64) int64 {
	if v == 1 {
		return 0
	}
	return v
}

// AppendGap appends the body of a record of KindGap.
func AppendGap(dst []byte, g telemetry.Gap) []byte {
	dst = appendUint(dst, 1, uint64(g.Reason))
	dst = appendSint(dst, 2, max(g.From.UnixMilli(), 0)) // the zero time is the beginning of time
	dst = appendSint(dst, 3, max(g.To.UnixMilli(), 0))
	dst = appendUint(dst, 4, g.FromSeq)
	return appendUint(dst, 5, g.ToSeq)
}

// GapPayload is the whole payload of a gap record, for the queue that finds it
// has lost something.
func GapPayload(g telemetry.Gap) []byte {
	dst := appendUint(nil, 4, uint64(KindGap))
	dst = protowire.AppendTag(dst, 6, protowire.BytesType)
	return protowire.AppendBytes(dst, AppendGap(nil, g))
}

// AppendEvent appends the body of a record of KindEvent.
func AppendEvent(dst []byte, e telemetry.Event) []byte {
	dst = appendSint(dst, 1, max(e.Time.UnixMilli(), 0))
	dst = appendString(dst, 2, e.Pump)
	dst = appendString(dst, 3, e.Point)
	dst = appendSint(dst, 4, e.Raw)
	dst = appendSint(dst, 5, e.Before)
	return appendString(dst, 6, e.Link)
}
