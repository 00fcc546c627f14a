package pki

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/memdisk"
)

// ErrOtherRoot: a backup is of other authorities than those in the folder.
var ErrOtherRoot = errors.New("it is of other authorities than those that are here")

// backedUp is the form of the names of the files that are backed up.
var backedUp = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}\.(pem|key|json)$`)

// IsBackedUp tells whether a file in the folder of the authorities belongs into a
// backup: all but the certificates of servers, which are issued anew.
func IsBackedUp(name string) bool {
	return backedUp.MatchString(name) && !strings.HasPrefix(name, "server-")
}

// Backup are the files of the authorities in dir, by name; keys that were moved away
// are not among them. The error is ErrNoCA when there are none. They are read until
// they fit together, since another process may be rotating them.
func Backup(fsys disk.FS, dir string, clk clock.Clock) (files map[string][]byte, err error) {
	if _, err := LoadCA(fsys, dir, clk, nil); err != nil {
		return nil, err
	}
	for range 3 {
		if files, err = readAll(fsys, dir); err == nil {
			if err = checkFiles(files, clk); err == nil {
				return files, nil
			}
		}
	}
	return nil, err
}

func readAll(fsys disk.FS, dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !IsBackedUp(e.Name()) {
			continue
		}
		if files[e.Name()], err = disk.ReadFile(fsys, dir+"/"+e.Name()); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// checkFiles tells whether files are a whole set of authorities, by looking at them
// in memory.
func checkFiles(files map[string][]byte, clk clock.Clock) error {
	d := memdisk.New()
	for name, content := range files {
		if err := disk.WriteFile(d, "/"+name, content, mode(name)); err != nil {
			return err
		}
	}
	_, err := LoadCA(d, "/", clk, nil)
	return err
}

// mode is what a file of the authorities may be read by.
func mode(name string) fs.FileMode {
	if strings.HasSuffix(name, ".key") {
		return 0o600
	}
	return 0o644
}

// Restore brings the authorities of a backup into dir, beside what is there: a file
// that is there already stays, and must be the same. It answers what it has written.
//
// A key that was destroyed when its authority was rotated does not come back, nor
// does one of an offline authority that is here: it was moved away. ErrOtherRoot is
// for a backup of another installation. Nothing is written unless everything fits
// together; a run that a power cut ended is completed by the next, and until then
// nobody can take the folder for an empty one and make authorities in it.
func Restore(fsys disk.FS, dir string, files map[string][]byte, clk clock.Clock) (written []string, err error) {
	if err := checkFiles(files, clk); err != nil {
		return nil, fmt.Errorf("the authorities in the backup: %w", err)
	}
	here, err := readAll(fsys, dir)
	if err != nil {
		return nil, err
	}
	if there, ok := here["root.pem"]; ok && !bytes.Equal(there, files["root.pem"]) {
		return nil, ErrOtherRoot
	}
	merged := maps.Clone(here)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		there, ok := here[name]
		switch {
		case ok && !bytes.Equal(there, files[name]):
			return nil, fmt.Errorf("%s/%s is another than in the backup: after it was made, the two have gone different ways", dir, name)
		case !ok && !strings.HasSuffix(name, ".key"):
			merged[name] = files[name]
		}
	}
	for name, content := range files {
		if strings.HasSuffix(name, ".key") && wantsKey(name, here, merged) {
			merged[name] = content
		}
	}
	if err := checkFiles(merged, clk); err != nil {
		return nil, fmt.Errorf("the authorities that are here, with those of the backup: %w", err)
	}
	for name := range merged {
		if _, ok := here[name]; !ok {
			written = append(written, name)
		}
	}
	if len(written) == 0 {
		return nil, nil
	}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, err
	}
	// The first certificate of the operational authority comes first, and the root's
	// last: while one is there without the other, nobody makes authorities (see there).
	// A key comes before what it is the key of, or it would count as moved away.
	rank := func(name string) int {
		switch {
		case name == "operational.pem":
			return 0
		case strings.HasSuffix(name, ".key"):
			return 1
		case name == "root.pem":
			return 3
		}
		return 2
	}
	slices.SortFunc(written, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range written {
		if err := disk.WriteFile(fsys, dir+"/"+name, merged[name], mode(name)); err != nil {
			return nil, err
		}
	}
	return written, nil
}

var generationForm = regexp.MustCompile(`^(.+?)(?:-([0-9]+))?\.key$`)

// wantsKey tells whether a key of a backup comes back: what it is the key of is the
// last of its generations, and either comes back as well or cannot do without.
func wantsKey(file string, here, merged map[string][]byte) bool {
	if _, ok := here[file]; ok {
		return false
	}
	m := generationForm.FindStringSubmatch(file)
	name, n := m[1], 1
	if m[2] != "" {
		_, _ = fmt.Sscan(m[2], &n) // digits
	}
	public := func(n int) string { return generation(name, n) + ".pem" }
	if strings.HasPrefix(name, "tuf-") {
		public = func(n int) string { return rootFile(int64(n)) }
	}
	if name != "root" && name != "tuf-online" { // earlier roots keep their keys, and of the latter there is one
		if _, rotated := merged[public(n+1)]; rotated {
			return false
		}
	}
	switch _, ok := here[public(n)]; name {
	case "root", "tuf-root", "tuf-targets":
		return !ok
	}
	return true
}
