package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/internal/disk"
	"penstock/internal/disk/image"
	"penstock/internal/disk/memdisk"
)

const dir = "/var/lib/penstock/identity"

// filesystem makes a real file system with mke2fs.
func filesystem(t *testing.T, size int64, options ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "root.img")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "mke2fs", append(append([]string{"-q", "-F"}, options...), name)...)
	return name
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	found := ""
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			found = dir + name
		}
	}
	if found == "" {
		t.Skip(name + " is not installed")
	}
	out, err := exec.CommandContext(t.Context(), found, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func open(t *testing.T, name string, partition int) *image.Image {
	t.Helper()
	m, err := image.Open(t.Context(), name, partition)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// put changes the files of the folder.
func put(t *testing.T, m *image.Image, files map[string]string) error {
	t.Helper()
	d, err := m.Files(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	change(t, d, files)
	return m.Save(t.Context(), dir, d, dir+"/cert.pem")
}

func change(t *testing.T, d *memdisk.Disk, files map[string]string) {
	t.Helper()
	if err := disk.MkdirAll(d, dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		var err error
		if content == "" {
			err = d.Remove(dir + "/" + name)
		} else {
			err = disk.WriteFile(d, dir+"/"+name, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func holds(t *testing.T, m *image.Image, want map[string]string) {
	t.Helper()
	d, err := m.Files(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	got := d.Files()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for name, content := range want {
		if f := got[dir+"/"+name]; string(f.Content) != content || f.Mode != 0o600 {
			t.Errorf("%s holds %.20q, mode %o", name, f.Content, f.Mode)
		}
	}
}

// copies counts how often a text is in a file.
func copies(t *testing.T, name, text string) int {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte(text))
}

func TestFilesAreMadeReplacedAndRemovedInEveryKindOfFileSystem(t *testing.T) {
	long := strings.Repeat("certificate ", 2000) // several blocks
	for what, options := range map[string][]string{
		"ext4": {"-t", "ext4"}, "ext4 of 4 kB blocks": {"-t", "ext4", "-b", "4096"}, "ext3": {"-t", "ext3"}, "ext2": {"-t", "ext2"},
		"ext4 with 64 bits and checksums": {"-t", "ext4", "-O", "64bit,metadata_csum"},
	} {
		t.Run(what, func(t *testing.T) {
			name := filesystem(t, 16<<20, options...)
			m := open(t, name, 0)
			holds(t, m, nil)
			if err := put(t, m, map[string]string{"key.pem": "the first secret", "cert.pem": long}); err != nil {
				t.Fatal(err)
			}
			if err := put(t, m, map[string]string{"key.pem": "the second secret", "cert.pem": "", "claim.json": "a passing secret"}); err != nil {
				t.Fatal(err)
			}
			if err := put(t, m, map[string]string{"claim.json": "", "cert.pem": "short"}); err != nil {
				t.Fatal(err)
			}
			holds(t, m, map[string]string{"key.pem": "the second secret", "cert.pem": "short"})
			for text, want := range map[string]int{"the first secret": 0, "the second secret": 1, "a passing secret": 0, "certificate certificate": 0} {
				if n := copies(t, name, text); n != want {
					t.Errorf("%q is in the image %d times, want %d", text, n, want)
				}
			}
			m.Close()
			tool(t, "e2fsck", "-fn", name)
			for path, want := range map[string]string{dir: "Mode:  0700", "/var/lib": "Mode:  0755", dir + "/key.pem": "Mode:  0600"} {
				out := tool(t, "debugfs", "-R", "stat "+path, name)
				if !strings.Contains(out, want) || !strings.Contains(out, "User:     0   Group:     0") {
					t.Errorf("%s: %s", path, out)
				}
			}
		})
	}
}

// partitioned puts file systems into partitions that begin at those sectors.
func partitioned(t *testing.T, asGPT bool, at map[uint32]string) string {
	t.Helper()
	b := make([]byte, 48<<20)
	table := func(i int, start, kind uint32) {
		e := b[446+16*i:]
		e[4] = byte(kind)
		binary.LittleEndian.PutUint32(e[8:], start)
		binary.LittleEndian.PutUint32(e[12:], 1<<14)
	}
	b[510], b[511] = 0x55, 0xAA
	if asGPT {
		table(0, 1, 0xEE)
		h := b[512:]
		copy(h, "EFI PART")
		binary.LittleEndian.PutUint64(h[72:], 2)
		binary.LittleEndian.PutUint32(h[80:], 128)
		binary.LittleEndian.PutUint32(h[84:], 128)
	}
	for i, start := range []uint32{2048, 34816} {
		fs, ok := at[start]
		if !ok {
			continue
		}
		if asGPT {
			e := b[1024+128*i:]
			e[0] = 0xAF // some kind
			binary.LittleEndian.PutUint64(e[32:], uint64(start))
		} else {
			table(i, start, 0x83)
		}
		if fs != "" {
			content, err := os.ReadFile(fs)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[int(start)*512:], content)
		}
	}
	name := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTheFileSystemIsFoundInAPartition(t *testing.T) {
	root := filesystem(t, 16<<20, "-t", "ext4", "-L", "rootfs")
	data := filesystem(t, 8<<20, "-t", "ext4", "-L", "data")
	for what, asGPT := range map[string]bool{"MBR": false, "GPT": true} {
		one := partitioned(t, asGPT, map[uint32]string{2048: "", 34816: root})
		if err := put(t, open(t, one, 0), map[string]string{"key.pem": "secret"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		holds(t, open2(t, one, 2), map[string]string{"key.pem": "secret"})
		two := partitioned(t, asGPT, map[uint32]string{2048: data, 34816: root})
		if _, err := image.Open(t.Context(), two, 0); err == nil || !strings.Contains(err.Error(), `1 "data", 2 "rootfs"`) || !strings.Contains(err.Error(), "-partition") {
			t.Errorf("%s, which of two: %v", what, err)
		}
		m := open(t, two, 2)
		if err := put(t, m, map[string]string{"key.pem": "secret"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		m.Close()
		holds(t, open(t, two, 1), nil)
		for partition, says := range map[int]string{3: "no partition 3; there are [1 2]"} {
			if _, err := image.Open(t.Context(), partitioned(t, asGPT, map[uint32]string{2048: data, 34816: root}), partition); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := image.Open(t.Context(), partitioned(t, asGPT, map[uint32]string{2048: ""}), 0); err == nil || !strings.Contains(err.Error(), "none of its partitions") {
			t.Errorf("%s without a file system: %v", what, err)
		}
	}
}

// open2 opens an image that an earlier open of the test may still hold.
func open2(t *testing.T, name string, partition int) *image.Image {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again.img")
	if err := os.WriteFile(again, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, again, partition)
}

func TestAnImageThatMustNotBeTouchedIsRefused(t *testing.T) {
	refused := func(name, says string) {
		t.Helper()
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := image.Open(t.Context(), name, 0); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want %q", err, says)
			if err == nil {
				m.Close()
			}
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s was changed, or %v", name, err)
		}
	}
	spoil := func(at int64, b ...byte) string {
		name := filesystem(t, 8<<20, "-t", "ext4")
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	held := filesystem(t, 8<<20, "-t", "ext4")
	open(t, held, 0)
	refused(held, "another process is at work on it")
	refused(spoil(1024+58, 2), "not clean")
	refused(filesystem(t, 8<<20, "-t", "ext4", "-O", "inline_data"), "inline_data")
	garbage := filepath.Join(t.TempDir(), "garbage.img")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("xz"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(garbage, "must be unpacked first")
	if err := os.WriteFile(garbage, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(garbage, "too small")
	// Block and inode bitmaps of the first group overwritten: e2fsck sees it.
	bad := make([]byte, 2048)
	for i := range bad {
		bad[i] = 0xA5
	}
	refused(spoil(4096*5, bad...), "damaged")
	if _, err := image.Open(t.Context(), garbage+".none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
}

func TestAFullImageIsToldAndLeftWhole(t *testing.T) {
	name := filesystem(t, 1<<20, "-t", "ext2", "-m", "0")
	m := open(t, name, 0)
	if err := put(t, m, map[string]string{"key.pem": strings.Repeat("x", 2<<20)}); err == nil {
		t.Error("two megabytes fit into one")
	}
	m.Close()
	tool(t, "e2fsck", "-fn", name)
}

func TestAMissingToolIsNamed(t *testing.T) {
	name := filesystem(t, 8<<20, "-t", "ext4")
	image.ToolsIn(t, "/nonexistent")
	if _, err := image.Open(t.Context(), name, 0); err == nil || !strings.Contains(err.Error(), "install e2fsprogs") {
		t.Errorf("%v", err)
	}
}

func FuzzPartitions(f *testing.F) {
	b := make([]byte, 4096)
	b[510], b[511] = 0x55, 0xAA
	b[446+4] = 0xEE
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = image.Find(bytes.NewReader(b), 0) })
}
