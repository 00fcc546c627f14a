// Package poll reads the pumps of a bus on time, and carries out commands in
// between.
//
// A pump bus is slow. At 19200 baud a register takes 1.1 ms, a question and its
// answer another 9 ms before the first register, and while one pump answers no
// other can be asked. A scheduler that counts requests instead of time wastes
// most of it: on empty frames, on pumps that were switched off, on waiting.
// This one counts time on the wire.
//
// # Slots
//
// The points of a pump that share a period form a group. A group's time grid is
// fixed: its slots are multiples of the period since 1970 plus an offset, so
// they survive restarts and line up over the years. The offsets spread the
// pumps of a bus, so that they do not all fall due at once. A reading belongs
// to its slot, and says how long after it the pump was asked.
//
// # What is read next
//
// When slots of a pump have come, plan turns the points that are due into the
// fewest and shortest frames: registers in between that nobody asked for are
// read over where that takes less time than another frame, never beyond one
// block of the profile, and a 32-bit pair is never split. Of all pumps with
// something due, the one whose slot ends first is asked first (earliest
// deadline first), one frame at a time; a command goes ahead of all of them at
// the next frame boundary.
//
// A slot that was not read before the next one came is reported as missing and
// counted. Nothing is stretched: what is late is dropped, so that lateness
// cannot pile up. Where the profiles ask for more than the bus has room for,
// that is known beforehand, and NewBus lengthens the periods instead.
//
// # Pumps that do not answer
//
// Waiting for nobody is what takes most of a bus's time when a pump is switched
// off. Each pump has a health: the share of its requests that it answered lately.
// A pump that answers at least a quarter of them is alive: a frame that it does not
// answer is asked for again at once, up to four times, and costs nothing but its
// own values when it is given up. A pump that is not alive is left alone for a time
// that doubles with each failure, up to a minute, and all requests to such pumps
// are paid from a budget, by default a tenth of the bus's time. So 31 dead pumps
// cannot disturb the one that lives. The rules are in health.go, device.go
// (penalty) and budget.go.
//
// # Who answers
//
// A pump may be replaced by another one at the same address while the gateway runs.
// So a device says who it is before anything of it is published: at the start, when
// the port was opened again, after every frame that it did not answer, and now and
// then. After a silence of three seconds everything that it said of itself is asked
// anew. A device that says something else is another pump, with an ID of its own; one
// that its family does not fit is not read.
//
// What a device refuses to have read counts when it was refused several times in a
// row, and is asked for again, less and less often.
//
// # Pumps that seem to answer
//
// A communication module that has lost its pump goes on serving the last
// values. Where its profile names a counter that stands still then, the values
// are delivered as stale, not as good.
package poll
