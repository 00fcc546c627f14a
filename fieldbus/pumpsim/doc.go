// Package pumpsim puts virtual pumps on a virtual serial line.
//
// A line is a pseudo-terminal that a gateway opens like any serial port. A
// pseudo-terminal hands bytes over at once and knows neither speed nor parity, so
// the simulator keeps the time that a wire would take: it holds a request until
// its last bit would have arrived, waits for the 3.5 characters of silence that
// end a Modbus frame and for the pump's turnaround, and releases the reply on an
// absolute clock, at most 16 bytes a write, as a UART's FIFO does. The last byte
// of a reply is there when it would be on the wire, not sooner. How much later it
// was is measured and shown (Lateness). A master that has set another speed is
// not understood, and hears noise.
//
// Behind the registers is a model of a pump in a pipe system (package physics),
// so that a set-point moves speed, head, flow, power and energy, and an alarm
// has a cause. Package rtu is the register map of the communication module
// between the two; package fault is what a line does to frames on a bad day.
//
// Every answer is written to a log (Served) with the time at which its values
// were taken. A judge who compares that log with what a backend stored finds
// every value that was lost, invented or passed off as another.
//
// The same line also exists without a terminal, in memory and on a simulated
// clock (Simulator.Open): a million transactions then take seconds. Parity, which
// a pseudo-terminal drops, counts there.
package pumpsim
