// Package fieldbus holds the serial line that a gateway shares with its pumps.
//
// A fieldbus of this kind is one pair of wires (RS-485) on which a single
// master asks and slaves answer, one at a time. Bytes travel as characters of a
// start bit, eight data bits, perhaps a parity bit, and one or two stop bits: 11
// bits in the usual 8E1, so a byte takes 0.573 ms at 19200 baud. There is no
// length and no end mark below the protocol. Silence is the only punctuation,
// and that makes time part of every frame.
//
// What is subtle here is the operating system in between. A serial driver hands
// over bytes in pieces, whenever its FIFO or a USB adapter sees fit; a read that
// times out says "no bytes, no error"; a write returns before the bits have
// left; an adapter that is pulled out turns into a read of length zero. Line
// puts an order on that: one write for each frame, reads against an absolute
// deadline, a memory of when the wire was last busy, and errors that say which
// of the possible things happened.
//
// The protocols live in the folders below: modbus (Modbus RTU) and genibus.
// Package linetest has a scripted line on a simulated clock for tests.
//
// One goroutine owns a Line. Only its Counters may be read from elsewhere.
package fieldbus
