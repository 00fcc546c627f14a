package poll

import (
	"cmp"
	"slices"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
)

// maxItems is the size of a set; a profile holds no more items.
const maxItems = 256

// maxRegisters is the most that one request reads.
const maxRegisters = 125

// set is a set of items of one device, by index.
type set [maxItems / 64]uint64

func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *set) remove(i int)   { s[i/64] &^= 1 << (i % 64) }
func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *set) empty() bool    { return *s == set{} }

func (s *set) union(o set) {
	for i := range s {
		s[i] |= o[i]
	}
}

// cost is what reading takes of the bus's time.
type cost struct {
	char       time.Duration // one character
	frame      time.Duration // a frame that carries no register: its 13 characters, the silence, the turnaround
	turnaround time.Duration
	geni       bool
}

// Of the frames of a Modbus read: address, function, start, count and CRC of
// the request; address, function, byte count and CRC of the answer.
const readOverhead = 8 + 5

// modbusCost is the cost of a read on a line of this mode, from a device that
// takes turnaround to begin its answer.
func modbusCost(mode fieldbus.Mode, turnaround time.Duration) cost {
	return cost{char: mode.Wire(1), frame: mode.Wire(readOverhead) + silence(mode) + turnaround, turnaround: turnaround}
}

// silence is what parts two frames: 3.5 characters, above 19200 baud 1.75 ms
// (MODBUS over Serial Line V1.02, chapter 2.5.1.1).
func silence(mode fieldbus.Mode) time.Duration {
	if mode.Baud > 19200 {
		return 1750 * time.Microsecond
	}
	return mode.Wire(7) / 2
}

// read is the cost of reading n registers.
func (c cost) read(n int) time.Duration { return c.frame + time.Duration(2*n)*c.char }

// of is the cost of a frame.
func (c cost) of(f *frame) time.Duration {
	if f.geni != nil {
		return c.frame + time.Duration(f.geni.size)*c.char
	}
	return c.read(f.count)
}

// frame is one request: consecutive registers within one block.
type frame struct {
	block, start, count int // printed register numbers
	items               set // that it is read for
	all                 set // that it holds
	cost                time.Duration
	modbus              []modbus.Variant // the ways to put it on the wire

	geni *geniFrame // on GENIbus, instead of block, start and count
}

// span is where an item is: registers first to last of one block.
type span struct{ block, first, last int }

// spans finds the items in the blocks. An item that lies in none, because its
// block was cut at a register that the device refuses, gets block -1.
func spans(items []profile.Item, blocks []profile.Block) []span {
	out := make([]span, len(items))
	for i, it := range items {
		out[i] = span{
			block: slices.IndexFunc(blocks, func(b profile.Block) bool { return b.Contains(it.Register, it.Last()) }),
			first: it.Register, last: it.Last(),
		}
	}
	return out
}

// plan returns the frames that read the due items in the least time on the
// bus, in the order of their registers. It is pure, and it holds:
//
//   - every due item that lies in a block is in exactly one frame, whole;
//   - a frame stays inside one block and reads at most 125 registers;
//   - no other plan under these rules takes less time. So none takes more than
//     one request for each item.
//
// Registers between two items are read over where that costs less than another
// frame.
func plan(items []span, due set, c cost) []frame {
	order := make([]int, 0, len(items))
	for i, s := range items {
		if due.has(i) && s.block >= 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(items[a].block, items[b].block),
			cmp.Compare(items[a].first, items[b].first), cmp.Compare(items[a].last, items[b].last))
	})
	// best[j] is the cheapest way to read the first j items, whose last frame
	// begins with item from[j].
	best := make([]time.Duration, len(order)+1)
	from := make([]int, len(order)+1)
	for j := 1; j <= len(order); j++ {
		last := 0
		for i := j - 1; i >= 0 && items[order[i]].block == items[order[j-1]].block; i-- {
			last = max(last, items[order[i]].last)
			n := last - items[order[i]].first + 1
			if n > maxRegisters {
				break // and further back it only grows
			}
			if all := best[i] + c.read(n); i == j-1 || all < best[j] {
				best[j], from[j] = all, i
			}
		}
	}
	var frames []frame
	for j := len(order); j > 0; j = from[j] {
		f := frame{block: items[order[j-1]].block, start: items[order[from[j]]].first}
		last := 0
		for _, i := range order[from[j]:j] {
			f.items.add(i)
			last = max(last, items[i].last)
		}
		f.count = last - f.start + 1
		f.cost = c.read(f.count)
		frames = append(frames, f)
	}
	slices.Reverse(frames)
	return frames
}

// total is what frames cost together.
func total(frames []frame) (d time.Duration) {
	for _, f := range frames {
		d += f.cost
	}
	return d
}
