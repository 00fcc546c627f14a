package poll

import (
	"math/rand/v2"
	"testing"
	"time"

	"penstock/fieldbus"
)

var modes = []fieldbus.Mode{
	fieldbus.Default,
	{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 115200, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 1200, Parity: fieldbus.NoParity, StopBits: 2},
}

// device makes blocks and items of one from random numbers.
func randomSpans(rng *rand.Rand) []span {
	var items []span
	first := 1 + rng.IntN(10)
	for block := range 1 + rng.IntN(4) {
		size := 1 + rng.IntN(300)
		for range rng.IntN(12) {
			width := 1 + rng.IntN(2)
			if width > size {
				continue
			}
			at := first + rng.IntN(size-width+1)
			items = append(items, span{block, at, at + width - 1})
		}
		first += size + rng.IntN(20)
	}
	return items
}

func checkPlan(t *testing.T, items []span, due set, c cost) {
	t.Helper()
	frames := plan(items, due, c)
	var read set
	blocks := map[int][2]int{}
	for _, s := range items {
		b, ok := blocks[s.block]
		if !ok {
			b = [2]int{s.first, s.last}
		}
		blocks[s.block] = [2]int{min(b[0], s.first), max(b[1], s.last)}
	}
	for _, f := range frames {
		if f.count < 1 || f.count > maxRegisters {
			t.Fatalf("a frame of %d registers", f.count)
		}
		if b := blocks[f.block]; f.start < b[0] || f.start+f.count-1 > b[1] {
			t.Fatalf("frame %d+%d leaves the items' part of block %d, %v", f.start, f.count, f.block, b)
		}
		if f.cost != c.read(f.count) {
			t.Fatalf("a frame of %d registers is said to cost %v, and costs %v", f.count, f.cost, c.read(f.count))
		}
		for i, s := range items {
			if !f.items.has(i) {
				continue
			}
			if read.has(i) {
				t.Fatalf("item %d is read twice", i)
			}
			read.add(i)
			if s.block != f.block || s.first < f.start || s.last > f.start+f.count-1 {
				t.Fatalf("item %d at %v is not whole in the frame %d+%d of block %d", i, s, f.start, f.count, f.block)
			}
		}
	}
	want := due
	var each time.Duration
	for i, s := range items {
		if s.block < 0 {
			want.remove(i)
		} else if due.has(i) {
			each += c.read(s.last - s.first + 1)
		}
	}
	if read != want {
		t.Fatalf("due %x, read %x", want, read)
	}
	if total(frames) > each {
		t.Fatalf("the plan takes %v, one request for each item %v", total(frames), each)
	}
}

func TestEveryPlanKeepsTheRules(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		items := randomSpans(rng)
		var due set
		for i := range items {
			if rng.IntN(3) > 0 {
				due.add(i)
			}
		}
		c := modbusCost(modes[rng.IntN(len(modes))], time.Duration(rng.IntN(30))*time.Millisecond)
		checkPlan(t, items, due, c)
	}
}

// cheapest tries every way to cut the items of one block into frames.
func cheapest(items []span, c cost) time.Duration {
	best := time.Duration(1 << 62)
	groups := [][]int{}
	var put func(i int)
	put = func(i int) {
		if i == len(items) {
			var sum time.Duration
			for _, g := range groups {
				first, last := 1<<30, 0
				for _, k := range g {
					first, last = min(first, items[k].first), max(last, items[k].last)
				}
				if last-first+1 > maxRegisters {
					return
				}
				sum += c.read(last - first + 1)
			}
			best = min(best, sum)
			return
		}
		for g := range groups {
			groups[g] = append(groups[g], i)
			put(i + 1)
			groups[g] = groups[g][:len(groups[g])-1]
		}
		groups = append(groups, []int{i})
		put(i + 1)
		groups = groups[:len(groups)-1]
	}
	put(0)
	return best
}

func TestNoOtherCutIsCheaper(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var items []span
		var due set
		for i := range 1 + rng.IntN(7) {
			at, width := 1+rng.IntN(200), 1+rng.IntN(2)
			items = append(items, span{0, at, at + width - 1})
			due.add(i)
		}
		c := modbusCost(modes[rng.IntN(len(modes))], time.Duration(rng.IntN(20))*time.Millisecond)
		if got, want := total(plan(items, due, c)), cheapest(items, c); got != want {
			t.Fatalf("%v: the plan takes %v, the best one %v", items, got, want)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{1, 0, 10, 2, 2, 0, 200, 1}, uint8(5))
	f.Fuzz(func(t *testing.T, data []byte, turnaround uint8) {
		var items []span
		var due set
		for at := 1; len(data) >= 3 && len(items) < maxItems; data = data[3:] {
			at += int(data[1])
			width := 1 + int(data[0]&1)
			block := int(data[2]) % 4
			// A block is a range of its own: keep them apart.
			first := block*40000 + at
			if data[0]&2 != 0 {
				due.add(len(items))
			}
			items = append(items, span{block, first, first + width - 1})
		}
		checkPlan(t, items, due, modbusCost(fieldbus.Default, time.Duration(turnaround)*time.Millisecond))
	})
}
