// Package disktest is the conformance suite of disk.FS: what every file system
// of ours does, the machine's own and the one that fails on purpose.
//
// A fault file system is worth something only as far as it behaves like the
// real one while nothing fails. Here is what the code built on it relies on.
package disktest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"penstock/internal/disk"
)

// Run checks fsys in dir, an empty folder that exists.
func Run(t *testing.T, fsys disk.FS, dir string) {
	t.Helper()
	for _, c := range []struct {
		claim string
		check func(t *testing.T, fsys disk.FS, dir string)
	}{
		{"WhatIsWrittenIsRead", readBack},
		{"AppendGoesToTheEnd", appends},
		{"ReadAtTheEndIsEOF", ends},
		{"HandlesKeepToTheirAccess", access},
		{"ExclusiveCreationFailsOnAFile", exclusive},
		{"OpeningWithTruncEmptiesTheFile", trunc},
		{"TruncateCutsAndGrowsWithZeros", truncates},
		{"RenameReplaces", renames},
		{"AnOpenFileSurvivesItsName", unlinked},
		{"RemoveWantsAnEmptyFolder", removes},
		{"MissingFilesAreNotExist", missing},
		{"FoldersListTheirFilesSorted", lists},
		{"ClosedHandlesAreClosed", closed},
		{"WriteFileReplacesWhole", writeFile},
		{"MkdirAllMakesEveryLevel", mkdirAll},
	} {
		t.Run(c.claim, func(t *testing.T) {
			sub := filepath.Join(dir, c.claim)
			if err := fsys.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			c.check(t, fsys, sub)
		})
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func write(t *testing.T, fsys disk.FS, name, content string) {
	t.Helper()
	f := must(fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644))(t)
	n, err := f.Write([]byte(content))
	ok(t, err)
	if n != len(content) {
		t.Fatalf("wrote %d of %d bytes", n, len(content))
	}
	ok(t, f.Close())
}

func reads(t *testing.T, fsys disk.FS, name, want string) {
	t.Helper()
	if got := must(disk.ReadFile(fsys, name))(t); string(got) != want {
		t.Fatalf("%s holds %q, want %q", name, got, want)
	}
}

func readBack(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	f := must(fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600))(t)
	must(f.Write([]byte("hello ")))(t)
	must(f.Write([]byte("pump")))(t)
	ok(t, f.Sync())
	ok(t, fsys.SyncDir(dir))
	b := make([]byte, 4)
	must(f.ReadAt(b, 6))(t)
	if string(b) != "pump" {
		t.Fatalf("ReadAt gave %q", b)
	}
	if at := must(f.Seek(0, io.SeekCurrent))(t); at != 10 {
		t.Fatalf("ReadAt moved the offset to %d", at)
	}
	must(f.Seek(6, io.SeekStart))(t)
	must(f.Write([]byte("gate")))(t)
	must(f.Seek(-4, io.SeekEnd))(t)
	must(io.ReadFull(f, b))(t)
	if string(b) != "gate" {
		t.Fatalf("Read gave %q", b)
	}
	info := must(f.Stat())(t)
	if info.Size() != 10 || info.Name() != "a" || info.Mode() != 0o600 || info.IsDir() {
		t.Fatalf("Stat gave %s, %d bytes, %v", info.Name(), info.Size(), info.Mode())
	}
	ok(t, f.Close())
	reads(t, fsys, name, "hello gate")
}

func appends(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "one")
	f := must(fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0))(t)
	must(f.Seek(0, io.SeekStart))(t)
	must(f.Write([]byte(" two")))(t)
	ok(t, f.Close())
	reads(t, fsys, name, "one two")
}

func ends(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "abc")
	f := must(fsys.OpenFile(name, os.O_RDONLY, 0))(t)
	b := make([]byte, 8)
	n, err := f.ReadAt(b, 1)
	if n != 2 || !errors.Is(err, io.EOF) {
		t.Fatalf("a short ReadAt gave %d, %v", n, err)
	}
	n, err = f.ReadAt(b, 3)
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt at the end gave %d, %v", n, err)
	}
	n, err = f.Read(b)
	if n != 3 || err != nil {
		t.Fatalf("a short Read gave %d, %v", n, err)
	}
	n, err = f.Read(b)
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("Read at the end gave %d, %v", n, err)
	}
	ok(t, f.Sync()) // also on a handle that only reads
	ok(t, f.Close())
}

func access(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "abc")
	f := must(fsys.OpenFile(name, os.O_RDONLY, 0))(t)
	if _, err := f.Write([]byte("x")); err == nil {
		t.Fatal("a handle opened for reading writes")
	}
	if err := f.Truncate(0); err == nil {
		t.Fatal("a handle opened for reading truncates")
	}
	ok(t, f.Close())
	f = must(fsys.OpenFile(name, os.O_WRONLY, 0))(t)
	if _, err := f.Read(make([]byte, 1)); err == nil {
		t.Fatal("a handle opened for writing reads")
	}
	ok(t, f.Close())
	if _, err := fsys.OpenFile(dir, os.O_WRONLY, 0); err == nil {
		t.Fatal("a folder opens for writing")
	}
}

func exclusive(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "abc")
	_, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	is(t, err, fs.ErrExist)
	reads(t, fsys, name, "abc")
}

func trunc(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "a long text")
	write(t, fsys, name, "short")
	reads(t, fsys, name, "short")
}

func truncates(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "abcdef")
	f := must(fsys.OpenFile(name, os.O_RDWR, 0))(t)
	ok(t, f.Truncate(3))
	ok(t, f.Truncate(5))
	reads(t, fsys, name, "abc\x00\x00")
	must(f.Seek(7, io.SeekStart))(t)
	must(f.Write([]byte("x")))(t)
	ok(t, f.Close())
	reads(t, fsys, name, "abc\x00\x00\x00\x00x")
}

func renames(t *testing.T, fsys disk.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, fsys, a, "new")
	write(t, fsys, b, "old")
	ok(t, fsys.Rename(a, b))
	reads(t, fsys, b, "new")
	_, err := fsys.Stat(a)
	is(t, err, fs.ErrNotExist)
	is(t, fsys.Rename(a, b), fs.ErrNotExist)
	ok(t, fsys.SyncDir(dir))
}

func unlinked(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "abc")
	f := must(fsys.OpenFile(name, os.O_RDONLY, 0))(t)
	ok(t, fsys.Remove(name))
	b := make([]byte, 3)
	must(f.ReadAt(b, 0))(t)
	if string(b) != "abc" {
		t.Fatalf("after its removal the file holds %q", b)
	}
	ok(t, f.Close())
	is(t, fsys.Remove(name), fs.ErrNotExist)
}

func removes(t *testing.T, fsys disk.FS, dir string) {
	sub := filepath.Join(dir, "sub")
	ok(t, fsys.MkdirAll(sub, 0o755))
	write(t, fsys, filepath.Join(sub, "a"), "")
	is(t, fsys.Remove(sub), syscall.ENOTEMPTY)
	ok(t, fsys.Remove(filepath.Join(sub, "a")))
	ok(t, fsys.Remove(sub))
}

func missing(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "none")
	_, err := fsys.OpenFile(name, os.O_RDWR, 0)
	is(t, err, fs.ErrNotExist)
	_, err = fsys.OpenFile(filepath.Join(name, "a"), os.O_RDWR|os.O_CREATE, 0o600)
	is(t, err, fs.ErrNotExist)
	_, err = fsys.Stat(name)
	is(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir(name)
	is(t, err, fs.ErrNotExist)
	is(t, fsys.SyncDir(name), fs.ErrNotExist)
}

func lists(t *testing.T, fsys disk.FS, dir string) {
	write(t, fsys, filepath.Join(dir, "b"), "12345")
	write(t, fsys, filepath.Join(dir, "a"), "")
	ok(t, fsys.MkdirAll(filepath.Join(dir, "c"), 0o755))
	var names []string
	for _, e := range must(fsys.ReadDir(dir))(t) {
		names = append(names, e.Name())
		if e.IsDir() != (e.Name() == "c") {
			t.Fatalf("%s is a folder: %v", e.Name(), e.IsDir())
		}
		if info := must(e.Info())(t); e.Name() == "b" && info.Size() != 5 {
			t.Fatalf("b has %d bytes", info.Size())
		}
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Fatalf("the folder lists %q", names)
	}
}

func closed(t *testing.T, fsys disk.FS, dir string) {
	f := must(fsys.OpenFile(filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE, 0o600))(t)
	ok(t, f.Close())
	_, err := f.Write([]byte("x"))
	is(t, err, fs.ErrClosed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	is(t, err, fs.ErrClosed)
	is(t, f.Sync(), fs.ErrClosed)
	is(t, f.Close(), fs.ErrClosed)
}

func writeFile(t *testing.T, fsys disk.FS, dir string) {
	name := filepath.Join(dir, "a")
	ok(t, disk.WriteFile(fsys, name, []byte("old"), 0o600))
	ok(t, disk.WriteFile(fsys, name, []byte("new"), 0o600))
	reads(t, fsys, name, "new")
	if entries := must(fsys.ReadDir(dir))(t); len(entries) != 1 {
		t.Fatalf("WriteFile left %v", entries)
	}
	if err := disk.WriteFile(fsys, filepath.Join(dir, "none", "a"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("WriteFile into a missing folder gave %v", err)
	}
}

func mkdirAll(t *testing.T, fsys disk.FS, dir string) {
	deep := filepath.Join(dir, "x", "y", "z")
	ok(t, disk.MkdirAll(fsys, deep, 0o755))
	ok(t, disk.MkdirAll(fsys, deep, 0o755))
	if info := must(fsys.Stat(deep))(t); !info.IsDir() {
		t.Fatal("MkdirAll made something else than a folder")
	}
	write(t, fsys, filepath.Join(dir, "f"), "")
	if err := disk.MkdirAll(fsys, filepath.Join(dir, "f"), 0o755); err == nil {
		t.Fatal("MkdirAll takes a file for a folder")
	}
}
