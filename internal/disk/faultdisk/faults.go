package faultdisk

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Kind is a kind of operation.
type Kind string

// The first eight change the disk (a sync changes what is safe) and are
// counted: at each of them the power can be cut. The others only look.
const (
	Create   Kind = "create"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Mkdir    Kind = "mkdir"
	Sync     Kind = "sync"
	SyncDir  Kind = "syncdir"

	Open    Kind = "open"
	Read    Kind = "read"
	ReadDir Kind = "readdir"
	Stat    Kind = "stat"
)

// Operation is one call that reached the disk.
type Operation struct {
	N    int // its number, from 1; 0 when it changes nothing
	Kind Kind
	Name string
	Size int    // bytes written, or the size truncated to
	Site string // of a sync: see SyncSites
}

func (o Operation) String() string { return fmt.Sprintf("%d %s %s", o.N, o.Kind, o.Name) }

// errNoEffect marks an operation that failed without touching the disk.
var errNoEffect = errors.New("no effect")

// visible is an error as the caller of the file system sees it.
func visible(err error) error {
	var e noEffect
	if errors.As(err, &e) {
		return e.error
	}
	return err
}

type noEffect struct{ error }

func (noEffect) Is(target error) bool { return target == errNoEffect }
func (e noEffect) Unwrap() error      { return e.error }

// begin counts an operation that changes the disk and says whether it fails.
// When the power goes during it, d.dead is set and the caller does it all the
// same, so that it is one of those that may have survived. d.mu is held.
func (d *Disk) begin(o Operation) error {
	if d.dead {
		return noEffect{ErrPowerCut}
	}
	if d.killAt > 0 && d.ops+1 >= d.killAt {
		return noEffect{ErrKilled}
	}
	if d.readOnly && o.Kind != Sync && o.Kind != SyncDir {
		return noEffect{syscall.EROFS}
	}
	d.ops++
	o.N = d.ops
	if d.ops == d.cutAt {
		d.dead = true
		return ErrPowerCut
	}
	if d.intercept != nil {
		if err := d.intercept(o); err != nil {
			return err
		}
	}
	return nil
}

// look lets the interceptor fail an operation that changes nothing.
func (d *Disk) look(kind Kind, name string) error {
	if d.dead {
		return ErrPowerCut
	}
	if d.intercept != nil {
		return d.intercept(Operation{Kind: kind, Name: name})
	}
	return nil
}

// room is how many of size bytes at off still fit.
func (d *Disk) room(n *node, off, size int64) int64 {
	if d.space < 0 {
		return size
	}
	end := int64(len(n.now)) + max(d.space-d.used, 0)
	return min(size, max(end-off, 0))
}

// Operations is the number of operations so far that changed the disk.
func (d *Disk) Operations() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// CutAt takes the power away during the n-th operation that changes the disk,
// counted from the disk's beginning. 0 takes it back.
func (d *Disk) CutAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = n
}

// Cut takes the power away now, between two operations.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// KillAt kills the process, not the power, before the n-th operation that
// changes the disk: from then on every change fails with ErrKilled. What was
// written before is there, whether it was synced or not. 0 takes it back.
func (d *Disk) KillAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killAt = n
}

// Restart begins the next process: every open handle is dead, and KillAt is
// forgotten.
func (d *Disk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killed++
	d.killAt = 0
}

// SetReadOnly remounts the disk read-only, or writable again. Changes then fail
// with EROFS; a sync still works.
func (d *Disk) SetReadOnly(readOnly bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readOnly = readOnly
}

// SetSpace lets bytes of file content fit on the disk; a write beyond that is
// done as far as there is room and then fails with ENOSPC. Names take no room.
// A negative number lifts the bound.
func (d *Disk) SetSpace(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = bytes
}

// Used is the room that files take now.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Lie makes every later sync return at once without doing anything.
func (d *Disk) Lie(lie bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying = lie
}

// Intercept calls f before each operation; an error fails the operation. A
// write that fails so is half done, a Sync that fails loses what it should have
// made safe, anything else fails without effect. f must not use the disk; nil
// ends it.
func (d *Disk) Intercept(f func(Operation) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.intercept = f
}

// FailNth is an interceptor that fails the n-th operation from now on that
// changes the disk, once.
func FailNth(n int, err error) func(Operation) error {
	return func(o Operation) error {
		if o.N == 0 {
			return nil
		}
		if n--; n == 0 {
			return err
		}
		return nil
	}
}

// Flip inverts one bit of a file, as safe as if it had always been so.
func (d *Disk) Flip(name string, bit int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err != nil {
		return pathError("flip", name, err)
	}
	if n.dir || bit/8 >= len(n.now) || bit/8 >= len(n.safe) {
		return pathError("flip", name, syscall.EINVAL)
	}
	mask := byte(1) << (bit % 8)
	n.now[bit/8] ^= mask
	n.safe[bit/8] ^= mask
	return nil
}

// SyncSites lists where Sync and SyncDir were called from and did not fail so
// far, each as the calls that led there, innermost first, up to the test:
//
//	disk/disk.go:93 < queue/head.go:71 < queue/open.go:40
func (d *Disk) SyncSites() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.sites))
}

// IgnoreSync makes syncs from a site do nothing and succeed. The site is one
// that SyncSites lists, or its beginning up to a " < ": "disk/disk.go:93"
// means every call from that line, whoever called it.
func (d *Disk) IgnoreSync(site string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ignored == nil {
		d.ignored = map[string]bool{}
	}
	d.ignored[site] = true
}

func (d *Disk) ignores(site string) bool {
	for ignored := range d.ignored {
		if site == ignored || strings.HasPrefix(site, ignored+" < ") {
			return true
		}
	}
	return false
}

// caller names where a sync was called from.
func caller() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var path []string
	for {
		f, more := frames.Next()
		switch {
		case strings.HasSuffix(f.File, "_test.go"), strings.HasPrefix(f.Function, "runtime."), strings.HasPrefix(f.Function, "testing."):
			more = false
			if len(path) == 0 {
				path = append(path, place(f))
			}
		case strings.Contains(f.Function, "/faultdisk.") && len(path) == 0:
		default:
			path = append(path, place(f))
		}
		if !more {
			break
		}
	}
	return strings.Join(path, " < ")
}

func place(f runtime.Frame) string {
	dir, base := filepath.Split(f.File)
	return fmt.Sprintf("%s/%s:%d", filepath.Base(dir), base, f.Line)
}
