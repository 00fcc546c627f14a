package faultdisk

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"penstock/internal/disk"
)

var (
	// ErrPowerCut is what every operation returns once the power is gone.
	ErrPowerCut = errors.New("faultdisk: power cut")
	// ErrKilled is what every change returns once the process is dead.
	ErrKilled = errors.New("faultdisk: process killed")
)

// Disk is a file system in memory. It is safe for concurrent use.
type Disk struct {
	mu   sync.Mutex
	root *node

	ops    int // mutating operations so far
	cutAt  int // the operation during which the power goes; 0: never
	dead   bool
	killAt int // the operation before which the process is killed; 0: never
	killed int // how often Restart was called: older handles are dead

	readOnly  bool
	space     int64 // bytes that fit; negative: any number
	used      int64
	lying     bool
	intercept func(Operation) error
	ignored   map[string]bool
	sites     map[string]bool
}

var _ disk.FS = (*Disk)(nil)

// New returns an empty disk: only the root folder "/" is there.
func New() *Disk {
	return &Disk{root: newDir(), space: -1}
}

// A node is a file or a folder, whatever its names.
type node struct {
	dir   bool
	perm  fs.FileMode
	stamp time.Time
	links int // names that lead here
	opens int // handles that lead here

	// A file: what programs see, what is safe, and the writes that lead from
	// the one to the other.
	now, safe []byte
	writes    []write

	// A folder, in the same way.
	names, safeNames map[string]*node
	changes          []change
}

// A write puts data at off, or cuts the file at off.
type write struct {
	off      int64
	data     []byte
	truncate bool
	synced   bool // on the disk, behind one that is lost
	lost     bool // a Sync failed: no later one writes it
}

// A change of a folder: one name gone, one name set, or both at once (rename).
type change struct {
	clear string
	set   string
	to    *node
}

func newDir() *node {
	return &node{dir: true, perm: 0o755, names: map[string]*node{}, safeNames: map[string]*node{}}
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func split(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

// find returns the node at name; d.mu is held.
func (d *Disk) find(name string) (*node, error) {
	n := d.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		next := n.names[part]
		if next == nil {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, nil
}

// parent returns the folder that holds name, and name's last part.
func (d *Disk) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", syscall.EINVAL
	}
	dir, err := d.find(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, parts[len(parts)-1], nil
}

// change does c in dir and remembers that it is not yet safe.
func (d *Disk) change(dir *node, c change) {
	if c.clear != "" {
		d.unlink(dir.names[c.clear])
		delete(dir.names, c.clear)
	}
	if c.set != "" {
		c.to.links++
		d.unlink(dir.names[c.set])
		dir.names[c.set] = c.to
	}
	dir.changes = append(dir.changes, c)
	dir.stamp = d.time()
}

func (d *Disk) unlink(n *node) {
	if n != nil {
		n.links--
		d.release(n)
	}
}

// release gives back the room of a file that nothing leads to.
func (d *Disk) release(n *node) {
	if !n.dir && n.links == 0 && n.opens == 0 {
		d.used -= int64(len(n.now))
	}
}

// time is a time that grows with each operation, the same in every run.
func (d *Disk) time() time.Time { return time.Unix(int64(d.ops), 0) }

func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(err error) (disk.File, error) { return nil, pathError("open", name, err) }
	if err := d.look(Open, name); err != nil {
		return fail(err)
	}
	writable := flag&(os.O_WRONLY|os.O_RDWR) != 0
	n, err := d.find(name)
	switch {
	case errors.Is(err, syscall.ENOENT) && flag&os.O_CREATE != 0:
		dir, base, err := d.parent(name)
		if err != nil {
			return fail(err)
		}
		n = &node{perm: perm.Perm(), stamp: d.time()}
		if err := d.begin(Operation{Kind: Create, Name: name}); err != nil {
			if d.dead && !errors.Is(err, errNoEffect) {
				d.change(dir, change{set: base, to: n})
			}
			return fail(visible(err))
		}
		d.change(dir, change{set: base, to: n})
	case err != nil:
		return fail(err)
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return fail(syscall.EEXIST)
	case n.dir && writable:
		return fail(syscall.EISDIR)
	case writable && d.readOnly:
		return fail(syscall.EROFS)
	}
	n.opens++
	f := &file{disk: d, node: n, name: name, flag: flag, life: d.killed}
	if flag&os.O_TRUNC != 0 && len(n.now) > 0 {
		if err := f.truncate(0); err != nil {
			n.opens--
			return fail(err)
		}
	}
	return f, nil
}

func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(err error) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: err} }
	if d.dead {
		return fail(ErrPowerCut)
	}
	fromDir, fromBase, err := d.parent(from)
	if err != nil {
		return fail(err)
	}
	toDir, toBase, err := d.parent(to)
	if err != nil {
		return fail(err)
	}
	n := fromDir.names[fromBase]
	if n == nil {
		return fail(syscall.ENOENT)
	}
	if fromDir != toDir {
		return fail(syscall.EXDEV) // nothing of ours needs it; atomicity over two folders is another model
	}
	if old := toDir.names[toBase]; old == n {
		return nil
	} else if old != nil && old.dir {
		return fail(syscall.EISDIR)
	}
	c := change{clear: fromBase, set: toBase, to: n}
	if err := d.begin(Operation{Kind: Rename, Name: to}); err != nil {
		if d.dead && !errors.Is(err, errNoEffect) {
			d.change(fromDir, c)
		}
		return fail(visible(err))
	}
	d.change(fromDir, c)
	return nil
}

func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(err error) error { return pathError("remove", name, err) }
	if d.dead {
		return fail(ErrPowerCut)
	}
	dir, base, err := d.parent(name)
	if err != nil {
		return fail(err)
	}
	n := dir.names[base]
	if n == nil {
		return fail(syscall.ENOENT)
	}
	if n.dir && len(n.names) > 0 {
		return fail(syscall.ENOTEMPTY)
	}
	if err := d.begin(Operation{Kind: Remove, Name: name}); err != nil {
		if d.dead && !errors.Is(err, errNoEffect) {
			d.change(dir, change{clear: base})
		}
		return fail(visible(err))
	}
	d.change(dir, change{clear: base})
	return nil
}

func (d *Disk) MkdirAll(name string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return pathError("mkdir", name, ErrPowerCut)
	}
	at := d.root
	for _, part := range split(name) {
		next := at.names[part]
		if next == nil {
			next = newDir()
			next.perm, next.stamp = perm.Perm(), d.time()
			if err := d.begin(Operation{Kind: Mkdir, Name: name}); err != nil {
				if d.dead && !errors.Is(err, errNoEffect) {
					d.change(at, change{set: part, to: next})
				}
				return pathError("mkdir", name, visible(err))
			}
			d.change(at, change{set: part, to: next})
		} else if !next.dir {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		at = next
	}
	return nil
}

func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.look(ReadDir, name); err != nil {
		return nil, pathError("open", name, err)
	}
	n, err := d.find(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	entries := make([]fs.DirEntry, 0, len(n.names))
	for base, child := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(base)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.look(Stat, name); err != nil {
		return nil, pathError("stat", name, err)
	}
	n, err := d.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(filepath.Base(name)), nil
}

func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	return d.sync(n, name, SyncDir)
}

// sync makes n safe, unless the disk fails, lies, or was told to ignore the caller.
func (d *Disk) sync(n *node, name string, kind Kind) error {
	site := caller()
	if err := d.begin(Operation{Kind: kind, Name: name, Site: site}); err != nil {
		if !d.dead && !errors.Is(err, errNoEffect) {
			for i := range n.writes {
				n.writes[i].lost = n.writes[i].lost || !n.writes[i].synced
			}
		}
		return pathError("sync", name, visible(err))
	}
	if d.sites == nil {
		d.sites = map[string]bool{}
	}
	d.sites[site] = true
	if d.lying || d.ignores(site) {
		return nil
	}
	n.settle()
	return nil
}

// settle makes what programs see safe, but for writes that a failed Sync lost.
func (n *node) settle() {
	if n.dir {
		n.safeNames, n.changes = maps.Clone(n.names), nil
		return
	}
	for i := range n.writes {
		n.writes[i].synced = n.writes[i].synced || !n.writes[i].lost
	}
	i := 0
	for ; i < len(n.writes) && n.writes[i].synced; i++ {
		n.safe = n.writes[i].apply(n.safe)
	}
	n.writes = slices.Clone(n.writes[i:])
}

func (w write) apply(content []byte) []byte {
	if w.truncate {
		if w.off <= int64(len(content)) {
			return content[:w.off]
		}
		return append(content, make([]byte, w.off-int64(len(content)))...)
	}
	end := w.off + int64(len(w.data))
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	copy(content[w.off:end], w.data)
	return content
}

// info describes a node under the name it was found by.
func (n *node) info(base string) fs.FileInfo {
	mode := n.perm
	if n.dir {
		mode |= fs.ModeDir
	}
	return fileInfo{name: base, size: int64(len(n.now)), mode: mode, stamp: n.stamp}
}

type fileInfo struct {
	name  string
	size  int64
	mode  fs.FileMode
	stamp time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.stamp }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
