package gateway

import (
	"time"

	"penstock/fieldbus/poll"
	"penstock/internal/status"
	"penstock/uplink/queue"
)

// Snapshot is the gateway's state now, in everybody's words. It may be called
// from any goroutine.
func (g *Gateway) Snapshot() status.Snapshot {
	now := g.time.Now()
	up := g.session.Status()
	s := status.Snapshot{
		Time:     now,
		Version:  g.opts.Version,
		Started:  g.shown(g.started),
		Gateway:  status.Gateway{Serial: g.identity.Serial(), Model: g.identity.Model(), Board: g.identity.Board()},
		Identity: g.identityStatus(now),
		Trust:    g.trustStatus(),
		Keys:     keysStatus(g.keys.Status()),
		Uplink: status.Uplink{
			State:        g.uplinkState(up.State),
			Since:        g.shownWall(up.Since),
			AuthURL:      g.identity.AuthURL(),
			Endpoint:     up.Endpoint,
			Session:      up.Session,
			LastError:    up.LastError,
			Acknowledged: up.Acknowledged,
		},
		Links:  g.linkStatus(),
		Queue:  queueStatus(g.queue.Status()),
		Clock:  g.time.status(),
		Search: g.plug.text(),
	}
	for _, b := range g.buses {
		s.Buses = append(s.Buses, g.busStatus(b.Status()))
	}
	return s
}

// shown is the time, as well as it is known, at which the steady clock showed t.
func (g *Gateway) shown(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	booted, _, _ := g.time.Booted()
	return booted.Add(time.Duration(t.UnixNano()))
}

// shownWall is the time, as well as it is known, at which the machine's own clock
// showed t.
func (g *Gateway) shownWall(t time.Time) time.Time {
	now := g.clock.Now()
	return g.time.Now().Add(-now.Sub(t))
}

// busStatus is a bus that goes by the steady clock.
func (g *Gateway) busStatus(b poll.Status) status.Bus {
	s := busStatus(b)
	s.Since = g.shown(s.Since)
	for i := range s.Pumps {
		p := &s.Pumps[i]
		p.LastGood, p.RefusedSince = g.shown(p.LastGood), g.shown(p.RefusedSince)
		for j := range p.Values {
			p.Values[j].Time = g.shown(p.Values[j].Time)
		}
	}
	return s
}

// linkStatus is the links in everybody's words.
func (g *Gateway) linkStatus() []status.Link {
	links := linkStatus(g.links.Status())
	for i := range links {
		links[i].Since = g.shownWall(links[i].Since)
	}
	return links
}

func queueStatus(q queue.Status) status.Queue {
	s := status.Queue{Limit: q.Limit}
	if q.Err != nil {
		s.Problem = "the disk refuses: " + q.Err.Error()
	}
	for _, l := range []struct {
		name string
		queue.LaneStatus
	}{{"urgent", q.Urgent}, {"history", q.History}} {
		s.Lanes = append(s.Lanes, status.Lane{Name: l.name, Records: l.Waiting, Bytes: l.Bytes, Oldest: l.Oldest, Dropped: l.Dropped})
	}
	return s
}

func busStatus(b poll.Status) status.Bus {
	s := status.Bus{Name: b.Name, Port: b.Port, Mode: b.Mode, OK: b.OK, Since: b.Since, Problem: b.Problem,
		Occupancy: b.Occupancy, Planned: b.Planned, Dead: b.Dead, Stretched: b.Stretched, Counters: b.Counters}
	for _, d := range b.Devices {
		p := status.Pump{ID: d.ID, Name: d.Name, Address: d.Address, Family: d.Profile,
			OK: d.State == poll.OK, LastGood: d.LastGood, Problem: d.Problem, ReplyTime: d.ReplyTime, Dropped: d.Dropped,
			Refused: d.Refused, RefusedSince: d.RefusedSince}
		for _, v := range d.Values {
			if !v.Time.IsZero() {
				p.Values = append(p.Values, status.Value{Point: v.Point, Unit: v.Unit, Scale: v.Scale, Enum: v.Enum,
					Raw: v.Raw, Quality: v.Quality, Time: v.Time})
			}
		}
		s.Pumps = append(s.Pumps, p)
	}
	return s
}
