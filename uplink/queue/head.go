package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"penstock/internal/disk"
)

const (
	headName  = "head"
	headMagic = "PQH1"
	headClean = 1
	headLen   = 4 + 4 + 8 + 4 + 8 + 8 + 8 + 2*6*8
	headSize  = 2 * blockSize // two slots
)

// head is what is written down beside the log.
type head struct {
	generation uint64
	clean      bool
	epoch      [8]byte
	runStart   int64  // stamp
	runNext    uint64 // the history lane's next number at the start of the run
	lanes      [2]headLane
}

type headLane struct {
	cursor uint64
	stamp  int64 // of the record at the cursor, or before it
	next   uint64
	base   uint64 // of the last segment; 0: there is none
	size   int64
	told   uint64 // the last number dropped whose gap record is durable
}

func (l Lane) index() int { return int(l) - 1 }

func (h head) encode() []byte {
	flags := uint32(0)
	if h.clean {
		flags |= headClean
	}
	b := append(make([]byte, 4, headLen), headMagic...)
	b = putUint64s(b, h.generation)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, h.epoch[:]...)
	b = putUint64s(b, uint64(h.runStart), h.runNext)
	for _, l := range h.lanes {
		b = putUint64s(b, l.cursor, uint64(l.stamp), l.next, l.base, uint64(l.size), l.told)
	}
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func decodeHead(b []byte) (h head, ok bool) {
	if len(b) < headLen || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:headLen], castagnoli) || string(b[4:8]) != headMagic {
		return head{}, false
	}
	b = b[8:headLen]
	take := func() uint64 {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return v
	}
	h.generation = take()
	h.clean = binary.LittleEndian.Uint32(b)&headClean != 0
	copy(h.epoch[:], b[4:12])
	b = b[12:]
	h.runStart, h.runNext = int64(take()), take()
	for i := range h.lanes {
		h.lanes[i] = headLane{cursor: take(), stamp: int64(take()), next: take(), base: take(), size: int64(take()), told: take()}
	}
	return h, true
}

// headFile is the two slots on disk.
type headFile struct {
	fsys       disk.FS
	dir        string
	file       disk.File // nil until it is there
	fresh      bool      // there is no good slot, and its name may not be safe yet
	generation uint64    // of the last slot written
}

// read returns the newer good slot. found: there was one. whole: nothing of the
// file is missing or damaged; an empty slot counts as whole.
func (f *headFile) read() (h head, found, whole bool, err error) {
	file, err := f.fsys.OpenFile(filepath.Join(f.dir, headName), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f.fresh = true
		return head{}, false, false, nil
	}
	if err != nil {
		return head{}, false, false, fmt.Errorf("queue: reading the head: %w", err)
	}
	defer file.Close()
	whole = true
	for slot := range int64(2) {
		b := make([]byte, headLen)
		n, err := file.ReadAt(b, slot*blockSize)
		if n == 0 && errors.Is(err, io.EOF) {
			continue // not written yet
		}
		read, ok := decodeHead(b[:n])
		if !ok && !allZero(b[:n]) {
			whole = false
		}
		if ok && (!found || read.generation > h.generation) {
			h, found = read, true
		}
	}
	f.generation, f.fresh = h.generation, !found
	return h, found, whole && found, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// write writes h over the older slot and returns when it is durable.
func (f *headFile) write(h head) error {
	h.generation = f.generation + 1
	if err := f.put(h); err != nil {
		if f.file != nil { // it may have an offset or an error of its own
			f.file.Close()
			f.file = nil
		}
		return fmt.Errorf("queue: writing the head: %w", err)
	}
	f.generation = h.generation
	return nil
}

func (f *headFile) put(h head) error {
	name := filepath.Join(f.dir, headName)
	if f.file == nil {
		flag := os.O_WRONLY
		if f.fresh {
			flag |= os.O_CREATE
		}
		file, err := f.fsys.OpenFile(name, flag, 0o600)
		if err != nil {
			return err
		}
		f.file = file
		if f.fresh { // take the room of both slots now
			if _, err := file.Write(make([]byte, headSize)); err != nil {
				return err
			}
		}
	}
	if _, err := f.file.Seek(int64(h.generation%2)*blockSize, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.file.Write(h.encode()); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	if f.fresh {
		if err := f.fsys.SyncDir(f.dir); err != nil {
			return err
		}
		f.fresh = false
	}
	return nil
}

func (f *headFile) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
