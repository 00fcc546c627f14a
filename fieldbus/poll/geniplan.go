package poll

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/profile"
)

// spare is the room that a planned telegram leaves, so that the master can vary
// it (see genibus.Master).
const spare = 2

// geniCost is the cost of telegrams to a device that takes turnaround.
func geniCost(turnaround time.Duration) cost {
	return cost{char: genibus.Wire(1), frame: genibus.Wire(2*genibus.Overhead) + genibus.Gap + turnaround, turnaround: turnaround, geni: true}
}

// packing is a telegram that is being filled.
type packing struct {
	ids   map[genibus.Class][]byte
	order []genibus.Class
	items []int
	// sizes of the PDUs so far
	request, reply int
}

// room is what an item would add to the request and the reply.
func (p *packing) room(g *profile.GeniItem) (request, reply int) {
	class := genibus.Class(g.Class)
	have, begun := p.ids[class]
	if !begun {
		request, reply = 2, 2
	}
	for _, id := range g.IDs {
		if bytes.IndexByte(have, id) < 0 {
			request++
			reply += profile.GeniWidth(g.Class)
		}
	}
	return request, reply
}

// roomWith is what an item would add together with the one that decides its scale;
// data is the most that the reply's APDU of either's class would hold.
func (p *packing) roomWith(items []item, i int) (request, reply, data int) {
	with := packing{ids: map[genibus.Class][]byte{}, request: p.request, reply: p.reply}
	for class, ids := range p.ids {
		with.ids[class] = slices.Clone(ids)
	}
	for _, k := range together(items, i) {
		g := items[k].Geni
		with.add(k, g)
		data = max(data, len(with.ids[genibus.Class(g.Class)])*profile.GeniWidth(g.Class))
	}
	return with.request - p.request, with.reply - p.reply, data
}

// together returns the items that are read in one telegram with an item: the one
// that decides its scale, if there is one, and itself.
func together(items []item, i int) []int {
	if k := decides(items, i); k >= 0 {
		return []int{k, i}
	}
	return []int{i}
}

// decides returns the item that decides the scale of an item; -1 where none does.
func decides(items []item, i int) int {
	if items[i].Geni.Follows == "" {
		return -1
	}
	return slices.IndexFunc(items, func(it item) bool { return it.Point.Name == items[i].Geni.Follows })
}

// lacking tells whether a device has an item, or what decides its scale, not.
func lacking(items []item, known []geniKnown, i int) bool {
	return slices.ContainsFunc(together(items, i), func(k int) bool { return known[k].absent })
}

func (p *packing) add(i int, g *profile.GeniItem) {
	class := genibus.Class(g.Class)
	request, reply := p.room(g)
	p.request += request
	p.reply += reply
	if _, begun := p.ids[class]; !begun {
		p.order = append(p.order, class)
		p.ids[class] = nil
	}
	for _, id := range g.IDs {
		if bytes.IndexByte(p.ids[class], id) < 0 {
			p.ids[class] = append(p.ids[class], id)
		}
	}
	if !slices.Contains(p.items, i) {
		p.items = append(p.items, i)
	}
}

// planGeni packs the due items into the fewest telegrams: first fit, class by
// class, request and reply both within the device's buffer. Items that share a
// byte share it on the wire as well. All bytes of a value are in one telegram, and so
// is what decides its scale: read at another time, it may have changed meanwhile.
func planGeni(items []item, known []geniKnown, buffer int, due set, c cost) []frame {
	var order []int
	for i := range items {
		if due.has(i) && !lacking(items, known, i) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := items[a].Geni, items[b].Geni
		return cmp.Or(cmp.Compare(x.Class, y.Class), cmp.Compare(len(y.IDs), len(x.IDs)), slices.Compare(x.IDs, y.IDs))
	})
	room := genibus.Room(buffer) - spare
	var all []*packing
	for _, i := range order {
		into := -1
		for k, p := range all {
			request, reply, data := p.roomWith(items, i)
			if p.request+request > room || p.reply+reply > room || data > genibus.MaxData-spare {
				continue
			}
			if shares := request == 0; shares || into < 0 {
				if into = k; shares {
					break
				}
			}
		}
		if into < 0 {
			into = len(all)
			all = append(all, &packing{ids: map[genibus.Class][]byte{}})
		}
		for _, k := range together(items, i) {
			all[into].add(k, items[k].Geni)
		}
	}
	frames := make([]frame, 0, len(all))
	for _, p := range all {
		frames = append(frames, p.frame(items, due, c))
	}
	return frames
}

// frame is the telegram as it is sent, and where its reply has what.
func (p *packing) frame(items []item, due set, c cost) frame {
	f := frame{geni: &geniFrame{size: p.request + p.reply}}
	f.cost = c.of(&f)
	first := map[genibus.Class]int{} // where the reply's data of the class begins
	at := 0
	for _, class := range p.order {
		f.geni.pdu = genibus.AppendGet(f.geni.pdu, class, p.ids[class]...)
		first[class] = at + 2
		at += 2 + len(p.ids[class])*profile.GeniWidth(int(class))
	}
	for _, i := range p.items {
		if due.has(i) {
			f.items.add(i)
		}
		g := items[i].Geni
		class, width := genibus.Class(g.Class), profile.GeniWidth(g.Class)
		pk := pick{item: i}
		for _, id := range g.IDs {
			from := first[class] + bytes.IndexByte(p.ids[class], id)*width
			for k := range width {
				pk.at = append(pk.at, from+k)
			}
		}
		f.geni.picks = append(f.geni.picks, pk)
	}
	return f
}
