package fault

import (
	"math/rand/v2"
	"time"
)

// Dice decides for each request which faults hit it.
type Dice struct {
	rules []Rule
	rolls []*rand.Rand // one a rule, so that one rule does not change another's days
	hits  []Hit
}

// Hit is a fault that hits a request.
type Hit struct {
	Kind Kind
	Wait time.Duration // for kinds that take a time, drawn from the rule's range
	N    int           // for kinds that take a number, the rule's
	Roll *rand.Rand    // for whatever else is up to chance
}

// NewDice returns dice for the rules.
func NewDice(rules []Rule, seed int64) *Dice {
	d := &Dice{rules: rules}
	for i := range rules {
		d.rolls = append(d.rolls, rand.New(rand.NewPCG(uint64(seed), uint64(i)+1)))
	}
	return d
}

// Draw returns the faults that hit a request: its number on the line, from 1,
// and the address that was asked. Each request is to be drawn once, in order.
// The result is valid until the next draw.
func (d *Dice) Draw(request, address int) []Hit {
	d.hits = d.hits[:0]
	for i, r := range d.rules {
		if r.Address != 0 && r.Address != address {
			continue
		}
		roll := d.rolls[i]
		if r.First != 0 {
			if request < r.First || r.Last != 0 && request > r.Last || (request-r.First)%r.Step != 0 {
				continue
			}
		} else if roll.Float64() >= r.Rate {
			continue
		}
		h := Hit{Kind: r.Kind, Wait: r.Min, N: r.N, Roll: roll}
		if r.Max > r.Min {
			h.Wait += time.Duration(roll.Int64N(int64(r.Max-r.Min) + 1))
		}
		d.hits = append(d.hits, h)
	}
	return d.hits
}
