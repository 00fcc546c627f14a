package physics

import (
	"math"
	"time"
)

// control moves the wanted frequency so that the feedback goes to the set-point.
func (p *Plant) control(s Settings, seconds float64) {
	m := &p.m
	target, feedback, sense := p.compare(s)
	p.target, p.feedback = target, feedback
	if p.feedTrouble {
		p.feedback = math.NaN()
	}
	highest := p.highest()
	switch {
	case s.Operation == RunMin:
		p.want = m.MinFrequency
	case s.Operation == RunMax:
		p.want = m.MaxFrequency
	case sense == 0:
		p.want = target
	case p.feedTrouble: // nothing to go by: stay
	case highest == 0:
		p.want, p.lastError = m.MinFrequency, 0
	default:
		e := sense * (target - feedback)
		if p.tuning.Inverse {
			e = -e
		}
		p.want += p.tuning.Gain*(e-p.lastError) + e*seconds/p.tuning.Integral.Seconds()
		p.lastError = e
		// No further ahead of the motor than the ramp follows in a moment.
		const ahead = 0.1
		p.want = min(max(p.want, highest-ahead), highest+ahead)
	}
	p.limitFlow(seconds)
	p.want = min(max(p.want, m.MinFrequency), m.MaxFrequency, max(p.flowLimit, m.MinFrequency))
}

func (p *Plant) highest() (f float64) {
	for _, d := range p.drives {
		f = max(f, d.frequency)
	}
	return f
}

// compare says what the controller steers by: target and feedback as shares of
// the sensor's range, and whether more speed raises (1) or lowers (-1) the
// feedback. An open loop (0) has a frequency for a target.
func (p *Plant) compare(s Settings) (target, feedback, sense float64) {
	m := &p.m
	q := p.flow()
	feedback = p.head / float64(m.HeadRange)
	target = s.Setpoint
	switch s.Control {
	case ConstantSpeed, ConstantFrequency:
		return target, feedback, 0
	case ProportionalPressure:
		target *= 0.5 + 0.5*min(q/float64(m.BestFlow), 1)
	case Automatic, AutomaticFlowLimited: // it finds its own proportional curve
		target = 0.55 * (0.5 + 0.5*min(q/float64(m.BestFlow), 1))
	case AutomaticConstantPressure:
		target = 0.5
	case ConstantFlow:
		feedback = q / float64(m.FlowRange)
	case ConstantTemperature: // of what comes back: more flow, less cooling
		feedback = p.returned / 100
	case ConstantTemperatureDiff: // more flow, less difference
		return target, (p.liquid - p.returned) / 50, -1
	}
	return target, feedback, 1
}

// limitFlow lowers the highest frequency while more flows than may.
func (p *Plant) limitFlow(seconds float64) {
	if p.maxFlow <= 0 {
		p.flowLimit = p.m.MaxFrequency
		return
	}
	excess := p.flow()/float64(p.maxFlow) - 1
	if excess > 0 {
		p.flowLimit = min(p.flowLimit, p.want)
	}
	p.flowLimit = min(max(p.flowLimit-0.5*excess*seconds, p.m.MinFrequency), p.m.MaxFrequency)
}

func (p *Plant) flowLimited() bool {
	return p.maxFlow > 0 && p.flowLimit < p.m.MaxFrequency && p.want >= p.flowLimit-0.005
}

// stage chooses which pumps run. A single pump runs when it is told to. A set
// starts another pump when those that run are at their limit, stops one when
// they are far from it, prefers those that have run least, and replaces one that
// has failed.
func (p *Plant) stage(s Settings) {
	runs := s.On && s.Operation != RunStop
	if len(p.drives) == 1 {
		p.on[0] = runs
		return
	}
	p.staged += Grid
	wanted := 0
	for i := range p.on {
		p.on[i] = p.on[i] && runs && p.drives[i].struck == 0
		if p.on[i] {
			wanted++
		}
	}
	const settle = 8 * time.Second
	switch highest := p.highest(); {
	case !runs:
		return
	case wanted == 0 || s.Operation == RunMax:
		wanted = max(1, wanted)
		if s.Operation == RunMax {
			wanted = len(p.drives)
		}
	case p.staged < settle:
	case p.exhausted() && p.target-p.feedback > 0.01:
		wanted++
	case highest < 0.62*p.m.MaxFrequency && wanted > 1:
		wanted--
	}
	p.use(min(wanted, p.available()))
}

// exhausted tells whether every pump that runs is at its limit.
func (p *Plant) exhausted() bool {
	for i, d := range p.drives {
		if p.on[i] && d.frequency < min(d.limit, 0.97*p.m.MaxFrequency)-0.005 {
			return false
		}
	}
	return true
}

func (p *Plant) available() (n int) {
	for _, d := range p.drives {
		if d.struck == 0 {
			n++
		}
	}
	return n
}

// use starts or stops pumps until so many run.
func (p *Plant) use(wanted int) {
	for {
		running, least, most := 0, -1, -1
		for i, d := range p.drives {
			switch {
			case p.on[i]:
				running++
				if most < 0 || d.running > p.drives[most].running {
					most = i
				}
			case d.struck == 0:
				if least < 0 || d.running < p.drives[least].running {
					least = i
				}
			}
		}
		switch {
		case running < wanted && least >= 0:
			p.on[least] = true
		case running > wanted && most >= 0:
			p.on[most] = false
		default:
			return
		}
		p.staged = 0
	}
}
