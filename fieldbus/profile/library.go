package profile

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"penstock/internal/disk"
)

//go:embed families/*.yaml
var families embed.FS

// Library is a set of pump families by name.
type Library struct {
	byName map[string]*Profile
}

// Builtin returns a library of the families that are part of the program. Each
// call returns a library of its own; the families in it are shared.
func Builtin() *Library {
	l := &Library{byName: map[string]*Profile{}}
	for _, p := range builtin() {
		l.byName[p.Name] = p
	}
	return l
}

var builtin = sync.OnceValue(func() (profiles []*Profile) {
	files, err := families.ReadDir("families")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		text, err := families.ReadFile("families/" + f.Name())
		if err != nil {
			panic(err)
		}
		p, err := Parse("families/"+f.Name(), text)
		if err != nil {
			panic(err) // a test reads them all
		}
		profiles = append(profiles, p)
	}
	return profiles
})

// Add puts a family in, in the place of one of the same name.
func (l *Library) Add(p *Profile) { l.byName[p.Name] = p }

// AddFolder puts in every .yaml or .yml file of a folder; of two with one
// name the first. A folder that does not exist adds nothing. Where a file is wrong, the others are still added; the error
// joins everything that is wrong.
func (l *Library) AddFolder(fsys disk.FS, dir string) error {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the site's pump families: %w", err)
	}
	var errs []error
	first := map[string]string{} // the file of each name
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); !f.IsDir() && (ext == ".yaml" || ext == ".yml") {
			family := strings.TrimSuffix(f.Name(), ext)
			if other := first[family]; other != "" {
				errs = append(errs, fmt.Errorf("%s: %s has this name already; remove or rename one of the two", filepath.Join(dir, f.Name()), other))
				continue
			}
			first[family] = f.Name()
		} else {
			if !f.IsDir() && (strings.EqualFold(ext, ".yaml") || strings.EqualFold(ext, ".yml")) {
				errs = append(errs, fmt.Errorf("%s: a pump family's file ends in .yaml; rename it", filepath.Join(dir, f.Name())))
			}
			continue
		}
		name := filepath.Join(dir, f.Name())
		text, err := readFile(fsys, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading a pump family: %w", err))
			continue
		}
		p, err := Parse(name, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.Add(p)
	}
	return errors.Join(errs...)
}

// longestFile is far above what a family needs.
const longestFile = 1 << 20

func readFile(fsys disk.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, longestFile+1))
	if err == nil && len(text) > longestFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, longestFile)
	}
	return text, errors.Join(err, f.Close())
}

// Lookup finds a family by name.
func (l *Library) Lookup(name string) (*Profile, bool) {
	p, ok := l.byName[name]
	return p, ok
}

// Names lists the families in order.
func (l *Library) Names() (names []string) {
	for name := range l.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Choose finds the family that fits what a module says of itself: the one whose
// match names most of family, type and version. Of two alike, the first by name.
// Only families of the protocol count.
func (l *Library) Choose(protocol Protocol, family, kind, version int) (best *Profile, ok bool) {
	most := 0
	for _, name := range l.Names() {
		if l.byName[name].Speaks() != protocol {
			continue
		}
		for _, m := range l.byName[name].Match {
			if n := m.fit(family, kind, version); n > most {
				best, most = l.byName[name], n
			}
		}
	}
	return best, best != nil
}

// fit is 0 for a device that the match is not for, and grows with what it names.
func (m Match) fit(family, kind, version int) int {
	if m.Family != family {
		return 0
	}
	n := 1
	for _, f := range []struct {
		want *int
		got  int
	}{{m.Type, kind}, {m.Version, version}} {
		if f.want == nil {
			continue
		}
		if *f.want != f.got {
			return 0
		}
		n++
	}
	return n
}
