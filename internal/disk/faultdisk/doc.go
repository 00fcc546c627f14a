// Package faultdisk is a file system in memory that fails on purpose, for
// tests of everything that must survive a power cut.
//
// # What a disk forgets
//
// A file system keeps what was written in memory and brings it to the disk
// when it likes, in the order it likes. POSIX promises two things only: after
// File.Sync the content of that file is on the disk, and after FS.SyncDir the
// names in that folder are. Of everything else a power cut leaves any part:
// a write may be there, absent, or torn (some of its sectors new, others old,
// zero or rubbish); a file that was created may have no name, or its name and
// no content; of three removals the last may be the one that happened. A rename
// is atomic: after the cut the file has its old name or its new one. Code that
// ran well for years on ext4 relies on more than that and breaks elsewhere.
//
// A Disk keeps both states, what programs see and what is safe, with the
// operations between them. AfterCut returns the disk that is found after the
// power comes back; the seed chooses what survived of the operations in flight.
// Seed 0 keeps nothing that was not synced, seed 1 keeps everything and tears
// the last write of each file; other seeds mix.
//
// # Cutting at every write
//
// Write the scripted life of your program as a function of the disk. It must
// do the same each time (hand it a seeded random source and a fixed clock),
// return at the first error, and note what it was promised before. Count its
// operations once, then cut at each:
//
//	d := faultdisk.New()
//	life(d)
//	for n := 1; n <= d.Operations(); n++ {
//		d := faultdisk.New()
//		d.CutAt(n) // operation n is in flight when the power goes
//		promised := life(d)
//		for seed := range uint64(8) {
//			check(d.AfterCut(seed), promised)
//		}
//	}
//
// From operation n on, each call fails with ErrPowerCut and changes nothing:
// whatever the program still does no longer matters.
//
// # Is every fsync needed, and is it there?
//
// A test that cuts at every write proves little if it would also pass without
// the fsyncs. Each call of Sync and SyncDir is made somewhere: SyncSites lists
// these places after a life, and IgnoreSync makes one of them return at once
// without doing anything, as if the line had been forgotten. For each site some
// cut must now make the check fail; a site for which none does is either a
// superfluous fsync or a hole in the test.
//
// # Other faults
//
// SetSpace fills the disk, SetReadOnly remounts it, Intercept fails any single
// operation (a write that fails is half done, as write(2) may; a Sync that
// fails leaves what was written unsafe for good, as Linux does), Lie makes
// every sync a lie, as a drive with a volatile cache does, and Flip damages a
// bit. KillAt and Restart end the process but not the power: what was written
// is there for the next process, and still not safe.
package faultdisk
