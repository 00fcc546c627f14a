package lab

import (
	"fmt"
	"slices"
	"time"

	"penstock/internal/telemetry"
)

// Served is one answer that a virtual pump gave, in the words of the point
// vocabulary: what a perfect gateway would have stored.
type Served struct {
	Key     SeriesKey
	Asked   time.Time // when the request had arrived
	Sampled time.Time // when the pump took the value
	Raw     int64
	Quality telemetry.Quality // Good or NotAvailable
	// Repeated marks an answer to a repetition of the request before it: at
	// most one of the two is used, unless the first was given up.
	Repeated bool
	// Late: the answer came so late that the gateway may have given it up, and need
	// not have said so where it had promised nothing.
	Late bool
	// Aside: the gateway may have read it for its own sake, and need not report it.
	Aside bool
	// PerhapsAbsent: the value is Raw, or the pump says that it has none.
	PerhapsAbsent bool
}

// SeriesKey names one point of one pump.
type SeriesKey struct{ Pump, Point string }

// Stored is one reading as the store gives it back.
type Stored struct {
	Key     SeriesKey
	Time    time.Time
	Raw     int64
	Quality telemetry.Quality
}

// Verdict is what the judge found.
type Verdict struct {
	Served    int // values that the pumps served and that were due, repetitions counted once
	Stored    int // readings in the store that carry a value or the pump's "not available"
	Wrong     int // stored, but never served, served otherwise, or older than they say
	Missing   int // served, yet neither stored nor excused
	Discarded int // answered too late or damaged; the block says so where the slot was promised
	Excused   int // named in a gap record
	Faults    []string
}

func (v *Verdict) fault(n *int, format string, args ...any) {
	*n++
	if len(v.Faults) < 20 {
		v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
	}
}

const (
	// slack is how much later than its reading's time a request may reach the
	// pump: up to telemetry.LateTolerance after its slot, more on a busy machine,
	// more when the first attempt was not heard.
	slack = 600 * time.Millisecond
	// unheard is how much later it may be when earlier attempts of the same request
	// did not reach the pump as frames, as long as no other reading comes between: a
	// reading has the time of the first attempt.
	unheard = 3 * time.Second
	// rounding: two processes tell the time, and readings carry milliseconds.
	rounding = 2 * time.Millisecond
	// wobble is how far the slots of a series may be from one another's grid: they
	// stand on the machine's uptime, and each start reckons anew, to within some
	// milliseconds, what time of day that is.
	wobble = 30 * time.Millisecond
)

// Judge compares what was served with what was stored, value by value. Each
// served value must be in the store exactly once, under the time at which it
// was asked for, or lie in a gap; each stored value must have been served.
//
// A frame may carry registers that were not due, between two that were. So of a
// series with a period, what counts is each slot: once it has its reading, other
// values served in it went by in passing. Without a period each served value
// counts.
func Judge(served []Served, stored []Stored, gaps []telemetry.Gap, periods map[SeriesKey]time.Duration) Verdict {
	var v Verdict
	attempts := map[SeriesKey][][]Served{} // answers to one request and its repetitions
	for _, s := range served {
		of := attempts[s.Key]
		if s.Repeated && len(of) > 0 {
			of[len(of)-1] = append(of[len(of)-1], s)
		} else {
			of = append(of, []Served{s})
		}
		attempts[s.Key] = of
	}
	readings := map[SeriesKey][]Stored{}
	for _, r := range stored {
		readings[r.Key] = append(readings[r.Key], r)
		if r.Quality != telemetry.Missing {
			v.Stored++
		}
	}
	grids := grids(readings, periods)
	for key, rs := range readings {
		slices.SortFunc(rs, func(a, b Stored) int { return a.Time.Compare(b.Time) })
		v.series(key, attempts[key], rs, gaps, grids[key])
		delete(attempts, key)
	}
	for key, as := range attempts {
		v.series(key, as, nil, gaps, grids[key])
	}
	return v
}

// series judges one point: both lists are in time order, so they are matched
// like the halves of a zip. Then every slot must be accounted for in which
// something was served.
func (v *Verdict) series(key SeriesKey, attempts [][]Served, readings []Stored, gaps []telemetry.Gap, g grid) {
	accounted := map[int64]bool{}
	var left [][]Served
	i := 0
	for n, r := range readings {
		// A request reaches the pump after the gateway has noted its time. Of a row
		// of repetitions the first may have been given up and a later one begun anew.
		for i < len(attempts) {
			k := afresh(attempts[i], r.Time)
			if k == 0 {
				break
			}
			if k > 0 {
				left, attempts[i] = append(left, attempts[i][:k]), attempts[i][k:]
				break
			}
			left = append(left, attempts[i])
			i++
		}
		latest := r.Time.Add(slack)
		if n+1 < len(readings) && readings[n+1].Time.Add(-rounding).After(latest) {
			latest = earlier(readings[n+1].Time.Add(-rounding), r.Time.Add(unheard))
		}
		matches := i < len(attempts) && !attempts[i][0].Asked.After(latest)
		if matches && r.Quality == telemetry.Missing && n+1 < len(readings) && wants(readings[n+1], attempts[i:]) {
			matches = false // the pump never heard of this one
		}
		if matches && r.Quality != telemetry.Missing && g.period > 0 {
			k := passed(attempts[i:], r, earlier(latest, r.Time.Add(slack)))
			left = append(left, attempts[i:i+k]...)
			i += k
		}
		switch {
		case r.Quality == telemetry.Missing && matches:
			v.Discarded++
		case r.Quality == telemetry.Missing:
			// nothing was served and nothing is claimed
		case !matches:
			v.fault(&v.Wrong, "%v at %s: %d was stored, nothing was served then", key, r.Time.Format(time.StampMilli), r.Raw)
			continue
		default:
			v.compare(key, attempts[i], r)
		}
		accounted[g.slot(r.Time)] = g.period > 0
		if !matches {
			continue
		}
		v.Served++
		if n+1 < len(readings) { // a repetition after that may be the next reading's
			if k := afresh(attempts[i], readings[n+1].Time); k > 0 {
				attempts[i] = attempts[i][k:]
				continue
			}
		}
		i++
	}
	for _, as := range append(left, attempts[i:]...) {
		k := g.slot(as[0].Asked)
		if accounted[k] {
			continue
		}
		if !g.sure && read(readings, as[0].Asked, g.period) {
			continue
		}
		accounted[k] = g.period > 0
		v.Served++
		v.unstored(key, as, gaps)
	}
}

// wants tells whether a reading that carries a value would be left without an
// answer if it did not get the first of these.
func wants(r Stored, attempts [][]Served) bool {
	return r.Quality != telemetry.Missing && !attempts[0][0].Asked.Before(r.Time.Add(-rounding)) &&
		(len(attempts) == 1 || attempts[1][0].Asked.After(r.Time.Add(slack)))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// afresh is the first of some attempts that may have been begun at t; -1: none.
func afresh(attempts []Served, t time.Time) int {
	return slices.IndexFunc(attempts, func(s Served) bool { return !s.Asked.Before(t.Add(-rounding)) })
}

// read tells whether there is a reading of a time up to a period before asked.
func read(readings []Stored, asked time.Time, period int64) bool {
	return slices.ContainsFunc(readings, func(r Stored) bool {
		d := asked.Sub(r.Time) + rounding
		return d >= 0 && int64(d) < period
	})
}

// grid is where the slots of a series lie: at at + k·period. Of a series that was
// read a few times only, after starts perhaps, that is a guess.
type grid struct {
	at, period int64
	sure       bool
}

// slot numbers the slot that a time lies in.
func (g grid) slot(t time.Time) int64 {
	if g.period == 0 {
		return 0
	}
	return (t.UnixNano() + int64(wobble) - g.at) / g.period
}

// grids finds the grid of each series in its readings. A few carry exact times of
// their own, such as the first after a start, and of a slow series these can be as
// many as those on the grid. But the slots of a pump's groups are a whole number
// of its shortest period apart, and of that there are readings enough.
func grids(readings map[SeriesKey][]Stored, periods map[SeriesKey]time.Duration) map[SeriesKey]grid {
	fastest := map[string]grid{} // by pump
	for key, period := range periods {
		if f, ok := fastest[key.Pump]; !ok || int64(period) < f.period {
			fastest[key.Pump] = grid{period: int64(period)}
		}
	}
	for pump, f := range fastest {
		var of []Stored
		for key, rs := range readings {
			if key.Pump == pump && int64(periods[key]) == f.period {
				of = append(of, rs...)
			}
		}
		f.at, f.sure = phase(of, f, func(Stored) bool { return true })
		fastest[pump] = f
	}
	found := map[SeriesKey]grid{}
	for key, period := range periods {
		g, f := grid{period: int64(period)}, fastest[key.Pump]
		g.at, g.sure = phase(readings[key], g, func(r Stored) bool { return (r.Time.UnixNano()-f.at)%f.period == 0 })
		found[key] = g
	}
	return found
}

// phase is where most of the readings lie that count. Where none does, because
// the run was too short, the first reading has to do. Two that agree make it sure.
func phase(of []Stored, g grid, counts func(Stored) bool) (best int64, sure bool) {
	seen := map[int64]int{}
	if len(of) > 0 {
		best = of[0].Time.UnixNano() % g.period
	}
	for _, r := range of {
		if counts(r) {
			p := r.Time.UnixNano() % g.period
			if seen[p]++; seen[p] > seen[best] {
				best = p
			}
		}
	}
	return best, seen[best] >= 2
}

// passed tells how many answers went by before the one that a reading is from: a
// frame of another group carried the same registers a moment before. An answer
// that the reading cannot be from is none of them, if it is the only one.
func passed(attempts [][]Served, r Stored, latest time.Time) int {
	for k, as := range attempts {
		if as[0].Asked.After(latest) {
			break
		}
		if answers(as, r) {
			return k
		}
	}
	return 0
}

// answers tells whether a reading can be from one of these answers.
func answers(attempts []Served, r Stored) bool {
	return slices.ContainsFunc(attempts, func(s Served) bool {
		if s.PerhapsAbsent && r.Quality == telemetry.NotAvailable {
			return !s.Sampled.Before(r.Time.Add(-rounding))
		}
		q := r.Quality
		if q == telemetry.Doubtful { // a value of the pump, and a remark
			q = telemetry.Good
		}
		return s.Quality == q && (s.Raw == r.Raw || r.Quality == telemetry.NotAvailable) && !s.Sampled.Before(r.Time.Add(-rounding))
	})
}

func (v *Verdict) compare(key SeriesKey, attempts []Served, r Stored) {
	if !answers(attempts, r) {
		v.fault(&v.Wrong, "%v at %s: stored %d (%v), served %+v", key, r.Time.Format(time.StampMilli), r.Raw, r.Quality, attempts)
	}
}

func (v *Verdict) unstored(key SeriesKey, attempts []Served, gaps []telemetry.Gap) {
	if attempts[0].Aside {
		v.Served--
		return
	}
	asked := attempts[0].Asked
	if slices.ContainsFunc(gaps, func(g telemetry.Gap) bool {
		return !asked.Before(g.From.Add(-slack)) && asked.Before(g.To.Add(slack))
	}) {
		v.Excused++
		return
	}
	if !slices.ContainsFunc(attempts, func(s Served) bool { return !s.Late }) {
		v.Discarded++
		return
	}
	v.fault(&v.Missing, "%v: %d served at %s is not stored", key, attempts[0].Raw, asked.Format(time.StampMilli))
}
