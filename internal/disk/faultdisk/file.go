package faultdisk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// file is an open handle; disk.mu guards it.
type file struct {
	disk   *Disk
	node   *node
	name   string
	flag   int
	off    int64
	life   int // Disk.killed when it was opened
	closed bool
}

// usable tells whether the handle still is one; disk.mu is held.
func (f *file) usable(write bool) error {
	switch access := f.flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR); {
	case f.closed || f.life != f.disk.killed:
		return fs.ErrClosed
	case f.disk.dead:
		return ErrPowerCut
	case f.node.dir && write:
		return syscall.EBADF
	case f.node.dir:
		return syscall.EISDIR
	case write && access == os.O_RDONLY, !write && access == os.O_WRONLY:
		return syscall.EBADF
	}
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.readAt(p, off)
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	err := f.usable(false)
	if err == nil {
		err = f.disk.look(Read, f.name)
	}
	if err == nil && off < 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return 0, pathError("read", f.name, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable(true); err != nil {
		return 0, pathError("write", f.name, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.flag&os.O_APPEND != 0 {
		f.off = int64(len(f.node.now))
	}
	err := f.disk.begin(Operation{Kind: Write, Name: f.name, Size: len(p)})
	switch {
	case errors.Is(err, errNoEffect):
		return 0, pathError("write", f.name, visible(err))
	case f.disk.dead:
		f.put(p) // in flight: AfterCut decides what of it is there
		return 0, pathError("write", f.name, ErrPowerCut)
	case err != nil:
		n := len(p) / 2
		f.put(p[:n])
		return n, pathError("write", f.name, err)
	}
	if room := f.disk.room(f.node, f.off, int64(len(p))); room < int64(len(p)) {
		f.put(p[:room])
		return int(room), pathError("write", f.name, syscall.ENOSPC)
	}
	f.put(p)
	return len(p), nil
}

// put writes p at the handle's offset, not yet safe.
func (f *file) put(p []byte) {
	if len(p) > 0 {
		f.do(write{off: f.off, data: bytes.Clone(p)})
		f.off += int64(len(p))
	}
}

func (f *file) do(w write) {
	before := len(f.node.now)
	f.node.now = w.apply(f.node.now)
	f.node.writes = append(f.node.writes, w)
	f.node.stamp = f.disk.time()
	f.disk.used += int64(len(f.node.now) - before)
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed || f.life != f.disk.killed {
		return 0, pathError("seek", f.name, fs.ErrClosed)
	}
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += int64(len(f.node.now))
	}
	if offset < 0 {
		return 0, pathError("seek", f.name, syscall.EINVAL)
	}
	f.off = offset
	return offset, nil
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.usable(true)
	if err == nil && size < 0 {
		err = syscall.EINVAL
	}
	if err == nil {
		err = f.truncate(size)
	}
	if err != nil {
		return pathError("truncate", f.name, err)
	}
	return nil
}

func (f *file) truncate(size int64) error {
	if err := f.disk.begin(Operation{Kind: Truncate, Name: f.name, Size: int(size)}); err != nil {
		if f.disk.dead && !errors.Is(err, errNoEffect) {
			f.do(write{off: size, truncate: true})
		}
		return visible(err)
	}
	f.do(write{off: size, truncate: true})
	return nil
}

// Sync works on a handle that was opened for reading, too, as fsync(2) does.
func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed || f.life != f.disk.killed {
		return pathError("sync", f.name, fs.ErrClosed)
	}
	return f.disk.sync(f.node, f.name, Sync)
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed || f.life != f.disk.killed {
		return nil, pathError("stat", f.name, fs.ErrClosed)
	}
	return f.node.info(filepath.Base(f.name)), nil
}

func (f *file) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	f.node.opens--
	f.disk.release(f.node)
	return nil
}
