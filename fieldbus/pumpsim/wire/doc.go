// Package wire is a serial port that a program makes for others: a
// pseudo-terminal whose far end is code.
//
// A pseudo-terminal is two files that are joined: what is written to one can be
// read from the other at once. It has no speed, although the near end's speed
// can be set and read back, and no parity bits. When nobody has the near end
// open, the far end reads an error, so this package keeps the near end open
// itself; programs may come and go.
//
// Serve is one loop on one operating system thread. It waits in ppoll(2) for
// bytes or for the next thing that is due, with the thread's timer slack set to
// the least; it never spins.
package wire
