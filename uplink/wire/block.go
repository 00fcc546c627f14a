package wire

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"penstock/internal/telemetry"
	"penstock/uplink/wire/columns"
)

// MaxBlock bounds a block's body. It is well below MaxRecord so that the
// slowest link (2 kB/s on a bad 2G fallback) carries a block within the
// session's patience, and a block that reaches it is merely sealed early.
const MaxBlock = 64 << 10

// maxFill is how many absent cells a run is extended over; more than that are
// dearer than the header of a new run.
const maxFill = 24

const absent = telemetry.Quality(4) // QUALITY_ABSENT

// Builder gathers the readings of one reporting period and seals them as the
// body of a block. It is owned by one goroutine.
//
// Readings may come in any order. Slots are kept to the millisecond. A reading
// of a slot that already has one is kept too, in a run of its own.
type Builder struct {
	cat  *Catalogue
	from int64 // Unix milliseconds
	runs []run // those in use; the rest of the capacity keeps its cells for reuse
	size int   // upper bound of the body
	n    int

	columns                 columns.Encoder
	out, packed, part, mark []byte // scratch
	col                     [4][]int64
}

// run is a grid of consecutive slots of one group.
type run struct {
	group int
	first int64 // Unix milliseconds of slot 0
	slots int
	cells []cell // slot-major: cells[slot*series+i]
}

type cell struct {
	raw     int64
	off     int32 // milliseconds, 0 within telemetry.LateTolerance
	quality telemetry.Quality
}

// hasValue tells whether raw counts.
func (c cell) hasValue() bool {
	return c.quality.HasValue()
}

// NewBuilder makes a builder of blocks under the catalogue. Open it before the
// first Add.
func NewBuilder(c *Catalogue) *Builder {
	return &Builder{cat: c, size: headSize}
}

// Worst-case sizes in bytes of what a body is made of.
const (
	headSize  = 10 + 11 + 11
	runSize   = 6 + 6 + 11 + 6 + 6 + 6
	markSize  = 2 + 2 + 4*6
	exactSize = 3 * 5 * 2
)

// Open starts a block that answers for the time from from on, and forgets what
// was not sealed.
func (b *Builder) Open(from time.Time) {
	b.from, b.runs, b.size, b.n = from.UnixMilli(), b.runs[:0], headSize, 0
}

// Len is the number of readings in the open block.
func (b *Builder) Len() int { return b.n }

// Add takes a reading. It reports whether there is room for more: when it
// answers false, seal the block and open the next. Group and Series must be of
// the builder's catalogue; others panic as an index out of range does.
func (b *Builder) Add(r telemetry.Reading) (room bool) {
	group := &b.cat.groups[r.Group]
	_ = group.Series[r.Series]
	slot, period := r.Slot.UnixMilli(), group.Period.Milliseconds()
	u, k := b.place(r.Group, r.Series, slot, period, len(group.Series))
	c := cell{quality: r.Quality}
	if c.hasValue() {
		c.raw = r.Raw
	}
	if off := r.Off.Round(time.Millisecond); off > telemetry.LateTolerance || off < -telemetry.LateTolerance {
		c.off = int32(max(min(off.Milliseconds(), maxOff), -maxOff))
		b.size += exactSize
	}
	if c.quality != telemetry.Good {
		b.size += markSize
	}
	// A delta of this cell, and one of the next if it is there already.
	b.size += u.deltaSize(k, r.Series, len(group.Series), c.raw)
	u.cells[k*len(group.Series)+r.Series] = c
	if k+1 < u.slots {
		b.size += 10
	}
	b.n++
	return b.size < MaxBlock
}

// maxOff is the furthest that a reading can be off its slot, 24 days.
const maxOff = 1<<31 - 1

func deltaSize(from, to int64) int {
	return protowire.SizeVarint(protowire.EncodeZigZag(to - from))
}

// deltaSize bounds the size of the delta of slot k, should its value be raw.
func (u *run) deltaSize(k, series, width int, raw int64) int {
	for back := 1; back <= 8 && k >= back; back++ {
		if c := u.cells[(k-back)*width+series]; c.hasValue() {
			return deltaSize(c.raw, raw)
		}
	}
	return 10
}

// place finds the run and slot of a reading, and makes them if need be.
func (b *Builder) place(group, series int, slot, period int64, width int) (*run, int) {
	for i := len(b.runs) - 1; i >= 0; i-- {
		u := &b.runs[i]
		d := slot - u.first
		if u.group != group || d < 0 || d%period != 0 {
			continue
		}
		k := d / period
		if k < int64(u.slots) {
			if u.cells[int(k)*width+series].quality == absent {
				return u, int(k)
			}
			continue
		}
		if skipped := k - int64(u.slots); skipped == 0 || skipped*int64(width) <= maxFill {
			b.extend(u, int(k)+1, width)
			return u, int(k)
		}
	}
	if len(b.runs) < cap(b.runs) {
		b.runs = b.runs[:len(b.runs)+1]
	} else {
		b.runs = append(b.runs, run{})
	}
	u := &b.runs[len(b.runs)-1]
	u.group, u.first, u.slots, u.cells = group, slot, 0, u.cells[:0]
	b.size += runSize
	b.extend(u, 1, width)
	return u, 0
}

// extend makes u that many slots long. An absent cell costs a zero delta, and
// its share of a mark.
func (b *Builder) extend(u *run, slots, width int) {
	b.size += (slots-u.slots)*(width+markSize) + markSize
	for n := slots * width; len(u.cells) < n; {
		u.cells = append(u.cells, cell{quality: absent})
	}
	u.slots = slots
}

// Seal ends the block at to and returns its body, valid until the next Seal. It
// uses the open block up: Open the next.
func (b *Builder) Seal(to time.Time) []byte {
	out := appendBytes(b.out[:0], 1, b.cat.Name[:])
	out = appendSint(out, 2, b.from)
	out = appendUint(out, 3, uint64(max(to.UnixMilli()-b.from, 0)))
	b.columns.Start(b.packed[:0])
	for i := range b.runs {
		b.part = b.appendRun(b.part[:0], &b.runs[i])
		out = appendBytes(out, 4, b.part)
	}
	b.packed = b.columns.Finish()
	if len(b.packed) > 0 {
		out = appendBytes(out, 5, b.packed)
	}
	b.out = out
	return out
}

// appendRun appends the run and packs its columns.
func (b *Builder) appendRun(dst []byte, u *run) []byte {
	width := len(b.cat.groups[u.group].Series)
	dst = appendUint(dst, 1, uint64(u.group))
	dst = appendSint(dst, 2, u.first-b.from)
	dst = appendUint(dst, 4, uint64(u.slots))
	for s := range width {
		col, last := b.col[0][:0], int64(0)
		for k := range u.slots {
			if c := u.cells[k*width+s]; c.hasValue() {
				last = c.raw
			}
			col = append(col, last)
		}
		b.columns.Column(col)
		b.col[0] = col
	}
	dst = b.appendMarks(dst, u, width)
	dst = appendUint(dst, 8, uint64(width))
	return appendUint(dst, 9, uint64(b.exceptions(u, width)))
}
