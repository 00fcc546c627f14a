package faultdisk

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// sectorSize is what a disk writes at once; a torn write is torn between
// sectors, or within the last.
const sectorSize = 512

// AfterCut returns the disk that is found when the power is back: all that was
// synced, and of the rest what seed chooses. The disk itself is not changed, so
// that one life can be followed by many recoveries. The new disk has no faults.
func (d *Disk) AfterCut(seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := cut{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x70656e73746f636b)), done: map[*node]*node{}}
	after := New()
	after.root = c.node(d.root)
	for _, n := range c.done {
		after.used += int64(len(n.now))
	}
	return after
}

type cut struct {
	seed uint64
	rng  *rand.Rand
	done map[*node]*node // before → after; a file may have had several names
}

// What survives of a row of operations, in the order they were made.
const (
	none   = iota
	all    // but the last is torn
	prefix // as a journal does, torn at its end
	mixed  // each for itself
	modes
)

func (c *cut) mode() int {
	switch c.seed {
	case 0:
		return none
	case 1:
		return all
	}
	return c.rng.IntN(modes)
}

func (c *cut) node(n *node) *node {
	if m := c.done[n]; m != nil {
		return m
	}
	m := &node{dir: n.dir, perm: n.perm, stamp: n.stamp}
	c.done[n] = m
	if !n.dir {
		m.safe = c.content(n)
		m.now = bytes.Clone(m.safe)
		return m
	}
	names := maps.Clone(n.safeNames)
	mode, upTo := c.mode(), 0
	if len(n.changes) > 0 {
		upTo = c.rng.IntN(len(n.changes) + 1)
	}
	for i, ch := range n.changes {
		if mode == none || mode == prefix && i >= upTo || mode == mixed && c.rng.IntN(2) == 0 {
			continue
		}
		delete(names, ch.clear)
		if ch.set != "" {
			names[ch.set] = ch.to
		}
	}
	m.names, m.safeNames = map[string]*node{}, map[string]*node{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // the same order each time: the seed alone decides
		child := c.node(names[name])
		child.links++
		m.names[name], m.safeNames[name] = child, child
	}
	return m
}

// content is a file after the cut.
func (c *cut) content(n *node) []byte {
	content := bytes.Clone(n.safe)
	mode, upTo := c.mode(), 0
	if len(n.writes) > 0 {
		upTo = c.rng.IntN(len(n.writes) + 1)
	}
	for i, w := range n.writes {
		last := i == len(n.writes)-1
		switch {
		case w.synced:
			content = w.apply(content)
		case mode == none, mode == prefix && i > upTo:
		case mode == all && !last, mode == prefix && i < upTo:
			content = w.apply(content)
		case mode == mixed:
			content = c.scatter(content, w)
		default:
			content = c.tear(content, w)
		}
	}
	return content
}

// tear does the beginning of w.
func (c *cut) tear(content []byte, w write) []byte {
	if w.truncate {
		if c.rng.IntN(2) == 0 {
			return content
		}
		return w.apply(content)
	}
	w.data = w.data[:c.rng.IntN(len(w.data)+1)]
	if len(w.data) == 0 {
		return content
	}
	return w.apply(content)
}

// scatter does some sectors of w; one that was being written may hold rubbish.
func (c *cut) scatter(content []byte, w write) []byte {
	if w.truncate {
		return c.tear(content, w)
	}
	for len(w.data) > 0 {
		n := min(int(sectorSize-w.off%sectorSize), len(w.data))
		part := write{off: w.off, data: w.data[:n]}
		switch c.rng.IntN(8) {
		case 0, 1, 2:
		case 3:
			rubbish := make([]byte, n)
			for i := range rubbish {
				rubbish[i] = byte(c.rng.Uint32())
			}
			part.data = rubbish
			fallthrough
		default:
			content = part.apply(content)
		}
		w.off, w.data = w.off+int64(n), w.data[n:]
	}
	return content
}
