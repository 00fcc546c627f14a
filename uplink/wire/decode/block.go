package decode

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
	"penstock/uplink/wire/columns"
	"penstock/uplink/wire/wirepb"
)

// Block is a decoded block. Its runs need the catalogue only for periods that
// the block leaves to it, and for what the integers mean.
type Block struct {
	Catalogue wire.Name
	From, To  time.Time // it answers for [From, To)
	// Unsure is how far all its times may be off together, either way: the gateway
	// did not know the time.
	Unsure time.Duration
	Runs   []Run
}

// Run is a grid of consecutive slots of one group.
type Run struct {
	Group  int
	First  time.Time     // of slot 0
	Period time.Duration // 0: the group's own
	Slots  int
	Series int // how many series the group has
	cells  []Cell
}

// Cell is one series in one slot.
type Cell struct {
	Raw     int64
	Off     time.Duration // actual time less the slot's, 0 within telemetry.LateTolerance
	Quality telemetry.Quality
	Absent  bool // the block says nothing here
}

// At is the cell of a series in a slot.
func (r *Run) At(series, slot int) Cell { return r.cells[series*r.Slots+slot] }

// Readings counts the cells that are not absent.
func (b *Block) Readings() (n int) {
	for i := range b.Runs {
		for _, c := range b.Runs[i].cells {
			if !c.Absent {
				n++
			}
		}
	}
	return n
}

// ParseBlock reads a body of wire.KindBlock.
func ParseBlock(body []byte) (*Block, error) {
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	b := &Block{}
	if err := p.block(b, body); err != nil {
		return nil, err
	}
	p.cells = nil // they are the block's
	return b, nil
}

// CheckBlock reads a block as ParseBlock does and tells what use is told of it:
// the block is valid only until use returns.
func CheckBlock(body []byte, use func(*Block)) error {
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	if err := p.block(&p.checked, body); err != nil {
		return err
	}
	use(&p.checked)
	return nil
}

// parser has what reading a block takes and is far larger than it; it is used
// again.
type parser struct {
	columns columns.Decoder
	deltas  []int64
	cells   []Cell
	checked Block
}

var parsers = sync.Pool{New: func() any { return new(parser) }}

// block reads body into b, whose cells are p's.
func (p *parser) block(b *Block, body []byte) error {
	if len(body) > wire.MaxRecord {
		return fmt.Errorf("block: %d bytes, more than %d", len(body), wire.MaxRecord)
	}
	var pb wirepb.Block
	if err := proto.Unmarshal(body, &pb); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	if copy(b.Catalogue[:], pb.Catalogue) != len(b.Catalogue) || len(pb.Catalogue) != len(b.Catalogue) {
		return fmt.Errorf("block: the catalogue's name has %d bytes, not 8", len(pb.Catalogue))
	}
	var err error
	if b.From, err = instant(pb.FromMs); err != nil {
		return fmt.Errorf("block: from: %w", err)
	}
	if pb.LengthMs > uint64(maxPeriod.Milliseconds()) {
		return fmt.Errorf("block: a length of %d ms", pb.LengthMs)
	}
	b.To = b.From.Add(time.Duration(pb.LengthMs) * time.Millisecond)
	b.Unsure = unsure(pb.UnsureMs)
	if len(pb.Columns) > 0 {
		if err := p.unpack(&pb); err != nil {
			return fmt.Errorf("block: %w", err)
		}
	}
	cells := 0
	for _, r := range pb.Runs {
		cells += len(r.Deltas)
	}
	p.cells = slices.Grow(p.cells[:0], cells)[:cells]
	rest := p.cells
	b.Runs = slices.Grow(b.Runs[:0], len(pb.Runs))
	for i, r := range pb.Runs {
		n := len(r.Deltas)
		run, err := parseRun(pb.FromMs, r, rest[:n:n])
		if err != nil {
			return fmt.Errorf("block: run %d: %w", i, err)
		}
		rest = rest[n:]
		b.Runs = append(b.Runs, run)
	}
	return nil
}

// unpack puts the packed columns where runs have them in a block without.
func (p *parser) unpack(pb *wirepb.Block) error {
	cells, deltas := uint64(0), uint64(0)
	for i, r := range pb.Runs {
		if len(r.Deltas) > 0 || r.Exact != nil {
			return fmt.Errorf("run %d has columns of its own beside those of the block", i)
		}
		if r.Series == 0 || r.Slots == 0 {
			return fmt.Errorf("run %d: %d series of %d slots", i, r.Series, r.Slots)
		}
		deltas += uint64(r.Series) * uint64(r.Slots)
		cells += uint64(r.Series)*uint64(r.Slots) + 4*uint64(r.ExactRows)
		if cells > wire.MaxCells {
			return fmt.Errorf("run %d: more than %d numbers", i, wire.MaxCells)
		}
	}
	if deltas > wire.CellsPerByte*uint64(len(pb.Columns)) {
		return fmt.Errorf("%d readings stated in %d bytes", deltas, len(pb.Columns))
	}
	p.columns.Start(pb.Columns)
	column := func(deltas []int64) {
		p.columns.Column(deltas)
		for i := len(deltas) - 1; i > 0; i-- {
			deltas[i] -= deltas[i-1]
		}
	}
	p.deltas = slices.Grow(p.deltas[:0], int(deltas))[:deltas]
	rest := p.deltas
	for _, r := range pb.Runs {
		n := int(r.Series) * int(r.Slots)
		r.Deltas, rest = rest[:n:n], rest[n:]
		for s := range int(r.Series) {
			column(r.Deltas[s*int(r.Slots):][:r.Slots])
		}
		if n := int(r.ExactRows); n > 0 {
			r.Exact = &wirepb.Exact{Series: make([]int64, n), SeriesCount: make([]int64, n), Slot: make([]int64, n), OffMs: make([]int64, n)}
			for _, col := range [][]int64{r.Exact.Series, r.Exact.SeriesCount, r.Exact.Slot, r.Exact.OffMs} {
				column(col)
			}
		}
	}
	if n := p.columns.Unread(); n > 0 {
		return fmt.Errorf("%d bytes behind the last column", n)
	}
	return nil
}

// parseRun reads a run into cells, one for each of its deltas.
func parseRun(from int64, pb *wirepb.Run, cells []Cell) (Run, error) {
	n, slots := len(pb.Deltas), int(pb.Slots)
	if pb.Group > math.MaxInt16 {
		return Run{}, fmt.Errorf("group %d", pb.Group)
	}
	// More slots than deltas may be more than an int holds on a 32-bit machine.
	if pb.Slots == 0 || n == 0 || uint64(pb.Slots) > uint64(n) || n%slots != 0 {
		return Run{}, fmt.Errorf("%d deltas are no whole number of series of %d slots", n, pb.Slots)
	}
	if pb.PeriodMs > uint64(maxPeriod.Milliseconds()) {
		return Run{}, fmt.Errorf("a period of %d ms", pb.PeriodMs)
	}
	first, err := instant(from + pb.FirstMs)
	if err != nil {
		return Run{}, fmt.Errorf("slot 0: %w", err)
	}
	r := Run{
		Group: int(pb.Group), First: first, Period: time.Duration(pb.PeriodMs) * time.Millisecond,
		Slots: slots, Series: n / slots, cells: cells,
	}
	for s := range r.Series {
		raw := int64(0)
		for k := range slots {
			raw += pb.Deltas[s*slots+k]
			r.cells[s*slots+k] = Cell{Raw: raw}
		}
	}
	for i, m := range pb.Marks {
		if err := r.mark(m); err != nil {
			return Run{}, fmt.Errorf("mark %d: %w", i, err)
		}
	}
	if pb.Exact != nil {
		if err := r.exact(pb.Exact); err != nil {
			return Run{}, fmt.Errorf("exact times: %w", err)
		}
	}
	return r, nil
}

// rectangle visits the cells of count series from series on, in the slots
// from slot on. A visit that answers false ends it.
func (r *Run) rectangle(series, seriesCount, slot, slotCount uint64, visit func(*Cell) bool) error {
	if series >= uint64(r.Series) || seriesCount > uint64(r.Series)-series || slot >= uint64(r.Slots) || slotCount > uint64(r.Slots)-slot {
		return fmt.Errorf("series %d+%d of %d, slot %d+%d of %d", series, seriesCount, r.Series, slot, slotCount, r.Slots)
	}
	for s := series; s < series+seriesCount; s++ {
		for k := slot; k < slot+slotCount; k++ {
			if !visit(&r.cells[int(s)*r.Slots+int(k)]) {
				return fmt.Errorf("series %d, slot %d is named twice", s, k)
			}
		}
	}
	return nil
}

// mark applies m. Marks must not overlap, so that the work is bounded by the
// number of cells.
func (r *Run) mark(m *wirepb.Mark) error {
	var c Cell
	switch m.Quality {
	case wirepb.Quality_QUALITY_NOT_AVAILABLE, wirepb.Quality_QUALITY_STALE, wirepb.Quality_QUALITY_MISSING,
		wirepb.Quality_QUALITY_DOUBTFUL:
		c.Quality = telemetry.Quality(m.Quality)
	case wirepb.Quality_QUALITY_ABSENT:
		c.Absent = true
	default:
		return fmt.Errorf("quality %d", m.Quality)
	}
	return r.rectangle(uint64(m.Series), uint64(max(m.SeriesCount, 1)), uint64(m.Slot), uint64(max(m.SlotCount, 1)), func(cell *Cell) bool {
		fresh := cell.Quality == telemetry.Good && !cell.Absent
		if c.Quality.HasValue() {
			c.Raw = cell.Raw
		} else {
			c.Raw = 0
		}
		*cell = c
		return fresh
	})
}

func (r *Run) exact(e *wirepb.Exact) error {
	n := len(e.Series)
	if len(e.SeriesCount) != n || len(e.Slot) != n || len(e.OffMs) != n {
		return fmt.Errorf("columns of %d, %d, %d and %d rows", n, len(e.SeriesCount), len(e.Slot), len(e.OffMs))
	}
	var series, count, slot, off int64
	for i := range n {
		series, count, slot, off = series+e.Series[i], count+e.SeriesCount[i], slot+e.Slot[i], off+e.OffMs[i]
		if off == 0 || off > math.MaxInt32 || off < -math.MaxInt32 || count <= 0 {
			return fmt.Errorf("row %d: %d series %d ms off", i, count, off)
		}
		// A negative number becomes one that is out of range.
		err := r.rectangle(uint64(series), uint64(count), uint64(slot), 1, func(c *Cell) bool {
			fresh := c.Off == 0
			c.Off = time.Duration(off) * time.Millisecond
			return fresh
		})
		if err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

// All lists the block's readings, run by run, slot by slot, series by series.
// groups are those of the catalogue that the block names.
func (b *Block) All(groups []telemetry.Group) ([]telemetry.Reading, error) {
	for i := range b.Runs {
		if err := b.Runs[i].fits(groups); err != nil {
			return nil, fmt.Errorf("block: run %d: %w", i, err)
		}
	}
	readings := make([]telemetry.Reading, 0, b.Readings())
	for i := range b.Runs {
		r := &b.Runs[i]
		period := r.period(groups)
		for k := range r.Slots {
			slot := r.First.Add(time.Duration(k) * period)
			for s := range r.Series {
				if c := r.At(s, k); !c.Absent {
					readings = append(readings, telemetry.Reading{
						Group: r.Group, Series: s, Slot: slot, Off: c.Off, Raw: c.Raw, Quality: c.Quality, Unsure: b.Unsure,
					})
				}
			}
		}
	}
	return readings, nil
}

// Each calls visit for the readings of one series of a group, run by run, slot by
// slot, and makes no list of the others. groups are those of the catalogue that the
// block names.
func (b *Block) Each(groups []telemetry.Group, group, series int, visit func(telemetry.Reading)) error {
	for i := range b.Runs {
		if err := b.Runs[i].fits(groups); err != nil {
			return fmt.Errorf("block: run %d: %w", i, err)
		}
	}
	for i := range b.Runs {
		r := &b.Runs[i]
		if r.Group != group {
			continue
		}
		period := r.period(groups)
		for k := range r.Slots {
			if c := r.At(series, k); !c.Absent {
				visit(telemetry.Reading{Group: group, Series: series, Slot: r.First.Add(time.Duration(k) * period),
					Off: c.Off, Raw: c.Raw, Quality: c.Quality, Unsure: b.Unsure})
			}
		}
	}
	return nil
}

// Newest calls visit for the newest reading of each series that is not after limit,
// and beyond for the time of each series' latest reading that is. groups are those of
// the catalogue that the block names.
func (b *Block) Newest(groups []telemetry.Group, limit time.Time, visit func(telemetry.Reading), beyond func(time.Time)) error {
	for i := range b.Runs {
		if err := b.Runs[i].fits(groups); err != nil {
			return fmt.Errorf("block: run %d: %w", i, err)
		}
	}
	for i := range b.Runs {
		r := &b.Runs[i]
		period := r.period(groups)
		for s := range r.Series {
			var newest telemetry.Reading
			var newestTime, ahead time.Time
			for k := range r.Slots {
				c := r.At(s, k)
				if c.Absent {
					continue
				}
				m := telemetry.Reading{Group: r.Group, Series: s, Slot: r.First.Add(time.Duration(k) * period),
					Off: c.Off, Raw: c.Raw, Quality: c.Quality, Unsure: b.Unsure}
				switch at := m.Time(); {
				case at.After(limit):
					if at.After(ahead) {
						ahead = at
					}
				case newestTime.IsZero() || at.After(newestTime):
					newest, newestTime = m, at
				}
			}
			if !newestTime.IsZero() {
				visit(newest)
			}
			if !ahead.IsZero() {
				beyond(ahead)
			}
		}
	}
	return nil
}

// Cells is how many cells the block has, with or without a reading.
func (b *Block) Cells() (n int) {
	for i := range b.Runs {
		n += len(b.Runs[i].cells)
	}
	return n
}

// Span is the time that the block covers: what it answers for, and any reading of its
// that lies outside of that. groups are those of the catalogue that the block names;
// of a run that does not fit them only the first slot is known.
func (b *Block) Span(groups []telemetry.Group) (earliest, latest time.Time) {
	earliest, latest = b.From, b.To
	for i := range b.Runs {
		r := &b.Runs[i]
		slots, period := 1, time.Duration(0)
		if r.fits(groups) == nil {
			slots, period = r.Slots, r.period(groups)
		}
		for k := range slots {
			slot := r.First.Add(time.Duration(k) * period)
			for s := range r.Series {
				c := r.At(s, k)
				if c.Absent {
					continue
				}
				at := slot.Add(c.Off)
				if at.Before(earliest) {
					earliest = at
				}
				if at.After(latest) {
					latest = at
				}
			}
		}
	}
	return earliest, latest
}

func (r *Run) period(groups []telemetry.Group) time.Duration {
	if r.Period != 0 {
		return r.Period
	}
	return groups[r.Group].Period
}

// fits checks the run against the catalogue.
func (r *Run) fits(groups []telemetry.Group) error {
	if r.Group >= len(groups) {
		return fmt.Errorf("the catalogue has no group %d", r.Group)
	}
	if n := len(groups[r.Group].Series); n != r.Series {
		return fmt.Errorf("%d series; the catalogue's group %d has %d", r.Series, r.Group, n)
	}
	end := time.UnixMilli(253402300800000)
	if int64(r.Slots) > int64(end.Sub(r.First)/r.period(groups)) {
		return fmt.Errorf("%d slots of %v reach beyond the year 9999", r.Slots, r.period(groups))
	}
	return nil
}
