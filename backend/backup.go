package backend

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// A backup is a tar of small files:
//
//	backup.json    what it is, when it was made, and the SHA-256 of everything else
//	registry.json  gateways, certificates, revocations, hashes of claim codes
//	ca/…           the authorities with their keys, as far as those are there
//
// The list comes first, so that what is missing of a file that was cut short is named.

const (
	listFile     = "backup.json"
	registryFile = "registry.json"
	caFolder     = "ca/"
	backupFormat = 1

	maxListed   = 1 << 20
	maxRegistry = 1 << 30 // 100,000 gateways come to 200 MB
	maxCAFile   = 1 << 20
)

// backupList is backup.json.
type backupList struct {
	Format int               `json:"penstock_ca_backup"`
	Made   time.Time         `json:"made"`
	SHA256 map[string]string `json:"sha256"`
}

// Backup writes the authorities and the registry in the state folder as a tar. It
// may run while a server does. The error is pki.ErrNoCA when there are none.
func Backup(ctx context.Context, state string, db *store.Store, to io.Writer) error {
	authorities, err := pki.Backup(disk.OS, filepath.Join(state, "ca"), clock.System)
	if err != nil {
		return err
	}
	registry, err := db.Registry(ctx)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if files[registryFile], err = json.Marshal(registry); err != nil {
		return err
	}
	for name, content := range authorities {
		files[caFolder+name] = content
	}
	return writeBackup(to, files, clock.System.Now())
}

// BackupFile is Backup into a file that only its owner may read. What was there stays
// until the new one is whole.
func BackupFile(ctx context.Context, state string, db *store.Store, name string) error {
	var b bytes.Buffer
	if err := Backup(ctx, state, db, &b); err != nil {
		return err
	}
	return disk.WriteFile(disk.OS, name, b.Bytes(), 0o600)
}

func writeBackup(to io.Writer, files map[string][]byte, made time.Time) error {
	list := backupList{Format: backupFormat, Made: made.UTC().Truncate(time.Second), SHA256: map[string]string{}}
	for name, content := range files {
		list.SHA256[name] = sum(content)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	add := func(name string, content []byte) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: list.Made}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	if err := add(listFile, append(text, '\n')); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(name, files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// readBackup reads a whole backup and holds it against its list. An error names the
// file that is wrong.
func readBackup(from io.Reader) (made time.Time, files map[string][]byte, err error) {
	r := tar.NewReader(from)
	list := backupList{}
	files = map[string][]byte{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return made, nil, fmt.Errorf("it ends, or is damaged, %s: %w", after(list, files), err)
		}
		first := list.SHA256 == nil
		if first && h.Name != listFile {
			return made, nil, fmt.Errorf("its first file is %q instead of %s: it is no backup of authorities", h.Name, listFile)
		}
		most, known := int64(maxListed), true
		if !first {
			if most, known = allowed(h.Name); known {
				_, known = list.SHA256[h.Name]
			}
		}
		if !known || h.Typeflag != tar.TypeReg {
			return made, nil, fmt.Errorf("%q does not belong into a backup", h.Name)
		}
		if h.Size > most {
			return made, nil, fmt.Errorf("%s has %d bytes, and may have %d", h.Name, h.Size, most)
		}
		content, err := io.ReadAll(r)
		switch {
		case err != nil:
			return made, nil, fmt.Errorf("it ends, or is damaged, within %s: %w", h.Name, err)
		case first:
			if err := parseList(content, &list); err != nil {
				return made, nil, fmt.Errorf("%s: %w", h.Name, err)
			}
		case files[h.Name] != nil:
			return made, nil, fmt.Errorf("%s is in it twice", h.Name)
		case sum(content) != list.SHA256[h.Name]:
			return made, nil, fmt.Errorf("%s is damaged: its SHA-256 is not that of the list", h.Name)
		default:
			files[h.Name] = content
		}
	}
	if list.SHA256 == nil {
		return made, nil, errors.New("it is empty")
	}
	for _, name := range slices.Sorted(maps.Keys(list.SHA256)) {
		if files[name] == nil {
			return made, nil, fmt.Errorf("it ends before %s", name)
		}
	}
	if files[registryFile] == nil {
		return made, nil, fmt.Errorf("%s is not in it", registryFile)
	}
	return list.Made, files, nil
}

// after says how far a backup could be read.
func after(list backupList, files map[string][]byte) string {
	if list.SHA256 == nil {
		return "before " + listFile
	}
	for _, name := range slices.Sorted(maps.Keys(list.SHA256)) {
		if files[name] == nil {
			return "before " + name
		}
	}
	return "after its last file"
}

// allowed tells whether a backup may hold a file of that name, and how large: no
// name leads anywhere but into the folder of the authorities.
func allowed(name string) (most int64, ok bool) {
	if name == registryFile {
		return maxRegistry, true
	}
	rest, ok := strings.CutPrefix(name, caFolder)
	return maxCAFile, ok && pki.IsBackedUp(rest)
}

func parseList(text []byte, list *backupList) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(list); err != nil {
		return err
	}
	if list.Format != backupFormat {
		return fmt.Errorf("it is of format %d, and this version knows %d", list.Format, backupFormat)
	}
	if list.SHA256 == nil {
		return errors.New("it lists nothing")
	}
	return nil
}

// Restored is what a restore has done.
type Restored struct {
	Made        time.Time // the backup
	Authorities []string  // files that were written
	store.Merged
}

// Restore brings the authorities and the registry of a backup into the state folder,
// beside what is there. It may run while a server does, and again. Since is what the
// operator says of the time since the backup, nil: nothing (see
// store.MergeRegistry). The whole backup is read and judged before anything is
// written, and the authorities come before the registry: a gateway that is not known
// yet is refused.
func Restore(ctx context.Context, state string, db *store.Store, from io.Reader, since *store.Since) (r Restored, err error) {
	made, files, err := readBackup(from)
	r.Made = made
	if err != nil {
		return r, err
	}
	var registry store.Registry
	dec := json.NewDecoder(bytes.NewReader(files[registryFile]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&registry); err != nil {
		return r, fmt.Errorf("%s: %w", registryFile, err)
	}
	authorities := map[string][]byte{}
	for name, content := range files {
		if rest, ok := strings.CutPrefix(name, caFolder); ok {
			authorities[rest] = content
		}
	}
	if since == nil {
		if err := db.MayMerge(ctx, registry); err != nil {
			return r, err
		}
	}
	if r.Authorities, err = pki.Restore(disk.OS, filepath.Join(state, "ca"), authorities, clock.System); err != nil {
		return r, err
	}
	r.Merged, err = db.MergeRegistry(ctx, registry, since)
	return r, err
}
