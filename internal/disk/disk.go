// Package disk is the file system as the gateway needs it: a small interface,
// atomic writes, and (in faultdisk) a file system that fails on purpose.
//
// A gateway loses power without warning. What survives is only what was
// fsynced: the content of a file by File.Sync, its name by FS.SyncDir of the
// folder that holds it. Everything that must survive goes through this
// interface, so that a test can cut the power at every single write.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	// Sync returns when the content and size are on stable storage.
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// FS is a file system. Names are ordinary operating-system paths.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	MkdirAll(dir string, perm fs.FileMode) error
	ReadDir(dir string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir returns when creations, removals and renames in dir are on
	// stable storage.
	SyncDir(dir string) error
}

// OS is the machine's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // a nil *os.File in a File would not be nil
	}
	return f, nil
}
func (osFS) Rename(from, to string) error                { return os.Rename(from, to) }
func (osFS) Remove(name string) error                    { return os.Remove(name) }
func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error)   { return os.ReadDir(dir) }
func (osFS) Stat(name string) (fs.FileInfo, error)       { return os.Stat(name) }
func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll makes dir and the folders above it that are missing, so that after a
// power cut they are there: a file that was synced in a folder whose own name
// was not is gone with it.
func MkdirAll(fsys FS, dir string, perm fs.FileMode) error {
	parent := filepath.Dir(dir)
	if parent == dir {
		return nil // "/" or "."
	}
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, perm); err != nil {
		return fmt.Errorf("making the folder %s: %w", dir, err)
	}
	// Also where dir was there: whoever made it may have died before this.
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("making the folder %s: %w", dir, err)
	}
	return nil
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// WriteFile puts data at name so that after a power cut at any moment either
// the old content or the new is there, whole: it writes name+".new", syncs it,
// renames it and syncs the folder.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) (err error) {
	tmp := name + ".new"
	f, err := fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), fsys.Remove(tmp))
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
