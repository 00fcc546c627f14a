package faultdisk

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"penstock/internal/disk"
	"penstock/internal/disk/disktest"
)

func TestItConforms(t *testing.T) {
	d := New()
	if err := d.MkdirAll("/here", 0o755); err != nil {
		t.Fatal(err)
	}
	disktest.Run(t, d, "/here")
}

func create(t *testing.T, d *Disk, name string, content string) disk.File {
	t.Helper()
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	return f
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes is what a file holds after cuts with many seeds, how often each;
// a file that is gone counts as "-".
func outcomes(d *Disk, name string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(200) {
		b, err := disk.ReadFile(d.AfterCut(seed), name)
		if err != nil {
			b = []byte("-")
		}
		seen[string(b)]++
	}
	return seen
}

func TestASyncedFileInASyncedFolderAlwaysSurvives(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "safe")
	ok(t, f.Sync())
	ok(t, d.SyncDir("/"))
	if seen := outcomes(d, "/a"); seen["safe"] != 200 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestAnUnsyncedNameMayBeGone(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "safe")
	ok(t, f.Sync())
	seen := outcomes(d, "/a")
	if seen["-"] == 0 || seen["safe"] == 0 || len(seen) != 2 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestUnsyncedWritesAreTornInEveryWay(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "")
	ok(t, d.SyncDir("/"))
	for _, c := range "ABC" {
		f.Write(bytes.Repeat([]byte(string(c)), sectorSize))
	}
	prefixes, holes, rubbish, empty := 0, 0, 0, 0
	for s := range outcomes(d, "/a") {
		switch {
		case s == "":
			empty++
		case strings.Trim(s, "ABC\x00") != "":
			rubbish++
		case strings.ContainsRune(s, 0):
			holes++
		default:
			prefixes++
		}
	}
	if prefixes == 0 || holes == 0 || rubbish == 0 || empty == 0 {
		t.Errorf("%d prefixes, %d with holes, %d with rubbish, %d empty", prefixes, holes, rubbish, empty)
	}
}

func TestARenameIsAtomicAndItsContentIsNot(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "old")
	ok(t, f.Sync())
	ok(t, d.SyncDir("/"))
	create(t, d, "/a.new", "new")
	ok(t, d.Rename("/a.new", "/a"))
	seen := outcomes(d, "/a")
	if seen["-"] != 0 || seen["old"] == 0 || seen["new"] == 0 || seen[""] == 0 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestFolderOperationsAreLostOutOfOrder(t *testing.T) {
	d := New()
	for _, name := range []string{"/a", "/b"} {
		ok(t, create(t, d, name, "").Sync())
	}
	ok(t, d.SyncDir("/"))
	ok(t, d.Remove("/a"))
	ok(t, d.Remove("/b"))
	second := 0
	for seed := range uint64(200) {
		after := d.AfterCut(seed)
		_, errA := after.Stat("/a")
		_, errB := after.Stat("/b")
		if errA == nil && errB != nil {
			second++
		}
	}
	if second == 0 {
		t.Error("the second removal never survived alone")
	}
}

func TestTheSameSeedGivesTheSameDisk(t *testing.T) {
	d := New()
	for _, name := range []string{"/a", "/b", "/c"} {
		create(t, d, name, strings.Repeat(name, 700))
	}
	for seed := range uint64(20) {
		for _, name := range []string{"/a", "/b", "/c"} {
			x, errX := disk.ReadFile(d.AfterCut(seed), name)
			y, errY := disk.ReadFile(d.AfterCut(seed), name)
			if (errX == nil) != (errY == nil) || !bytes.Equal(x, y) {
				t.Fatalf("seed %d gives two different disks", seed)
			}
		}
	}
}

func TestAtTheCutTheOperationIsInFlightAndThenNothingHappens(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "safe")
	ok(t, f.Sync())
	ok(t, d.SyncDir("/"))
	d.CutAt(d.Operations() + 1)
	if _, err := f.Write([]byte(" torn")); !errors.Is(err, ErrPowerCut) {
		t.Fatalf("the write that was cut gave %v", err)
	}
	for what, err := range map[string]error{"sync": f.Sync(), "remove": d.Remove("/a"), "rename": d.Rename("/a", "/b"), "mkdir": d.MkdirAll("/x", 0o755), "syncdir": d.SyncDir("/")} {
		if !errors.Is(err, ErrPowerCut) {
			t.Errorf("%s after the cut gave %v", what, err)
		}
	}
	seen := outcomes(d, "/a")
	if seen["safe"] == 0 || seen["safe to"] == 0 || seen["-"] != 0 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestAFailedSyncLosesForGoodWhatItShouldHaveWritten(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "safe")
	ok(t, f.Sync())
	ok(t, d.SyncDir("/"))
	f.Write([]byte("X"))
	d.Intercept(FailNth(1, syscall.EIO))
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the failed sync gave %v", err)
	}
	f.Write([]byte("Y"))
	ok(t, f.Sync()) // Linux says nothing about X any more
	if seen := outcomes(d, "/a"); seen["safe\x00Y"] == 0 || seen["safeXY"] == 0 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestAFullDiskTakesWhatFits(t *testing.T) {
	d := New()
	d.SetSpace(6)
	f := create(t, d, "/a", "1234")
	if n, err := f.Write([]byte("5678")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the write that did not fit gave %d, %v", n, err)
	}
	ok(t, f.Truncate(3))
	if _, err := f.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a write that leaves a hole is not free: %v", err)
	}
	ok(t, f.Close())
	ok(t, d.Remove("/a"))
	if d.Used() != 0 {
		t.Errorf("the removed file still takes %d bytes", d.Used())
	}
}

func TestAReadOnlyDiskReadsAndSyncs(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "abc")
	d.SetReadOnly(true)
	_, err := f.Write([]byte("x"))
	_, create := d.OpenFile("/b", os.O_WRONLY|os.O_CREATE, 0o600)
	_, open := d.OpenFile("/a", os.O_WRONLY, 0)
	for what, err := range map[string]error{"write": err, "create": create, "open": open, "truncate": f.Truncate(0), "remove": d.Remove("/a"), "rename": d.Rename("/a", "/b"), "mkdir": d.MkdirAll("/x", 0o755)} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s gave %v", what, err)
		}
	}
	ok(t, f.Sync())
	d.SetReadOnly(false)
	_, err = f.Write([]byte("x"))
	ok(t, err)
}

func TestALyingDiskLosesWhatItSaidWasSafe(t *testing.T) {
	d := New()
	d.Lie(true)
	ok(t, create(t, d, "/a", "abc").Sync())
	ok(t, d.SyncDir("/"))
	if seen := outcomes(d, "/a"); seen["-"] == 0 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func TestAKilledProcessLeavesWhatItWroteAndNoHandle(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "abc")
	d.KillAt(d.Operations() + 1)
	if _, err := f.Write([]byte("x")); !errors.Is(err, ErrKilled) {
		t.Errorf("the dead process writes: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, ErrKilled) {
		t.Errorf("the dead process syncs: %v", err)
	}
	d.Restart()
	if _, err := f.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the dead process's handle lives: %v", err)
	}
	if seen := outcomes(d, "/a"); seen["abc"] == 0 || len(seen) < 2 {
		t.Errorf("after cuts the file holds %v", seen)
	}
	if b, err := disk.ReadFile(d, "/a"); err != nil || string(b) != "abc" {
		t.Errorf("the next process reads %q, %v", b, err)
	}
}

func TestAFlippedBitIsFlippedForEver(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "abc")
	if err := d.Flip("/a", 0); err == nil {
		t.Error("a bit that is not safe yet was flipped for ever")
	}
	ok(t, f.Sync())
	ok(t, d.SyncDir("/"))
	ok(t, d.Flip("/a", 8))
	if seen := outcomes(d, "/a"); seen["acc"] != 200 {
		t.Errorf("after cuts the file holds %v", seen)
	}
}

func syncIt(f disk.File) error { return f.Sync() }

func TestSyncSitesAreToldApartAndIgnored(t *testing.T) {
	d := New()
	f := create(t, d, "/a", "abc")
	ok(t, syncIt(f))
	ok(t, d.SyncDir("/"))
	ok(t, disk.WriteFile(d, "/b", []byte("b"), 0o600))
	sites := d.SyncSites()
	if len(sites) != 4 {
		t.Fatalf("4 places sync, found %q", sites)
	}
	for _, site := range sites {
		d := New()
		d.IgnoreSync(site)
		life := func() {
			ok(t, disk.WriteFile(d, "/b", []byte("b"), 0o600))
		}
		life()
		safe := outcomes(d, "/b")["b"] == 200
		if inDisk := strings.HasPrefix(site, "disk/disk.go:"); inDisk == safe {
			t.Errorf("ignoring %s: WriteFile is safe: %v", site, safe)
		}
	}
}
