// Package stamp gives what is in the queue its times: at once while the time is
// known, and on its way out what was recorded before it was.
//
// A board without a battery boots in 1970, and may record for days before anybody
// tells it the time; meanwhile it may be booted again. So readings are not taken by
// the clock on the wall at all. They are taken by the machine's uptime, and
// the time of day is added later: it is the time at which that boot began, which is
// one number for all that was recorded in it.
//
// # Three scales
//
//   - uptime: since the machine was booted. Blocks, events and gaps come to Append
//     with it, as Unix milliseconds from 0.
//   - true time: what is published.
//   - the queue's own: the queue orders and dates its losses by the times that
//     Append is given, and these must not go back, whatever the clock does. So it
//     has a scale of its own, a stretch for each boot, each behind the one before
//     it. Nobody else sees it; where the queue was never in doubt, it is close to
//     the truth.
//
// # What is dated when
//
// While our own service's signed time is known (Clock.Booted says sure), Append
// dates a record for good. Before that, Append marks it with the name of its boot
// (wire.Undated), and Peek dates it when it is sent. Peek must not date it
// differently when it is sent again, or the endpoint would find two contents under
// one name. So the beginning of a boot is settled once, on disk, before the first
// record that needs it leaves the queue, and never changes.
//
//   - The present boot is settled by the clock, once it is known: exactly.
//   - A boot that ended before anybody told it the time is settled when a later one
//     is. It lies between two known times: it began after the floor that its clock
//     had, and after the end of the boot before; it ended before the next began. If
//     the machine's own clock claims a time in between, that is taken; else the
//     latest that is possible, as if the power had come straight back. How far that
//     may be off goes with each of its records (unsure_ms). A gap is widened by it.
//
// # What does not wait
//
// History waits on disk until the time is known. The urgent lane waits for patience
// only, when there is a session to send it: then an event goes out without a time,
// and whoever takes it in knows when it came. That is noted on disk, too.
//
// # Corrections
//
// The clock is corrected a little with each answer. A correction of a few
// milliseconds is not followed; forward it is followed at once, from one block to
// the next; back by at most 50 ms a block, so that no point has two readings of one
// time. Only a clock that was wrong by more than ten seconds is set back at once.
// No block holds two corrections: it has one beginning, and all else in it is
// relative to that.
package stamp
