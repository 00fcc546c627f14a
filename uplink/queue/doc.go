// Package queue keeps what the gateway has to say until the endpoint has it:
// a durable queue of records in two lanes, kept as an append-only log.
//
// A gateway is offline for hours and loses power without warning. So Append
// returns only when the records are on stable storage (concurrent Appends share
// one fsync), nothing that is not on stable storage is ever handed to the
// session, and whatever is lost nevertheless is named in a gap record, so that
// nobody takes a hole for a pump at rest. The queue is bounded: when it is
// full the oldest history goes, and that is a gap record, too.
//
// # Names
//
// (gateway, epoch, lane, sequence number) names a record for ever; the store
// drops what it already has under the same name. Sequence numbers run through a
// lane from 1 without holes and never start again while the folder exists. The
// epoch, 8 random bytes, tells two uses of one number apart:
//
// A disk may lie. A drive with a volatile cache, a worn SD card or a kernel
// that dropped a failed write-back can lose records that were synced and sent,
// and the next run would give their numbers to other content. A power cut can
// also leave a record that Append never confirmed, and a failed write can leave
// one that Append denied. In all these cases the numbers may repeat, so
// the epoch must not:
//
//   - Open draws a new epoch unless the folder is exactly as Close left it: the
//     mark of a clean stop is there, each lane's last segment and next number are
//     those in the mark, no segment and no part of the head is missing or
//     damaged.
//   - A write or fsync that fails is never repeated under its name: the segment
//     is left behind, the next is begun with another epoch.
//   - NewEpoch draws one when the endpoint has seen a conflict.
//
// The mark is overwritten, durably, before the first record of the next run is
// written. For a name to repeat, the disk would have to lose that and all that
// followed and keep everything before: a folder rolled back as a whole to an
// earlier clean stop. From the folder alone a restored backup or a clone cannot
// be told from the original. The store can: it sees the same name with other
// content, keeps both, raises an alarm, and has NewEpoch called.
//
// Records still waiting keep the epoch they were appended with: it is written in
// each of them.
//
// # On disk
//
// All integers are little-endian. The folder holds:
//
//	head                                 cursors, the mark of a clean stop
//	history-<base>-<previous>.log        a segment
//	history-<from>-<to>-<since>-<until>.lost  what a dropped segment held
//
// and the same for urgent. Numbers in names are 16 hexadecimal digits. base is
// the first sequence number of a segment, previous the base of the segment
// before it: a segment that was deleted by hand is missed. A segment ends where
// the next one begins: whatever it holds from the next one's base on was never
// confirmed and does not count. A segment is a row of records:
//
//	offset size
//	     0    3  length of the payload
//	     3    1  lane << 4 | flags
//	     4    4  CRC-32C of all other bytes of the record
//	     8    8  epoch
//	    16    8  sequence number
//	    24    8  up to: Unix time in ms, signed; the lowest number: none
//	    32       payload
//
// Flag 1: more records of the same Append follow, so that the last record of a
// torn Append does not vouch for its time. Flag 2: a gap record; its time is
// where the gap begins. Flag 4: the opening of a segment, its first record,
// which has no number of its own: its number is the base, its time the last
// one of the lane before, its payload the bytes "penstock queue 1" and the
// number of the record that had that time (8 bytes).
//
// A reader that meets a record whose checksum is wrong looks for the next
// offset at which a record of this lane with a later number begins and whose
// checksum is right. So one flipped bit, even in a length, loses one record.
// At the end of the last segment there is no such offset, and the
// torn tail is cut.
//
// The head has two slots of 4096 bytes, written in turn, in place: a cursor
// takes one fsync and no room, so that a full disk can still be drained. A slot
// is 4 bytes CRC-32C, then the bytes it covers: "PQH1", generation (8), flags
// (4; 1: clean stop), epoch (8), the start of the run in ms (8), the history
// lane's next number then (8), and for urgent, then history: cursor (8), the
// time of the record there (8), next number (8), base of the last segment (8),
// its size (8), and the last number dropped whose gap record is durable (8). The
// valid slot with the higher generation counts.
//
// # Dropping
//
// To drop a segment is to rename it: the rename is atomic, and the new name
// says what went. Once the folder is synced the file is emptied, the gap record
// is appended to the urgent lane, the cursor in the head moved, and the file
// removed, in this order. A power cut at any point leaves either the
// segment or a .lost file that makes Open append the gap record (again).
//
// # Losses by time
//
// A block vouches for the readings up to its time, and begins where the one
// before it ended. The gap of an unclean stop therefore begins at the
// time of the last whole Append to the history lane, or, if there was none in
// the run that died, at that run's start, which the head knows; it ends at Open.
// A gap by number begins at the earliest and ends at the latest time found in
// or next to what is lost, so that it holds even where the clock was set back.
// What is lost at the end of a lane has nothing behind it: its gap ends at Open.
package queue
