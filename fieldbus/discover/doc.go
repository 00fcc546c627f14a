// Package discover finds the devices on a line that nobody has described.
//
// A Modbus device cannot be called to by name: one asks an address, at some
// speed and parity, and waits. Speeds, parities and addresses multiply, and each
// wrong guess costs a time-out. What makes a search bearable is its order (the
// factory settings first, the usual addresses at the usual speeds next) and
// short patience at first: 60 ms is enough for nearly every device. A device that
// waits longer before it answers (the register SlaveMinimumReplyDelay of CIM
// modules goes up to 10 s) answers while somebody else is being asked; its
// answer is recognised, and it is asked again with the patience that it needs.
//
// # Not to disturb
//
// Two masters on one line destroy each other's frames. So a search listens for
// ten seconds before it says anything, at other speeds too where it hears
// something that it does not understand, and it stops at the first frame that
// it did not ask for, then and later.
//
// # The order
//
// Run goes through Steps: 19200 8E1 with all addresses; then the addresses 231
// and 1 to 16 at the other modes; then the other addresses there; then
// the usual addresses once more with a second of patience. The mode in which
// somebody answers is searched to its end, and no other: a line has one. The
// first step ends 30 s after the start, the last within 10 minutes.
//
// # Who is there
//
// A module of the CIM family tells unit family, type and version, from which the
// profile is chosen. What another device is cannot be known; it has an
// address, and a person names its family. What was found is kept in a file
// (Kept), so that a gateway that restarts polls at once.
package discover
