package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// pty is one pseudo-terminal with both of its ends.
type pty struct {
	far, near int // file descriptors
	watch     int // inotify on the near end; -1 if there is none
	path      string
	users     int // programs that have the near end open, but for ourselves
}

func openPTY() (_ *pty, err error) {
	p := &pty{far: -1, near: -1, watch: -1}
	defer func() {
		if err != nil {
			p.close()
			err = fmt.Errorf("making a pseudo-terminal: %w", err)
		}
	}()
	if p.far, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	if err := unix.IoctlSetPointerInt(p.far, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlocking it: %w", err)
	}
	n, err := unix.IoctlGetInt(p.far, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("asking for its number: %w", err)
	}
	p.path = "/dev/pts/" + strconv.Itoa(n)
	if p.near, err = unix.Open(p.path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.path, Err: err}
	}
	if err := makeRaw(p.near); err != nil {
		return nil, fmt.Errorf("setting it to raw: %w", err)
	}
	p.watch = watchUsers(p.path)
	return p, nil
}

// makeRaw lets every byte pass unchanged, until a program sets its own mode.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS2, t)
}

// watchUsers asks to be told when the near end is opened and closed. Without
// it a terminal works all the same, but keeps a dead program's lock and the bytes
// that it did not read.
func watchUsers(path string) int {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN|unix.IN_CLOSE); err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// usersChanged takes in what watch reports. When the last program has gone, the
// terminal is made as good as new: what was not read is thrown away, as a UART
// does when it is closed, and the lock of a program that was killed (TIOCEXCL)
// is taken off, which the kernel does only when nobody has the terminal open.
func (p *pty) usersChanged() (opened, closed bool) {
	var buf [64 * unix.SizeofInotifyEvent]byte
	was := p.users
	for {
		n, err := unix.Read(p.watch, buf[:])
		if err != nil || n <= 0 {
			break
		}
		for i := 0; i+unix.SizeofInotifyEvent <= n; i += unix.SizeofInotifyEvent {
			mask := uint32(buf[i+4]) | uint32(buf[i+5])<<8 // little endian, as every Linux we run on
			if mask&unix.IN_OPEN != 0 {
				p.users++
			}
			if mask&unix.IN_CLOSE != 0 {
				p.users--
			}
		}
	}
	if p.users <= 0 && was > 0 {
		// Neither can fail on a terminal that is open, and nothing else is to
		// be done if they do.
		_ = unix.IoctlSetInt(p.near, unix.TIOCNXCL, 0)
		_ = unix.IoctlSetInt(p.near, unix.TCFLSH, unix.TCIFLUSH)
	}
	return p.users > 0 && was <= 0, p.users <= 0 && was > 0
}

// allRead tells whether the near end's program has read everything, if there is
// one.
func (p *pty) allRead() bool {
	if p == nil {
		return true
	}
	if p.watch >= 0 {
		if p.usersChanged(); p.users <= 0 {
			return true
		}
	}
	n, err := unix.IoctlGetInt(p.near, unix.TIOCINQ)
	return err != nil || n == 0
}

// speed is the speed that the program at the near end has set.
func (p *pty) speed() (int, error) {
	t, err := unix.IoctlGetTermios(p.near, unix.TCGETS2)
	if err != nil {
		return 0, err
	}
	return int(t.Ospeed), nil
}

func (p *pty) close() {
	for _, fd := range []int{p.watch, p.near, p.far} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// link makes path a symbolic link to target. It replaces another link, and
// nothing else.
func link(target, path string) error {
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode().Type() != fs.ModeSymlink:
		return fmt.Errorf("%s exists and is not a link: remove it, or choose another name for the serial port", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid()))
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// unlink removes the link, unless it has come to point elsewhere.
func unlink(target, path string) {
	if to, err := os.Readlink(path); err == nil && to == target {
		os.Remove(path)
	}
}
