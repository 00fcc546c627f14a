package telemetry

import (
	"encoding/hex"
	"fmt"
	"time"
)

// CommandID names a command for ever: 16 random bytes. A gateway carries out
// what it names once, however often it arrives.
type CommandID [16]byte

func (id CommandID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is the hexadecimal form.
func (id CommandID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads it back.
func (id *CommandID) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(id) {
		return fmt.Errorf("a command's id of %d digits, not %d", len(b), 2*len(id))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// Command asks for a change on a pump. Names and values are those of the
// pump's profile, as a person writes them: "setpoint" "55 %".
type Command struct {
	ID                CommandID
	Pump, Name, Value string
	// Expires is when it must not be carried out any more: a set-point that was
	// meant for this morning does harm tonight.
	Expires time.Time
	// Owner counts the owners that the gateway has had. A gateway that has heard
	// from a later one takes nothing from those before.
	Owner uint64
}

// Outcome is what became of a command.
type Outcome uint8

const (
	// Done: the pump was read again and shows what was asked for.
	Done Outcome = 1 + iota
	// Refused: nothing was changed; the text says why.
	Refused
	// NotFollowed: the pump was told, and shows something else.
	NotFollowed
	// NoAnswer: the pump does not answer. It may or may not have been told.
	NoAnswer
	// Expired: it came too late and was not carried out.
	Expired
	// ClockUnknown: the gateway does not know the time, so it cannot tell
	// whether the command is still meant; it was not carried out.
	ClockUnknown
	// OutcomeUnknown: the gateway stopped in between; the pump may or may not
	// have been told. Look at the pump.
	OutcomeUnknown
	// Cancelled: the gateway has another owner by now; it was not carried out.
	Cancelled
)

// outcomes are the words of the outcomes, in the order of their numbers.
var outcomes = [...]string{Done: "done", Refused: "refused", NotFollowed: "not_followed", NoAnswer: "no_answer",
	Expired: "expired", ClockUnknown: "clock_unknown", OutcomeUnknown: "unknown", Cancelled: "cancelled"}

func (o Outcome) String() string {
	if int(o) < len(outcomes) && o > 0 {
		return outcomes[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// CommandResult says what became of a command.
type CommandResult struct {
	ID      CommandID
	Outcome Outcome
	Time    time.Time // when that was known
	Raw     int64     // what was read back, with Done
	Text    string    // for people: the value read back, or why not
}

// OK tells whether the pump does what was asked for.
func (r CommandResult) OK() bool { return r.Outcome == Done }
