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
//
// Most kinds strike one answer. A few go on: refuse1 to refuse3 and exchange begin
// with a request and last for their time, and again strikes a later request.
//
//	pause=1:50ms              every device needs 50 ms after its answer
//	nofunction.2=1:3          device 2 knows function 4 only
//	refuse2.3=@200:12s        device 3 restarts, and has no register for 12 s
//	exchange=@500:0s          from the 500th request on another unit answers
//	unplug=@500:2s,exchange=@500:1m  the same, while the port is away
package fault

import "time"

// Kind is one way in which a line or a device misbehaves.
type Kind uint8

// The kinds. The amount of each stands in its description.
const (
	Late       Kind = iota // the answer is late by a time; default 300ms
	Repeat                 // the answer is sent again after a time; default 5ms
	Silence                // no answer
	Noise                  // up to so many random bytes before or after the answer; default 8
	Flip                   // 1 to so many bits of the answer are flipped; default 3
	Burst                  // damage within so many bits in a row, at most 16; default 16
	Overwrite              // random bytes of the answer are overwritten, up to so many; default 8
	Split                  // a pause of a time in the middle of the answer; default 20ms
	Cut                    // the beginning or the end of the answer is missing, up to so many bytes; default 3
	Glue                   // another device's answer follows or precedes without a pause
	Foreign                // another device's answer, with proper pauses, comes first
	Wrong                  // the answer carries another device's address
	Exception              // the answer is an exception of this code; default 6, busy
	Echo                   // the master hears its own request
	Babble                 // the line is full of random bytes for a time; default 1s
	Unplug                 // the port vanishes, and comes back after a time; default 1s
	Ready                  // GENIbus: a ready-for-send byte stands where an APDU may begin
	Exchange               // another unit stands at the address, for a time; 0s: from then on; default 1m
	Pause                  // a request that begins within a time after the device's last answer is not heard; default 50ms
	Refuse1                // for a time the device refuses everything with exception or acknowledge 1; default 12s
	Refuse2                // the same with 2
	Refuse3                // the same with 3
	NoFunction             // Modbus: exception 1 to this function, 3 or 4; default 3
	Old                    // an older answer of the device comes in place of the answer, up to so many back; default 1
	Again                  // the answer comes again before one of the device's next answers, up to so many later; default 1
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

	Ready:      {name: "ready"},
	Exchange:   {name: "exchange", amount: duration, wait: time.Minute},
	Pause:      {name: "pause", amount: duration, wait: 50 * time.Millisecond},
	Refuse1:    {name: "refuse1", amount: duration, wait: 12 * time.Second},
	Refuse2:    {name: "refuse2", amount: duration, wait: 12 * time.Second},
	Refuse3:    {name: "refuse3", amount: duration, wait: 12 * time.Second},
	NoFunction: {name: "nofunction", amount: number, n: 3, least: 3, most: 4},
	Old:        {name: "old", amount: number, n: 1, least: 1, most: 16},
	Again:      {name: "again", amount: number, n: 1, least: 1, most: 16},
}

// Kinds are all of them, in order.
func Kinds() []Kind {
	all := make([]Kind, len(kinds))
	for k := range all {
		all[k] = Kind(k)
	}
	return all
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
