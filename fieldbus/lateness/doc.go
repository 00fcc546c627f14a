// Package lateness is what a master on a serial line remembers of one device, so
// that a late or repeated answer is never taken for the answer to another
// request.
//
// # The problem
//
// Neither Modbus RTU nor GENIbus numbers its frames. An answer that comes after
// its time-out looks exactly like the answer to the next request, if both
// requests ask for answers of the same shape: the same function and byte count
// on Modbus, the same classes, operations and counts on GENIbus. A master that
// only waits for a while after a time-out is fooled by the first device that is
// later than that.
//
// # The rules
//
//   - A caller gives each request its Shape and the Block that it reads. Requests
//     for different blocks of one device should never share a shape: then an
//     answer of one block cannot match a request for another, however late it
//     comes. A caller that has several shapes for a block asks Choose which to use.
//   - A request that was left unanswered is open. Its shape is avoided for ten
//     times the lateness of the device (the guard), and is not used at all for
//     twice that lateness (the quiet window).
//   - A request that was answered may be answered again by a repeater or a radio.
//     For another block its shape is not used for the repetition window.
//   - The same request may be repeated at once, unchanged, for the length of the
//     quiet window. Its answer then may belong to any attempt of that time, so the
//     value carries the time of the earliest of them.
//
// # What is learnt
//
// The reply time is smoothed together with its deviation, as TCP does it
// (RFC 6298): the time-out follows a device that is slow as a rule, and a single
// late answer moves it for a few transactions only. Lateness and repetition are
// the highest seen, and halve every ten minutes. One sighting at most doubles
// them, because a frame with a damaged address can look like a late answer.
// Learned can be stored and restored, so that a restart does not forget it.
//
// The package imports nothing but the standard library and holds no clock: times
// are handed in.
package lateness
