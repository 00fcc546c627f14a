package modbus

import (
	"errors"
	"time"

	gomodbus "github.com/goburrow/modbus"
)

// A read is widened within its block so that its answer looks like no other. A
// device may serve the registers that are wanted and refuse those beside them.
// Then it is not the read that is refused, but the width: the same registers are
// asked for without the others at once, and a way that is refused again and again
// is left out for a while.
const (
	tooWideAfter = 3         // refusals in a row; a device that restarts refuses everything for some seconds
	tooWideFor   = time.Hour // then the way is tried again
)

// widths are what a device refused of the ways to make reads that it serves.
type widths map[Variant]struct {
	refused int // times in a row
	last    time.Time
}

func (w widths) refuses(v Variant, now time.Time) bool {
	s := w[v]
	return s.refused >= tooWideAfter && now.Sub(s.last) < tooWideFor
}

func (w widths) refused(v Variant, now time.Time) {
	s := w[v]
	s.refused, s.last = s.refused+1, now
	w[v] = s
}

// served takes in that a device answered v, and refused the wider ways before it.
func (d *device) served(v Variant, tooWide []Variant, now time.Time) {
	delete(d.widths, v)
	for _, w := range tooWide {
		if d.widths == nil {
			d.widths = widths{}
		}
		d.widths.refused(w, now)
	}
}

// usable tells whether r may be made as v now.
func (d *device) usable(r *Request, v Variant, now time.Time) bool {
	return !d.widths.refuses(v, now) && (r.most == 0 || int(v.Count) <= r.most)
}

// planned tells whether one of the ways that r was given may be used now.
func (d *device) planned(r *Request, now time.Time) bool {
	for _, v := range r.Variants {
		if d.usable(r, v, now) {
			return true
		}
	}
	return false
}

// narrower tells whether a refusal of v may be about the registers beside those of
// r only, and then bounds r to the narrowest of its ways, or after that to nothing
// beside it.
func (d *device) narrower(r *Request, v Variant, err error, now time.Time) bool {
	var e *gomodbus.ModbusError
	if int(v.Count) == r.Count || !errors.As(err, &e) || e.ExceptionCode != IllegalAddress && e.ExceptionCode != IllegalValue {
		return false
	}
	most := int(v.Count)
	for _, w := range r.Variants {
		if d.usable(r, w, now) {
			most = min(most, int(w.Count))
		}
	}
	if most == int(v.Count) {
		most = r.Count
	}
	r.most = most
	return true
}
