package decode

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/wirepb"
)

// maxPeriod bounds a group's period, so that slot times cannot overflow.
const maxPeriod = 365 * 24 * time.Hour

// ParseCatalogue reads a body of wire.KindCatalogue.
func ParseCatalogue(body []byte) (telemetry.Catalogue, wire.Name, error) {
	var c telemetry.Catalogue
	var pb wirepb.Catalogue
	if err := proto.Unmarshal(body, &pb); err != nil {
		return c, wire.Name{}, fmt.Errorf("catalogue: %w", err)
	}
	series := 0
	for _, g := range pb.Groups {
		series += len(g.Series)
	}
	if series > wire.MaxSeries || len(pb.Pumps) > wire.MaxPumps {
		return c, wire.Name{}, fmt.Errorf("catalogue: %d series of %d pumps; the most are %d and %d", series, len(pb.Pumps), wire.MaxSeries, wire.MaxPumps)
	}
	seen := make(map[string]bool, len(pb.Pumps))
	for i, p := range pb.Pumps {
		if p.Id == "" || seen[p.Id] {
			return c, wire.Name{}, fmt.Errorf("catalogue: pump %d: id %q is empty or taken", i, p.Id)
		}
		seen[p.Id] = true
		if p.Address > math.MaxInt32 {
			return c, wire.Name{}, fmt.Errorf("catalogue: pump %q: address %d", p.Id, p.Address)
		}
		c.Pumps = append(c.Pumps, telemetry.Pump{ID: p.Id, Name: p.Name, Family: p.Family, Bus: p.Bus, Address: int(p.Address)})
	}
	for i, g := range pb.Groups {
		if g.PeriodMs == 0 || g.PeriodMs > uint64(maxPeriod.Milliseconds()) {
			return c, wire.Name{}, fmt.Errorf("catalogue: group %d: a period of %d ms", i, g.PeriodMs)
		}
		if len(g.Series) == 0 {
			return c, wire.Name{}, fmt.Errorf("catalogue: group %d has no series", i)
		}
		group := telemetry.Group{
			Period: time.Duration(g.PeriodMs) * time.Millisecond,
			Series: make([]telemetry.Series, len(g.Series)),
		}
		for j, s := range g.Series {
			if int64(s.Pump) >= int64(len(pb.Pumps)) {
				return c, wire.Name{}, fmt.Errorf("catalogue: group %d, series %d: there is no pump %d", i, j, s.Pump)
			}
			if s.Den < 0 {
				return c, wire.Name{}, fmt.Errorf("catalogue: group %d, series %d: denominator %d", i, j, s.Den)
			}
			scale := telemetry.Scale{Num: orOne(s.Num), Add: s.Add, Den: orOne(s.Den)}
			if s.ScaleUnknown {
				scale = telemetry.Scale{}
			}
			group.Series[j] = telemetry.Series{
				Pump: pb.Pumps[s.Pump].Id, Point: s.Point, Unit: s.Unit, Enum: s.Enumeration, Scale: scale,
			}
		}
		c.Groups = append(c.Groups, group)
	}
	return c, wire.NameOf(body), nil
}

func orOne(v int64) int64 {
	if v == 0 {
		return 1
	}
	return v
}

// ParseGap reads a body of wire.KindGap. A reason that this version does not
// know is passed on as its number. To is zero where the gateway did not know it.
func ParseGap(body []byte) (telemetry.Gap, error) {
	var pb wirepb.Gap
	if err := proto.Unmarshal(body, &pb); err != nil {
		return telemetry.Gap{}, fmt.Errorf("gap: %w", err)
	}
	from, err := instant(pb.FromMs)
	if err != nil {
		return telemetry.Gap{}, fmt.Errorf("gap: from: %w", err)
	}
	to, err := instantOrNone(pb.ToMs)
	if err != nil {
		return telemetry.Gap{}, fmt.Errorf("gap: to: %w", err)
	}
	if !to.IsZero() && to.Before(from) || pb.ToSeq < pb.FromSeq || pb.Reason < 0 || pb.Reason > math.MaxUint8 {
		return telemetry.Gap{}, fmt.Errorf("gap: reason %d, time %v to %v, records %d to %d", pb.Reason, from, to, pb.FromSeq, pb.ToSeq)
	}
	return telemetry.Gap{Reason: telemetry.GapReason(pb.Reason), From: from, To: to, FromSeq: pb.FromSeq, ToSeq: pb.ToSeq}, nil
}

// instant is a Unix time in milliseconds between the years 1970 and 9999: the
// range in which every format that people use can write it.
func instant(ms int64) (time.Time, error) {
	const year10000 = 253402300800000
	if ms < 0 || ms >= year10000 {
		return time.Time{}, fmt.Errorf("a time of %d ms is not between the years 1970 and 9999", ms)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// instantOrNone is an instant, the zero time where a gateway did not know it.
func instantOrNone(ms int64) (time.Time, error) {
	if ms == 0 {
		return time.Time{}, nil
	}
	return instant(ms)
}

// unsure bounds what a gateway says of how far its times are off.
func unsure(ms uint64) time.Duration {
	const most = 200 * 365 * 24 * time.Hour
	return time.Duration(min(ms, uint64(most.Milliseconds()))) * time.Millisecond
}

// ParseEvent reads a body of wire.KindEvent. Its time is zero where the gateway
// did not know it.
func ParseEvent(body []byte) (telemetry.Event, error) {
	var pb wirepb.Event
	if err := proto.Unmarshal(body, &pb); err != nil {
		return telemetry.Event{}, fmt.Errorf("event: %w", err)
	}
	at, err := instantOrNone(pb.TimeMs)
	if err != nil {
		return telemetry.Event{}, fmt.Errorf("event: %w", err)
	}
	if pb.Pump == "" && pb.Link == "" || pb.Point == "" {
		return telemetry.Event{}, fmt.Errorf("event: neither pump nor link (%q), or no point (%q)", pb.Pump, pb.Point)
	}
	return telemetry.Event{Time: at, Unsure: unsure(pb.UnsureMs), Pump: pb.Pump, Link: pb.Link, Point: pb.Point, Raw: pb.Raw, Before: pb.Before}, nil
}

// ParseResult reads a body of wire.KindResult. An outcome that this version does
// not know is passed on as its number.
func ParseResult(body []byte) (telemetry.CommandResult, error) {
	var pb wirepb.Result
	if err := proto.Unmarshal(body, &pb); err != nil {
		return telemetry.CommandResult{}, fmt.Errorf("result: %w", err)
	}
	at, err := instant(pb.TimeMs)
	if err != nil {
		return telemetry.CommandResult{}, fmt.Errorf("result: %w", err)
	}
	r := telemetry.CommandResult{Outcome: telemetry.Outcome(pb.Outcome), Time: at, Raw: pb.Raw, Text: pb.Text}
	if len(pb.Id) != len(r.ID) || pb.Outcome <= 0 || pb.Outcome > math.MaxUint8 {
		return telemetry.CommandResult{}, fmt.Errorf("result: an id of %d bytes, outcome %d", len(pb.Id), pb.Outcome)
	}
	r.ID = telemetry.CommandID(pb.Id)
	return r, nil
}
