// Package memdisk is a file system in memory: for secrets that must touch no disk
// but the one that they are for, and for looking at files before they are written.
package memdisk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"penstock/internal/disk"
)

// Disk is a file system in memory. Its methods, and those of its files, may be
// called from any goroutine.
type Disk struct {
	mu    sync.Mutex
	nodes map[string]*node // by clean path
}

// node is a file or a folder; guarded by its disk's mu.
type node struct {
	mode    fs.FileMode
	content []byte
}

var _ disk.FS = (*Disk)(nil)

// New returns an empty disk: only the root folder is there.
func New() *Disk {
	return &Disk{nodes: map[string]*node{"/": {mode: fs.ModeDir | 0o755}}}
}

// File is a file's content and permissions.
type File struct {
	Content []byte
	Mode    fs.FileMode
}

// Files are all files by name.
func (d *Disk) Files() map[string]File {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]File{}
	for name, n := range d.nodes {
		if !n.mode.IsDir() {
			all[name] = File{bytes.Clone(n.content), n.mode}
		}
	}
	return all
}

// clean is the one way to write a name; the root is where relative ones begin.
func clean(name string) string { return filepath.Clean("/" + name) }

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// OpenFile implements disk.FS.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = clean(name)
	n := d.nodes[name]
	switch parent := d.nodes[filepath.Dir(name)]; {
	case n == nil && flag&os.O_CREATE == 0, n == nil && parent == nil:
		return nil, fail("open", name, fs.ErrNotExist)
	case n == nil && !parent.mode.IsDir():
		return nil, fail("open", name, syscall.ENOTDIR)
	case n == nil:
		n = &node{mode: perm.Perm()}
		d.nodes[name] = n
	case flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0:
		return nil, fail("open", name, fs.ErrExist)
	case n.mode.IsDir() && flag&(os.O_WRONLY|os.O_RDWR) != 0:
		return nil, fail("open", name, syscall.EISDIR)
	}
	if flag&os.O_TRUNC != 0 {
		n.content = nil
	}
	return &file{disk: d, node: n, name: name, flag: flag}, nil
}

// Rename implements disk.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, to = clean(from), clean(to)
	n := d.nodes[from]
	if n == nil || d.nodes[filepath.Dir(to)] == nil {
		return fail("rename", from, fs.ErrNotExist)
	}
	if there := d.nodes[to]; n.mode.IsDir() || there != nil && there.mode.IsDir() {
		return fail("rename", from, errors.ErrUnsupported) // folders stay where they are
	}
	delete(d.nodes, from)
	d.nodes[to] = n
	return nil
}

// Remove implements disk.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = clean(name)
	if d.nodes[name] == nil {
		return fail("remove", name, fs.ErrNotExist)
	}
	if len(d.names(name)) > 0 {
		return fail("remove", name, syscall.ENOTEMPTY)
	}
	delete(d.nodes, name)
	return nil
}

// names are those in a folder, sorted; mu is held.
func (d *Disk) names(dir string) (names []string) {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	for name := range d.nodes {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// MkdirAll implements disk.FS.
func (d *Disk) MkdirAll(dir string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var missing []string
	for dir = clean(dir); d.nodes[dir] == nil; dir = filepath.Dir(dir) {
		missing = append(missing, dir)
	}
	if !d.nodes[dir].mode.IsDir() {
		return fail("mkdir", dir, syscall.ENOTDIR)
	}
	for _, name := range missing {
		d.nodes[name] = &node{mode: fs.ModeDir | perm.Perm()}
	}
	return nil
}

// ReadDir implements disk.FS.
func (d *Disk) ReadDir(dir string) (entries []fs.DirEntry, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir = clean(dir)
	if d.nodes[dir] == nil {
		return nil, fail("open", dir, fs.ErrNotExist)
	}
	for _, name := range d.names(dir) {
		n := d.nodes[filepath.Join(dir, name)]
		entries = append(entries, fs.FileInfoToDirEntry(info{name, n.mode, int64(len(n.content))}))
	}
	return entries, nil
}

// Stat implements disk.FS.
func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[clean(name)]
	if n == nil {
		return nil, fail("stat", name, fs.ErrNotExist)
	}
	return info{filepath.Base(name), n.mode, int64(len(n.content))}, nil
}

// SyncDir implements disk.FS: there is nothing to bring to safety.
func (d *Disk) SyncDir(dir string) error {
	_, err := d.Stat(dir)
	return err
}

// info is a file's; nobody asks when it was written.
type info struct {
	name string
	mode fs.FileMode
	size int64
}

func (i info) Name() string      { return i.name }
func (i info) Size() int64       { return i.size }
func (i info) Mode() fs.FileMode { return i.mode }
func (info) ModTime() time.Time  { return time.Time{} }
func (i info) IsDir() bool       { return i.mode.IsDir() }
func (info) Sys() any            { return nil }

// file is an open file; its fields are guarded by the disk's mu.
type file struct {
	disk   *Disk
	node   *node
	name   string
	flag   int
	offset int64
	closed bool
}

// use locks the disk for an operation, and tells whether the handle allows it.
func (f *file) use(op string, flags ...int) (done func(), err error) {
	f.disk.mu.Lock()
	if f.closed {
		err = fail(op, f.name, fs.ErrClosed)
	} else if len(flags) > 0 && !slices.Contains(flags, f.flag&(os.O_WRONLY|os.O_RDWR)) {
		err = fail(op, f.name, syscall.EBADF)
	}
	return f.disk.mu.Unlock, err
}

func (f *file) Read(b []byte) (int, error) {
	done, err := f.use("read", os.O_RDONLY, os.O_RDWR)
	defer done()
	if err != nil {
		return 0, err
	}
	n, err := f.readAt(b, f.offset)
	f.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	done, err := f.use("read", os.O_RDONLY, os.O_RDWR)
	defer done()
	if err != nil {
		return 0, err
	}
	return f.readAt(b, at)
}

func (f *file) readAt(b []byte, at int64) (n int, err error) {
	if at < int64(len(f.node.content)) {
		n = copy(b, f.node.content[at:])
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (f *file) Write(b []byte) (int, error) {
	done, err := f.use("write", os.O_WRONLY, os.O_RDWR)
	defer done()
	if err != nil {
		return 0, err
	}
	if f.flag&os.O_APPEND != 0 {
		f.offset = int64(len(f.node.content))
	}
	f.resize(max(int64(len(f.node.content)), f.offset+int64(len(b))))
	f.offset += int64(copy(f.node.content[f.offset:], b))
	return len(b), nil
}

func (f *file) resize(size int64) {
	if size <= int64(len(f.node.content)) {
		f.node.content = f.node.content[:size:size]
		return
	}
	f.node.content = append(f.node.content, make([]byte, size-int64(len(f.node.content)))...)
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	done, err := f.use("seek")
	defer done()
	if err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += int64(len(f.node.content))
	}
	if offset < 0 {
		return 0, fail("seek", f.name, syscall.EINVAL)
	}
	f.offset = offset
	return offset, nil
}

func (f *file) Truncate(size int64) error {
	done, err := f.use("truncate", os.O_WRONLY, os.O_RDWR)
	defer done()
	if err == nil {
		f.resize(size)
	}
	return err
}

func (f *file) Sync() error {
	done, err := f.use("sync")
	defer done()
	return err
}

func (f *file) Stat() (fs.FileInfo, error) {
	done, err := f.use("stat")
	defer done()
	return info{filepath.Base(f.name), f.node.mode, int64(len(f.node.content))}, err
}

func (f *file) Close() error {
	done, err := f.use("close")
	defer done()
	f.closed = true
	return err
}
