package wire

import "penstock/internal/telemetry"

// A pump that does not answer fails for a whole frame at once, and a late frame
// makes all its series late: neighbours in the catalogue, slot after slot. So
// exceptions are written as rectangles.

// appendMarks writes what is not simply good. It takes each row of neighbours
// with one quality and stretches it over the following slots. Cells that are
// covered are set to good: sealing uses the block up.
func (b *Builder) appendMarks(dst []byte, u *run, width int) []byte {
	for k := range u.slots {
		for s := 0; s < width; {
			q := u.cells[k*width+s].quality
			if q == telemetry.Good {
				s++
				continue
			}
			n := 1
			for s+n < width && u.cells[k*width+s+n].quality == q {
				n++
			}
			rows := 1
			for k+rows < u.slots && rowIs(u.cells[(k+rows)*width+s:][:n], q) {
				rows++
			}
			for i := range rows {
				row := u.cells[(k+i)*width+s:][:n]
				for j := range row {
					row[j].quality = telemetry.Good
				}
			}
			m := appendUint(b.mark[:0], 1, uint64(q))
			m = appendUint(m, 2, uint64(s))
			m = appendUint(m, 3, unlessOneU(n))
			m = appendUint(m, 4, uint64(k))
			m = appendUint(m, 5, unlessOneU(rows))
			dst, b.mark = appendBytes(dst, 6, m), m
			s += n
		}
	}
	return dst
}

func rowIs(cells []cell, q telemetry.Quality) bool {
	for _, c := range cells {
		if c.quality != q {
			return false
		}
	}
	return true
}

func unlessOneU(n int) uint64 {
	if n == 1 {
		return 0
	}
	return uint64(n)
}

// exceptions packs the readings off their slot, series by series so that the
// columns hardly move: neighbours with the same offset as one row. It returns the
// number of rows.
func (b *Builder) exceptions(u *run, width int) int {
	for i := range b.col {
		b.col[i] = b.col[i][:0]
	}
	for s := range width {
		for k := range u.slots {
			row := u.cells[k*width:][:width]
			off := row[s].off
			if off == 0 {
				continue
			}
			n := 0
			for s+n < width && row[s+n].off == off {
				row[s+n].off = 0
				n++
			}
			for i, v := range [4]int64{int64(s), int64(n), int64(k), int64(off)} {
				b.col[i] = append(b.col[i], v)
			}
		}
	}
	for _, col := range b.col {
		b.columns.Column(col)
	}
	return len(b.col[0])
}
