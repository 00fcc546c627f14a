package physics

import "math"

func radians(rpm float64) float64 { return rpm * 2 * math.Pi / 60 }

// curve is the head curve of one impeller, H = shutoff·n² − bend·Q², with n the
// speed as a share of the nominal one.
type curve struct{ shutoff, bend, best, efficiency float64 }

func (m *Model) curve() curve {
	q := float64(m.BestFlow)
	return curve{
		shutoff:    float64(m.ShutoffHead),
		bend:       float64(m.ShutoffHead-m.BestHead) / (q * q),
		best:       q,
		efficiency: m.BestEfficiency,
	}
}

// head at a flow and a speed.
func (c curve) head(q, n float64) float64 { return c.shutoff*n*n - c.bend*q*q }

// flow that the impeller gives against a head; the check valve lets none back.
func (c curve) flow(h, n float64) float64 {
	return math.Sqrt(max(0, c.shutoff*n*n-h) / c.bend)
}

// shaft is the power that the impeller takes. Its efficiency is a parabola over
// the flow with its top at the best one, η = best·x·(2−x) with x = Q/(n·Qbest);
// the flow cancels out of ρ·g·Q·H/η, so that there is a power without flow too.
func (c curve) shaft(q, h, n float64) float64 {
	if n <= 0 {
		return 0
	}
	x := min(q/(n*c.best), 1.8)
	return density * gravity * (c.best * n / hour) * max(h, 0) / (c.efficiency * (2 - x))
}

// system is what the pipes ask for, H = static + resistance·Q².
type system struct{ static, resistance float64 }

// duty is the point where impellers in parallel, turning at the shares n of
// their nominal speed, meet the system. It returns the head and the flow of each.
func duty(c curve, n []float64, s system, flows []float64) (head float64) {
	top := 0.0 // the highest head that any of them reaches
	for _, v := range n {
		top = max(top, c.shutoff*v*v)
	}
	if top <= s.static { // nobody opens the check valve
		clear(flows)
		return top
	}
	if len(n) == 1 {
		q := math.Sqrt((top - s.static) / (c.bend + s.resistance))
		flows[0] = q
		return c.head(q, n[0])
	}
	lo, hi := s.static, top
	for range 60 {
		head = (lo + hi) / 2
		given := 0.0
		for i, v := range n {
			flows[i] = c.flow(head, v)
			given += flows[i]
		}
		if given > math.Sqrt((head-s.static)/s.resistance) {
			lo = head // more comes than the pipes take at this head: it rises
		} else {
			hi = head
		}
	}
	return head
}
