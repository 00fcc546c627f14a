// Package image reads and writes a folder inside a disk image that is mounted
// nowhere: an ext2, ext3 or ext4 file system, alone or in a partition of an MBR or
// GPT.
//
// Mounting takes root and leaves traces; there is no writer of ext4 for Go. The work
// is done by debugfs of e2fsprogs, which every distribution has. A secret reaches it in
// a sealed memfd, so that the image is the only disk that it ever touches: there is no
// temporary file, and debugfs writes past the journal. What is removed is overwritten
// first.
//
// All changes of one Save are one run of debugfs, and the image is synced and checked
// after it. It is not atomic: whoever kills it may have to take a fresh image, and Open
// says so.
package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"penstock/internal/disk"
	"penstock/internal/disk/memdisk"
)

// Image is an open file system in an image. One goroutine uses it.
type Image struct {
	name   string
	file   *os.File
	offset int64
	block  int64 // bytes
}

// Open opens the file system in an image: the one of that partition, which count from
// 1, or with 0 the only one that there is. It refuses an image that is in use or that
// is not clean.
func Open(ctx context.Context, name string, partition int) (m *Image, err error) {
	flag := os.O_RDWR
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Mode()&fs.ModeDevice != 0 {
		flag |= os.O_EXCL // the kernel refuses a device that is mounted
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	m = &Image{name: name, file: f}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another process is at work on it: %w", err)
	}
	if loop, err := attached(st); err != nil {
		return nil, err
	} else if loop != "" {
		return nil, fmt.Errorf("it is attached as %s; unmount it and run losetup -d %s", loop, loop)
	}
	if m.offset, err = find(f, partition); err != nil {
		return nil, err
	}
	if m.block, err = checkSuper(f, m.offset); err != nil {
		return nil, err
	}
	return m, m.fsck(ctx)
}

// Close closes it. What was saved is on disk already.
func (m *Image) Close() { m.file.Close() }

// attached tells which loop device an image is behind.
func attached(image fs.FileInfo) (string, error) {
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, file := range loops {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just been detached
		}
		if st, err := os.Stat(strings.TrimSpace(string(text))); err == nil && os.SameFile(st, image) {
			return "/dev/" + strings.Split(file, "/")[3], nil
		}
	}
	return "", nil
}

// Files are the files of a folder in the image, subfolders left out, in a file system
// in memory under the same path. A folder that is not there has none.
func (m *Image) Files(ctx context.Context, dir string) (*memdisk.Disk, error) {
	d := memdisk.New()
	entries, err := m.list(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(d, dir, 0o700); err != nil {
		return nil, err
	}
	for name, mode := range entries {
		if !mode.IsRegular() {
			continue
		}
		content, err := m.debugfs(ctx, false, "cat "+path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := disk.WriteFile(d, path.Join(dir, name), content, mode.Perm()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// list lists a folder: names with modes.
func (m *Image) list(ctx context.Context, dir string) (map[string]fs.FileMode, error) {
	out, err := m.debugfs(ctx, false, "ls -p "+dir)
	if err != nil {
		return nil, err
	}
	entries := map[string]fs.FileMode{}
	for line := range strings.Lines(string(out)) {
		// /inode/mode/uid/gid/name/size/
		fields := strings.Split(strings.TrimSpace(line), "/")
		if len(fields) < 7 || fields[5] == "." || fields[5] == ".." {
			continue
		}
		raw, err := strconv.ParseUint(fields[2], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("debugfs lists %q", line)
		}
		mode := fs.FileMode(raw) & fs.ModePerm
		switch raw & unix.S_IFMT {
		case unix.S_IFREG:
		case unix.S_IFDIR:
			mode |= fs.ModeDir
		default:
			mode |= fs.ModeIrregular
		}
		entries[fields[5]] = mode
	}
	return entries, nil
}

// plain is a name that needs no quoting in a command of debugfs.
func plain(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
}

// Save makes the files of a folder what they are in d: removes, replaces and makes
// them, owned by root. The folder is made for its owner only where it is missing. The
// file of the name last comes last.
func (m *Image) Save(ctx context.Context, dir string, d *memdisk.Disk, last string) error {
	was, err := m.Files(ctx, dir)
	if err != nil {
		return err
	}
	old, now := was.Files(), d.Files()
	if maps.EqualFunc(old, now, equal) {
		return nil
	}
	var commands []string
	var secrets []*os.File
	defer func() {
		for _, f := range secrets {
			f.Close()
		}
	}()
	missing, err := m.missing(ctx, dir)
	if err != nil {
		return err
	}
	commands = append(commands, missing...)
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if is, ok := now[name]; ok && equal(is, old[name]) {
			continue
		}
		for n := int64(0); n*m.block < int64(len(old[name].Content)); n++ {
			commands = append(commands, fmt.Sprintf("zap_block -f %s %d", name, n))
		}
		commands = append(commands, "rm "+name)
	}
	names := slices.SortedFunc(maps.Keys(now), func(a, b string) int {
		if d := rank(a, last) - rank(b, last); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if is, ok := old[name]; ok && equal(is, now[name]) {
			continue
		}
		if !plain(name) {
			return fmt.Errorf("a file %q cannot be written into an image", name)
		}
		f, err := sealed(now[name].Content)
		if err != nil {
			return err
		}
		secrets = append(secrets, f)
		const firstSecret = 4 // 3 is the image
		commands = append(commands,
			fmt.Sprintf("write /dev/fd/%d %s", firstSecret-1+len(secrets), name),
			fmt.Sprintf("sif %s mode 0100%03o", name, now[name].Mode.Perm()),
			fmt.Sprintf("sif %s uid 0", name), fmt.Sprintf("sif %s gid 0", name))
	}
	if _, err := m.run(ctx, true, strings.Join(commands, "\n")+"\n", secrets); err != nil {
		return err
	}
	if err := m.file.Sync(); err != nil {
		return err
	}
	if err := m.fsck(ctx); err != nil {
		return err
	}
	is, err := m.Files(ctx, dir)
	if err == nil && !maps.EqualFunc(is.Files(), now, equal) {
		err = errors.New("it does not hold what was written: is it full?")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

func equal(a, b memdisk.File) bool { return a.Mode == b.Mode && bytes.Equal(a.Content, b.Content) }

func rank(name, last string) int {
	if name == last {
		return 1
	}
	return 0
}

// missing are the commands that make a folder and what is missing above it.
func (m *Image) missing(ctx context.Context, dir string) (commands []string, err error) {
	if !plain(dir) || !path.IsAbs(dir) {
		return nil, fmt.Errorf("a folder %q cannot be made in an image", dir)
	}
	for at := path.Clean(dir); at != "/"; at = path.Dir(at) {
		_, err := m.list(ctx, at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		mode := "040755"
		if at == path.Clean(dir) {
			mode = "040700"
		}
		commands = append([]string{"mkdir " + at, fmt.Sprintf("sif %s mode %s", at, mode), fmt.Sprintf("sif %s uid 0", at), fmt.Sprintf("sif %s gid 0", at)}, commands...)
	}
	return commands, nil
}

// sealed is content in memory that another process can read and nobody change.
func sealed(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("penstock", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory for a secret: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	_, err = f.Write(content)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("memory for a secret: %w", err)
	}
	return f, nil
}

// debugfs runs one command that reads.
func (m *Image) debugfs(ctx context.Context, write bool, command string) ([]byte, error) {
	if !plain(strings.ReplaceAll(command, " ", "")) {
		return nil, fmt.Errorf("a name in %q cannot be used in an image", command)
	}
	return m.run(ctx, write, command, nil)
}

// run runs debugfs: with one command, or when it writes, with commands on its
// standard input. Its exit status says nothing; what it complains of does.
func (m *Image) run(ctx context.Context, write bool, commands string, more []*os.File) ([]byte, error) {
	tool, err := tool("debugfs")
	if err != nil {
		return nil, err
	}
	args := []string{"-R", commands, m.device()}
	if write {
		args = []string{"-w", "-f", "/dev/stdin", m.device()}
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	if write {
		cmd.Stdin = strings.NewReader(commands)
	}
	cmd.ExtraFiles = append([]*os.File{m.file}, more...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGFS_PAGER=cat", "PAGER=cat")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("debugfs: %w: %s", err, said(complaints.String()))
	}
	switch text := said(complaints.String()); {
	case strings.Contains(text, "File not found"):
		return nil, fmt.Errorf("debugfs: %s: %w", text, fs.ErrNotExist)
	case text != "":
		return nil, fmt.Errorf("debugfs: %s", text)
	}
	return out.Bytes(), nil
}

// said is what a program of e2fsprogs complains of: all but its version.
func said(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs 1") && !strings.HasPrefix(line, "e2fsck 1") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// device is how the programs find the file system: the image is their file 3.
func (m *Image) device() string {
	if m.offset == 0 {
		return "/dev/fd/3"
	}
	return fmt.Sprintf("/dev/fd/3?offset=%d", m.offset)
}

// fsck checks the file system, and changes nothing.
func (m *Image) fsck(ctx context.Context) error {
	tool, err := tool("e2fsck")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "-fn", m.device())
	cmd.ExtraFiles = []*os.File{m.file}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("its file system is damaged, perhaps by a run that was killed: take a fresh image, or repair it with e2fsck: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// toolDirs are where they are besides.
var toolDirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// tool finds a program of e2fsprogs, which is in no ordinary user's PATH.
func tool(name string) (string, error) {
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	for _, dir := range toolDirs {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is not there: install e2fsprogs, which writes into images", name)
}

const (
	sector       = 512
	superAt      = 1024
	superMagic   = 0xEF53
	stateClean   = 1
	needsRecover = 0x4    // of the incompatible features
	inlineData   = 0x8000 // small files in the inode, where they cannot be overwritten
)

// super reads a superblock, or answers nil where there is none.
func super(f io.ReaderAt, offset int64) []byte {
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, offset+superAt); err != nil || binary.LittleEndian.Uint16(b[56:]) != superMagic {
		return nil
	}
	return b
}

// checkSuper tells whether the file system may be written by debugfs, and how large its
// blocks are.
func checkSuper(f io.ReaderAt, offset int64) (block int64, err error) {
	b := super(f, offset)
	if b == nil {
		return 0, errors.New("there is no ext2, ext3 or ext4 file system; an image that is compressed must be unpacked first")
	}
	features := binary.LittleEndian.Uint32(b[96:])
	switch {
	case features&needsRecover != 0:
		return 0, errors.New("its journal holds writes that were never finished: it was not unmounted. Run e2fsck -p on it, or take a fresh image")
	case binary.LittleEndian.Uint16(b[58:])&stateClean == 0:
		return 0, errors.New("its file system is not clean: run e2fsck -p on it, or take a fresh image")
	case features&inlineData != 0:
		return 0, errors.New("its file system has the feature inline_data, with which a secret cannot be overwritten; make it without")
	}
	return 1024 << (binary.LittleEndian.Uint32(b[24:]) & 15), nil
}

// find finds a file system: where it begins.
func find(f io.ReaderAt, partition int) (offset int64, err error) {
	starts, err := partitions(f)
	if err != nil {
		return 0, err
	}
	if len(starts) == 0 {
		if partition > 0 {
			return 0, fmt.Errorf("it has no partition %d: it has no partition table", partition)
		}
		return 0, nil
	}
	if partition > 0 {
		start, ok := starts[partition]
		if !ok {
			return 0, fmt.Errorf("it has no partition %d; there are %v", partition, slices.Sorted(maps.Keys(starts)))
		}
		return start, nil
	}
	var found []string
	for _, n := range slices.Sorted(maps.Keys(starts)) {
		if b := super(f, starts[n]); b != nil {
			offset = starts[n]
			found = append(found, fmt.Sprintf("%d %q", n, bytes.TrimRight(b[120:136], "\x00")))
		}
	}
	switch len(found) {
	case 0:
		return 0, errors.New("none of its partitions has an ext2, ext3 or ext4 file system")
	case 1:
		return offset, nil
	}
	return 0, fmt.Errorf("it has several file systems: partitions %s; say which with -partition", strings.Join(found, ", "))
}

// partitions reads an MBR, or the GPT that it stands before: where partitions begin,
// in bytes, by number. An image without either has none.
func partitions(f io.ReaderAt) (starts map[int]int64, err error) {
	mbr := make([]byte, sector)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		return nil, fmt.Errorf("it is too small for a disk: %w", err)
	}
	starts = map[int]int64{}
	if mbr[510] != 0x55 || mbr[511] != 0xAA || super(f, 0) != nil {
		return starts, nil
	}
	const protective = 0xEE
	for i := range 4 {
		e := mbr[446+16*i:]
		switch kind, start := e[4], binary.LittleEndian.Uint32(e[8:]); {
		case kind == protective:
			return gpt(f)
		case kind != 0 && start != 0:
			starts[i+1] = int64(start) * sector
		}
	}
	return starts, nil
}

// gpt reads a GUID partition table (UEFI 2.10, 5.3).
func gpt(f io.ReaderAt) (map[int]int64, error) {
	header := make([]byte, 92)
	if _, err := f.ReadAt(header, sector); err != nil || string(header[:8]) != "EFI PART" {
		return nil, errors.New("its partition table (GPT) cannot be read; only sectors of 512 bytes are known")
	}
	at := binary.LittleEndian.Uint64(header[72:])
	count, size := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if count > 1024 || size < 128 || size > 4096 || at > 1<<40 {
		return nil, errors.New("its partition table (GPT) is damaged")
	}
	starts := map[int]int64{}
	for i := range int(count) {
		e := make([]byte, size)
		if _, err := f.ReadAt(e, int64(at)*sector+int64(i)*int64(size)); err != nil {
			return nil, fmt.Errorf("its partition table (GPT) is cut short: %w", err)
		}
		first := binary.LittleEndian.Uint64(e[32:])
		if !bytes.Equal(e[:16], make([]byte, 16)) && first < 1<<40 {
			starts[i+1] = int64(first) * sector
		}
	}
	return starts, nil
}
