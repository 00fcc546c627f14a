package fieldbus

// Heard is what came over a line up to a moment, by kind. The difference of two
// says what happened in between.
type Heard struct {
	Requests, Answers, Received                 uint64
	Corrupt, Cut, Foreign, Stale, Echoes, Noise uint64
}

// Heard reads the counters. Any goroutine may call it.
func (c *Counters) Heard() Heard {
	return Heard{
		Requests: c.Requests.Load(), Answers: c.Answers.Load(), Received: c.Received.Load(),
		Corrupt: c.Corrupt.Load(), Cut: c.Cut.Load(), Foreign: c.Foreign.Load(),
		Stale: c.Stale.Load(), Echoes: c.Echoes.Load(), Noise: c.Noise.Load(),
	}
}

// Since is what came after an earlier moment.
func (h Heard) Since(earlier Heard) Heard {
	return Heard{
		Requests: h.Requests - earlier.Requests, Answers: h.Answers - earlier.Answers, Received: h.Received - earlier.Received,
		Corrupt: h.Corrupt - earlier.Corrupt, Cut: h.Cut - earlier.Cut, Foreign: h.Foreign - earlier.Foreign,
		Stale: h.Stale - earlier.Stale, Echoes: h.Echoes - earlier.Echoes, Noise: h.Noise - earlier.Noise,
	}
}

// Trouble is what is wrong with a line, as far as it can be told from what came
// over it.
type Trouble string

// The troubles that can be told apart. Each asks for something else from the
// person at the line.
const (
	NoTrouble    Trouble = ""
	NothingThere Trouble = "nothing heard"
	EchoOnly     Trouble = "own echo"
	OnlyNoise    Trouble = "noise"
	OtherMaster  Trouble = "another master"
	CutOff       Trouble = "answers cut off"
)

var troubleTexts = map[Trouble]string{
	NothingThere: "nothing was heard at all: check that the pump's module has power, that the cable goes to the terminals A and B of this adapter, and the speed and address",
	EchoOnly:     "only our own requests came back: the adapter hears itself, so it works, but nobody answers; check the cable, the module's power, speed and address",
	OnlyNoise:    "bytes came that belong to no frame: A and B are swapped, or the speed or parity is another, or the line lacks its termination",
	OtherMaster:  "another master asks the devices of this line: a Modbus line has one master; take the other one off, or leave this line to it",
	CutOff:       "answers begin and are cut off: the adapter turns round too late or too early; set its direction control (RS-485 mode of the driver, or the adapter's switch)",
}

// Text says what was seen and what to do next; "" when there is no trouble.
func (t Trouble) Text() string { return troubleTexts[t] }

// Trouble tells what is wrong where requests were made and not answered well.
func (h Heard) Trouble() Trouble {
	switch {
	case h.Foreign > 0:
		return OtherMaster
	case h.Cut > 0 && h.Cut > h.Corrupt:
		return CutOff
	case h.Answers > 0:
		return NoTrouble
	case h.Received == 0:
		return NothingThere
	case h.Noise > 0 || h.Corrupt > 0 || h.Cut > 0:
		return OnlyNoise
	case h.Echoes > 0:
		return EchoOnly
	}
	return NothingThere
}
