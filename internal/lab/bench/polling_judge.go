package bench

import (
	"fmt"
	"strings"
	"time"

	"penstock/fieldbus/poll"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim"
	"penstock/internal/telemetry"
)

// judge compares each reading that a bus delivers with what the pumps served. A
// value is wrong if no answer of this very pump had it for this very item, sampled
// at the reading's time or later: it is another item's, of another time, or of
// another device that stands at the address.
type judge struct {
	now     func() time.Time
	began   time.Time
	pumps   map[string]*judgedPump // by the ID that the bus gives it
	groups  []telemetry.Group
	without map[seriesOf]bool // series that a pump does not have, so that they cannot be missed
	counts
}

// counts are what the judge has counted.
type counts struct {
	requests                     int
	good, missing, absent, wrong int
	examples                     []string // of wrong values, a few
}

type seriesOf struct{ pump, point string }

type judgedPump struct {
	device poll.Device
	served []pumpsim.Served // the last answers
	asks   []ask
	asked  time.Time     // when it was last; the start at first
	alone  time.Duration // the longest between two requests
	values map[string]int
	fast   time.Duration // the shortest period
	fresh  time.Time     // of the newest value in that period's group
	silent time.Duration // the longest between two values
}

// ask is a request that was sent to a pump, by its number on the line.
type ask struct {
	number int
	at     time.Time
}

// asksMost bounds the requests that are remembered: the first ones, in which stall
// looks for the ones to strike.
const asksMost = 5000

func (j *judge) init(now func() time.Time, devices []poll.Device) {
	j.now, j.began, j.pumps = now, now(), map[string]*judgedPump{}
	for _, d := range devices {
		j.pumps[fmt.Sprintf("bus-%d", d.Address)] = &judgedPump{device: d, asked: j.began, values: map[string]int{}}
	}
}

// begin takes in the catalogue of a bus that begins.
func (j *judge) begin(groups []telemetry.Group) {
	j.groups = groups
	for _, g := range groups {
		p, _ := j.pump(g.Series[0].Pump)
		if p.fast == 0 || g.Period < p.fast {
			p.fast = g.Period
		}
	}
}

// pump finds a pump by the ID that the bus gives it. Another unit that stands at the
// address is another pump, whose ID has a number behind a point.
func (j *judge) pump(id string) (p *judgedPump, other bool) {
	if p = j.pumps[id]; p != nil {
		return p, false
	}
	own, _, _ := strings.Cut(id, ".")
	return j.pumps[own], true
}

// servedMost is how many answers of a pump are remembered: minutes.
const servedMost = 512

// serve takes an answer of a pump.
func (j *judge) serve(s pumpsim.Served) {
	for _, p := range j.pumps {
		if p.device.Address != s.Address {
			continue
		}
		if len(p.served) == servedMost {
			p.served = append(p.served[:0], p.served[servedMost/2:]...)
		}
		p.served = append(p.served, s)
	}
}

// ask takes in that a request is sent to an address.
func (j *judge) ask(address int) {
	j.requests++
	now := j.now()
	for _, p := range j.pumps {
		if p.device.Address != address {
			continue
		}
		p.alone, p.asked = max(p.alone, now.Sub(p.asked)), now
		if len(p.asks) < asksMost {
			p.asks = append(p.asks, ask{j.requests, now})
		}
	}
}

// unasked is the longest that a pump was not asked, in its shortest periods.
func (j *judge) unasked() (periods float64) {
	for _, p := range j.pumps {
		if p.fast > 0 {
			periods = max(periods, max(p.alone, j.now().Sub(p.asked)).Seconds()/p.fast.Seconds())
		}
	}
	return periods
}

// take judges a reading.
func (j *judge) take(r telemetry.Reading) {
	g := j.groups[r.Group]
	s := g.Series[r.Series]
	p, other := j.pump(s.Pump)
	if j.without[seriesOf{s.Pump, s.Point}] {
		return
	}
	if r.Quality == telemetry.Missing {
		j.missing++
		return
	}
	it, ok := p.device.Profile.Item(s.Point)
	if !ok || !p.gave(it, r, other, j.now()) {
		j.wrong++
		if len(j.examples) < 5 {
			j.examples = append(j.examples, fmt.Sprintf("%s %s: %d (%v) of %v, delivered at %v", s.Pump, s.Point, r.Raw, r.Quality,
				r.Time().Sub(j.began), j.now().Sub(j.began)))
		}
		return
	}
	if r.Quality == telemetry.NotAvailable {
		j.absent++
		return
	}
	j.good++
	p.values[s.Point]++
	if g.Period == p.fast && r.Time().After(p.fresh) {
		if !p.fresh.IsZero() {
			p.silent = max(p.silent, r.Time().Sub(p.fresh))
		}
		p.fresh = r.Time()
	}
}

// gave tells whether the pump itself, or the other unit in its place, gave the
// reading's value in an answer that was sampled between the reading's time and now.
func (p *judgedPump) gave(it profile.Item, r telemetry.Reading, other bool, now time.Time) bool {
	for i := len(p.served) - 1; i >= 0; i-- {
		s := &p.served[i]
		if (s.Other != "") != other || s.Exception != 0 || s.Sampled.Before(r.Time()) || s.Sampled.After(now) {
			continue
		}
		for _, raw := range decodings(p.device.Profile, it, s) {
			if r.Quality == raw.q && (r.Quality == telemetry.NotAvailable || r.Raw == raw.v) || r.Quality != telemetry.NotAvailable && raw.q == telemetry.Good && r.Raw == raw.v {
				return true
			}
		}
	}
	return false
}

type decoding struct {
	v int64
	q telemetry.Quality
}

// decodings are the values that an item may have by an answer; none if the answer
// does not hold the item.
func decodings(p *profile.Profile, it profile.Item, s *pumpsim.Served) []decoding {
	if it.Geni == nil {
		from := it.Register - p.Numbering - s.Start
		if s.Function != 3 && s.Function != 4 || from < 0 || from+it.Registers() > len(s.Values) {
			return nil
		}
		v, q := it.Decode(s.Values[from : from+it.Registers()])
		return []decoding{{v, q}}
	}
	var b []byte
	for _, id := range it.Geni.IDs {
		for _, item := range s.Items {
			if int(item.Class) == it.Geni.Class && item.ID == id {
				for shift := 8 * (profile.GeniWidth(it.Geni.Class) - 1); shift >= 0; shift -= 8 {
					b = append(b, byte(item.Value>>shift))
				}
				break
			}
		}
	}
	if want := len(it.Geni.IDs) * profile.GeniWidth(it.Geni.Class); len(b) == 0 || len(b) < want && it.Geni.Alarms == nil {
		return nil
	} else if len(b) < want {
		return []decoding{{0, telemetry.Good}} // the pump has not all alarm bits, and marked pumps no alarm
	}
	// Whether 0xFF is a value the pump says in INFO.
	v, q := it.DecodeGeni(b, true)
	w, x := it.DecodeGeni(b, false)
	return []decoding{{v, q}, {w, x}}
}

// missingShare is the share of the slots that have no reading.
func (j *judge) missingShare() float64 {
	if all := j.good + j.absent + j.missing + j.wrong; all > 0 {
		return float64(j.missing) / float64(all)
	}
	return 0
}
