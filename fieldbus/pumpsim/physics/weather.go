package physics

import (
	"math"
	"math/rand/v2"
)

// wander is a value that strays from zero and is drawn back, an
// Ornstein–Uhlenbeck process: its deviation is spread, its memory tau seconds.
type wander struct{ x, spread, tau float64 }

func (w *wander) step(r *rand.Rand, seconds float64) {
	keep := math.Exp(-seconds / w.tau)
	w.x = w.x*keep + w.spread*math.Sqrt(1-keep*keep)*r.NormFloat64()
}

// weather is everything that changes around a pump without its doing: how far
// the consumers have opened their valves, temperatures, the mains.
type weather struct {
	r       *rand.Rand
	phase   float64 // of the slow swing of demand
	demand  wander
	liquid  wander
	ambient wander
	mains   wander
	inlet   wander
	seconds float64
}

const swing = 480.0 // seconds from one high of the demand to the next

func newWeather(seed uint64) weather {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	w := weather{
		r:       r,
		phase:   r.Float64() * 2 * math.Pi,
		demand:  wander{spread: 0.05, tau: 18},
		liquid:  wander{spread: 1.1, tau: 240},
		ambient: wander{spread: 0.8, tau: 600},
		mains:   wander{spread: 0.009, tau: 25},
		inlet:   wander{spread: 0.03, tau: 12},
	}
	for _, v := range w.all() {
		v.x = v.spread * r.NormFloat64()
	}
	return w
}

func (w *weather) all() [5]*wander {
	return [5]*wander{&w.demand, &w.liquid, &w.ambient, &w.mains, &w.inlet}
}

func (w *weather) step(seconds float64) {
	w.seconds += seconds
	for _, v := range w.all() {
		v.step(w.r, seconds)
	}
}

// opening is how far the valves of the system are open, 0 to 1.
func (w *weather) opening() float64 {
	return min(max(0.75+0.15*math.Sin(2*math.Pi*w.seconds/swing+w.phase)+w.demand.x, 0.3), 1)
}
