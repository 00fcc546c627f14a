package disk_test

import (
	"testing"

	"penstock/internal/disk"
	"penstock/internal/disk/disktest"
	"penstock/internal/disk/faultdisk"
)

func TestTheMachinesFileSystemConforms(t *testing.T) {
	disktest.Run(t, disk.OS, t.TempDir())
}

// life replaces a file in a new folder twice; promised is the last content
// whose WriteFile returned.
func life(d *faultdisk.Disk) (promised string) {
	if disk.MkdirAll(d, "/var/state", 0o755) != nil {
		return ""
	}
	for _, content := range []string{"the first content", "the second", "and a third, longer than a sector: " + string(make([]byte, 1000))} {
		if disk.WriteFile(d, "/var/state/a", []byte(content), 0o600) != nil {
			return promised
		}
		promised = content
	}
	return promised
}

// check says what is wrong after a power cut, or "".
func check(d *faultdisk.Disk, promised string) string {
	b, err := disk.ReadFile(d, "/var/state/a")
	contents := map[string]bool{"": true, "the first content": true, "the second": true}
	switch {
	case err != nil && promised == "":
		return ""
	case err != nil:
		return "the file is gone: " + err.Error()
	case string(b) == promised:
		return ""
	case promised != "" && len(b) == 0, !contents[string(b)] && len(b) < 1000, contents[promised] && contents[string(b)] && promised > string(b):
		return "the file holds neither the old nor the new content"
	}
	return ""
}

func cutEverywhere(prepare func(*faultdisk.Disk)) (wrong string) {
	whole := faultdisk.New()
	prepare(whole)
	life(whole)
	for n := 1; n <= whole.Operations()+1; n++ {
		d := faultdisk.New()
		prepare(d)
		d.CutAt(n)
		promised := life(d)
		for seed := range uint64(16) {
			if wrong := check(d.AfterCut(seed), promised); wrong != "" {
				return wrong
			}
		}
	}
	return ""
}

func TestWriteFileIsWholeAfterACutAtAnyWrite(t *testing.T) {
	if wrong := cutEverywhere(func(*faultdisk.Disk) {}); wrong != "" {
		t.Error(wrong)
	}
}

func TestEverySyncOfWriteFileAndMkdirAllIsNeeded(t *testing.T) {
	d := faultdisk.New()
	life(d)
	sites := d.SyncSites()
	if len(sites) < 4 { // two folders, a file and its folder
		t.Fatalf("the life syncs at %q only", sites)
	}
	for _, site := range sites {
		if wrong := cutEverywhere(func(d *faultdisk.Disk) { d.IgnoreSync(site) }); wrong == "" {
			t.Errorf("without the sync at %s every cut is survived", site)
		}
	}
}
