package pumpsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

// What a step can bring about beside physics.Causes.
const (
	causeStale = "stale" // Pump.SetStale
	causeLocal = "local" // Pump.Force

	causeExchange = "exchange" // Pump.Exchange
)

// StepCauses are the causes that a Step can have.
func StepCauses() []string {
	return append(slices.Clone(physics.Causes), causeStale, causeLocal, causeExchange)
}

// Step brings about the cause of an alarm, makes a module stale, has somebody take
// a pump to local, or exchanges a pump for another, some time after the line was
// made, for a while, perhaps again and again.
type Step struct {
	At    time.Duration // after the line was made
	Pump  int           // address
	Cause string        // one of StepCauses
	For   time.Duration // zero: for ever
	Every time.Duration // zero: once; else from one beginning to the next
}

// validate tells what is impossible about a step but for its pump.
func (s Step) validate() error {
	switch {
	case !slices.Contains(StepCauses(), s.Cause):
		return fmt.Errorf("there is no cause %q; there are %s", s.Cause, strings.Join(StepCauses(), ", "))
	case s.At < 0 || s.For < 0 || s.Every < 0:
		return fmt.Errorf("a time before the start")
	case s.Every > 0 && s.For == 0:
		return fmt.Errorf("what comes every %v has to end: say for how long (for)", s.Every)
	case s.Every > 0 && s.For >= s.Every:
		return fmt.Errorf("it lasts for %v, and comes again every %v: there is no time between", s.For, s.Every)
	}
	return nil
}

// ParseStep reads a step as it is written on a command line,
// "ADDRESS CAUSE AT [FOR [EVERY]]" with colons between: 1:dry_running:20s:15s:2m.
func ParseStep(text string) (s Step, err error) {
	parts := strings.Split(text, ":")
	wrong := fmt.Errorf("scenario %q: write ADDRESS:CAUSE:AT[:FOR[:EVERY]], such as 1:dry_running:20s:15s:2m", text)
	if len(parts) < 3 || len(parts) > 5 {
		return s, wrong
	}
	if s.Pump, err = strconv.Atoi(parts[0]); err != nil {
		return s, wrong
	}
	s.Cause = parts[1]
	for i, at := range []*time.Duration{&s.At, &s.For, &s.Every} {
		if 2+i < len(parts) {
			if *at, err = time.ParseDuration(parts[2+i]); err != nil {
				return s, wrong
			}
		}
	}
	if err := s.validate(); err != nil {
		return s, fmt.Errorf("scenario %q: %w", text, err)
	}
	return s, nil
}

// AddStep adds a step to the line's scenario, before it runs.
func (s *Simulator) AddStep(step Step) error {
	if err := step.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.pumps, func(p *Pump) bool { return p.Address() == step.Pump })
	if i < 0 {
		return fmt.Errorf("there is no pump at address %d", step.Pump)
	}
	if step.Cause == causeStale {
		if err := s.pumps[i].unit.setStale(false); err != nil {
			return err
		}
	}
	s.agenda = append(s.agenda, &event{Step: step, pump: s.pumps[i], at: s.began.Add(step.At)})
	return nil
}

// event is a step with its next change.
type event struct {
	Step
	pump *Pump
	at   time.Time // of the next change; zero if there is none
	on   bool
}

// nextEvent is when the scenario goes on; zero if it is over. The caller holds mu.
func (s *Simulator) nextEvent() (t time.Time) {
	for _, e := range s.agenda {
		t = sooner(t, e.at)
	}
	return t
}

// play changes what is to be changed up to now, each thing at its time. The
// caller holds mu.
func (s *Simulator) play(now time.Time) {
	for {
		at := s.nextEvent()
		if at.IsZero() || at.After(now) {
			return
		}
		for _, e := range s.agenda {
			if e.at.Equal(at) {
				e.change()
			}
		}
	}
}

// change begins or ends the event, and sets the time of the next change.
func (e *event) change() {
	e.on = !e.on
	e.pump.unit.Advance(e.at) // what came before was without it
	switch e.Cause {
	case causeStale:
		_ = e.pump.unit.setStale(e.on) // AddStep has asked whether it can be
	case causeLocal:
		e.pump.unit.Plant().Force(e.on)
	case causeExchange:
		e.pump.exchange(e.on)
	default:
		c, _ := physics.ParseCause(e.Cause) // known since it was added
		e.pump.unit.Plant().SetCause(0, c, e.on)
	}
	switch {
	case e.on && e.For > 0:
		e.at = e.at.Add(e.For)
	case !e.on && e.Every > 0:
		e.at = e.at.Add(e.Every - e.For)
	default:
		e.at = time.Time{}
	}
}
