package pumpsim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"penstock/fieldbus/pumpsim/geni"
)

// Served is one answer of a virtual pump: what it was asked, what it said, and
// what the line made of it. There is one for every request that a pump heard,
// broadcasts and unanswered ones included, and one for each that it did not hear
// because it needed a pause.
type Served struct {
	// Request numbers the frames that the line heard, from 1; those for nobody
	// on the line count too.
	Request int `json:"request"`
	// Repeat marks a request that is, byte for byte, the one before it to the
	// same address: a master trying again.
	Repeat bool `json:"repeat,omitempty"`

	Began   time.Time `json:"began"`            // first bit of the request
	Asked   time.Time `json:"asked"`            // last bit of the request
	Sampled time.Time `json:"sampled"`          // when the values were taken
	Done    time.Time `json:"done,omitzero"`    // last byte of the answer; zero if none was sent
	Planned time.Time `json:"planned,omitzero"` // when that byte was due on the wire

	Address int `json:"address"`
	// Other is the model of the unit that answered in the pump's place, after an
	// exchange; empty for the pump itself.
	Other    string `json:"other,omitempty"`
	Function int    `json:"function"` // Modbus
	// Start is the first register as it travels: printed register 201 is 200.
	Start int `json:"start"`
	// Values are the raw registers that a read answered or a write set, before
	// any fault.
	Values []uint16 `json:"values,omitempty"`
	// Of an answer on GENIbus: the values that were given, what was set, and how
	// many APDUs were refused.
	Items   []geni.Item `json:"items,omitempty"`
	Set     []geni.Item `json:"set,omitempty"`
	Refused int         `json:"refused,omitempty"`
	// Exception is the code of a refusal, 0 for none.
	Exception int `json:"exception,omitempty"`

	// Sent tells that an answer was put on the line, whole or not.
	Sent bool `json:"sent"`
	// Faults names what was done to the answer, in that order.
	Faults []string `json:"faults,omitempty"`
	// Stale marks values of a module that has lost its pump: they were taken at
	// Sampled, long ago.
	Stale bool `json:"stale,omitempty"`
}

// Altered tells whether the bytes that the master received were not those of
// the answer: damaged, cut, another's, or none.
func (s *Served) Altered() bool {
	for _, f := range s.Faults {
		switch f {
		case "late", "repeat", "split", "echo", "ready", "again", "exchange":
		default:
			return true
		}
	}
	return false
}

// ReadServed reads a log of served answers and calls f for each, in order. An
// incomplete last line, as a killed simulator leaves it, is not an error.
func ReadServed(r io.Reader, f func(Served) error) error {
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is left has no end: it was never completely written
		}
		if err != nil {
			return fmt.Errorf("reading the served log: %w", err)
		}
		var s Served
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("the served log, line %d: %w", n, err)
		}
		if err := f(s); err != nil {
			return err
		}
	}
}
