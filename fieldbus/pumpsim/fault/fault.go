// Package fault says what goes wrong on a serial line, how often, and to which
// device.
//
// A list of rules is written in one line, as on a command line:
//
//	late=0.01:300ms,flip=0.02,silence.3=1,unplug=@500:2s
//
// Each rule is KIND[.ADDRESS]=WHEN[:AMOUNT]. WHEN is a rate from 0 to 1, or
// request numbers: @5 the fifth request on the line, @5-9 the fifth to ninth,
// @5+100 the fifth and every hundredth after it. AMOUNT depends on the kind: a
// time such as 300ms, a range of times 100ms-2s, or a number. Rules combine: each
// is drawn for itself, so one answer can be late, damaged and repeated. The
// draws come from a seeded source, and a seed plays the same day again.
package fault

import "time"

// Kind is one way in which a line or a device misbehaves.
type Kind uint8

// The kinds. The amount of each stands in its description.
const (
	Late      Kind = iota // the answer is late by a time; default 300ms
	Repeat                // the answer is sent again after a time; default 5ms
	Silence               // no answer
	Noise                 // up to so many random bytes before or after the answer; default 8
	Flip                  // 1 to so many bits of the answer are flipped; default 3
	Burst                 // damage within so many bits in a row, at most 16; default 16
	Overwrite             // random bytes of the answer are overwritten, up to so many; default 8
	Split                 // a pause of a time in the middle of the answer; default 20ms
	Cut                   // the beginning or the end of the answer is missing, up to so many bytes; default 3
	Glue                  // another device's answer follows or precedes without a pause
	Foreign               // another device's answer, with proper pauses, comes first
	Wrong                 // the answer carries another device's address
	Exception             // the answer is an exception of this code; default 6, busy
	Echo                  // the master hears its own request
	Babble                // the line is full of random bytes for a time; default 1s
	Unplug                // the port vanishes, and comes back after a time; default 1s
)

// amount is what the part after the colon of a rule means.
type amount uint8

const (
	nothing amount = iota
	duration
	number
)

var kinds = []struct {
	name     string
	amount   amount
	wait     time.Duration
	n, least int
	most     int
}{
	Late:      {name: "late", amount: duration, wait: 300 * time.Millisecond},
	Repeat:    {name: "repeat", amount: duration, wait: 5 * time.Millisecond},
	Silence:   {name: "silence"},
	Noise:     {name: "noise", amount: number, n: 8, least: 1, most: 255},
	Flip:      {name: "flip", amount: number, n: 3, least: 1, most: 2000},
	Burst:     {name: "burst", amount: number, n: 16, least: 1, most: 16},
	Overwrite: {name: "overwrite", amount: number, n: 8, least: 1, most: 255},
	Split:     {name: "split", amount: duration, wait: 20 * time.Millisecond},
	Cut:       {name: "cut", amount: number, n: 3, least: 1, most: 255},
	Glue:      {name: "glue"},
	Foreign:   {name: "foreign"},
	Wrong:     {name: "wrong"},
	Exception: {name: "exception", amount: number, n: 6, least: 1, most: 255},
	Echo:      {name: "echo"},
	Babble:    {name: "babble", amount: duration, wait: time.Second},
	Unplug:    {name: "unplug", amount: duration, wait: time.Second},
}

// String is the kind's name in a rule.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return "unknown fault"
}

// Rule is one fault and when it happens.
type Rule struct {
	Kind    Kind
	Address int // 0: whoever is asked

	// Rate is the share of requests that are hit. Where First is set, Rate
	// counts for nothing, and those from number First to Last (0: without end)
	// are hit, every Step-th.
	Rate              float64
	First, Last, Step int

	Min, Max time.Duration // amount of kinds that take a time
	N        int           // amount of kinds that take a number
}
