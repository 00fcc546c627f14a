package discover

import (
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
)

// FactoryAddress is the address of a CIM module that nobody has given one.
const FactoryAddress = 231

// The addresses that devices are usually set to, and all there are.
const (
	usualLast   = 16
	patientLast = 32
	lastAddress = 247
)

// How long a device is given to begin its answer.
const (
	brief   = 60 * time.Millisecond
	patient = time.Second
)

// Modes are the speeds and formats that are tried, in this order. With two
// stop bits a device answers to one as well, and the other way round: a
// receiver looks at one.
var Modes = []fieldbus.Mode{
	fieldbus.Default,
	{Baud: 9600, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 19200, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 38400, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 115200, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 38400, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 115200, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 57600, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 57600, Parity: fieldbus.NoParity, StopBits: 1},
	{Baud: 4800, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 2400, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 1200, Parity: fieldbus.EvenParity, StopBits: 1},
	{Baud: 9600, Parity: fieldbus.OddParity, StopBits: 1},
}

// Step is a part of a search: addresses at one mode.
type Step struct {
	Mode      fieldbus.Mode
	Addresses []int
	Patience  time.Duration // for an answer to begin
}

// Steps is the order of a search at the modes, Modes if nil.
func Steps(modes []fieldbus.Mode) (steps []Step) {
	if modes == nil {
		modes = Modes
	}
	usual := append([]int{FactoryAddress}, span(1, usualLast)...)
	steps = append(steps, Step{modes[0], append(usual[:len(usual):len(usual)], rest(usualLast)...), brief})
	for _, m := range modes[1:] {
		steps = append(steps, Step{m, usual, brief})
	}
	for _, m := range modes[1:] {
		steps = append(steps, Step{m, rest(usualLast), brief})
	}
	for _, m := range modes[:min(3, len(modes))] {
		steps = append(steps, Step{m, append([]int{FactoryAddress}, span(1, patientLast)...), patient})
	}
	return steps
}

// rest is the addresses after last, but for the factory's.
func rest(last int) (out []int) {
	for _, a := range span(last+1, lastAddress) {
		if a != FactoryAddress {
			out = append(out, a)
		}
	}
	return out
}

func span(first, last int) (out []int) {
	for a := first; a <= last; a++ {
		out = append(out, a)
	}
	return out
}

// probeBytes is a request for three registers and its answer.
const probeBytes = 8 + 11

// Takes is how long the step takes when nobody answers.
func (s Step) Takes() time.Duration {
	each := s.Mode.Wire(probeBytes) + modbus.Silence(s.Mode) + s.Patience
	return time.Duration(len(s.Addresses)) * each
}
