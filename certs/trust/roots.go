package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/tuf"
	"penstock/internal/disk"
)

// The files in the identity folder.
const (
	PinnedFile = "tuf-root.json"   // which keys may sign roots; from the bench, and replaced by its successor
	File       = "roots.json"      // signed roots in force
	NextFile   = "roots.next.json" // signed roots that have not been tried yet
)

// set is one set of roots. It is immutable.
type set struct {
	version int64 // 0: from the bench
	certs   []*x509.Certificate
	pool    *x509.CertPool
	text    []byte // the signed file
}

func newSet(version int64, certs []*x509.Certificate, text []byte) *set {
	s := &set{version: version, certs: certs, pool: x509.NewCertPool(), text: text}
	for _, c := range certs {
		s.pool.AddCert(c)
	}
	return s
}

// Roots are the roots in force. Any goroutine may call its methods; those that change
// it are for one Keeper.
type Roots struct {
	fsys  disk.FS
	dir   string
	bench *set

	mu      sync.Mutex
	pinned  *tuf.Root // guarded by mu; nil: no key may change the roots
	force   *set      // guarded by mu
	next    *set      // guarded by mu; nil: there is nothing to try
	trouble string    // guarded by mu: what is wrong with the files
}

// Open takes the roots that the bench left, and those that were signed since, from
// the identity folder. A file that cannot be read is said and never fatal: the roots
// of the bench are always there.
func Open(fsys disk.FS, dir string, bench []*x509.Certificate) *Roots {
	r := &Roots{fsys: fsys, dir: dir, bench: newSet(0, bench, nil)}
	r.force = r.bench
	var troubles []error
	read := func(name string, take func(text []byte) error) {
		text, err := disk.ReadFile(fsys, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			err = take(text)
		}
		if err != nil {
			troubles = append(troubles, fmt.Errorf("%s: %w", name, err))
		}
	}
	read(PinnedFile, func(text []byte) (err error) {
		r.pinned, err = tuf.ParseRoot(text)
		return err
	})
	// What is kept was verified before it was written; the key that signed it may have
	// been replaced since, which ends no trust.
	read(File, func(text []byte) error {
		s, err := readSet(tuf.ReadTargets(text))
		if err == nil {
			r.force = s
		}
		return err
	})
	read(NextFile, func(text []byte) error {
		if r.pinned == nil {
			return nil
		}
		t, err := r.pinned.Targets(text)
		if errors.Is(err, tuf.ErrNotSigned) {
			return nil // by a key that was withdrawn before it was tried
		}
		s, err := readSet(t, err)
		if err == nil && s.version > r.bound() {
			r.next = s
		}
		return err
	})
	if err := errors.Join(troubles...); err != nil {
		r.trouble = err.Error()
	}
	return r
}

// readSet makes a set of roots of what was signed.
func readSet(t *tuf.Targets, err error) (*set, error) {
	if err != nil {
		return nil, err
	}
	text, err := t.Roots()
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tuf.RootsTarget, err)
	}
	for _, c := range certs {
		if !c.IsCA || c.CheckSignatureFrom(c) != nil {
			return nil, fmt.Errorf("%s: %q is not a root", tuf.RootsTarget, c.Subject.CommonName)
		}
	}
	return newSet(t.Version, certs, t.Text), nil
}

// Pool is the roots of now. It is not changed afterwards: ask again for each use.
func (r *Roots) Pool() *x509.CertPool { return r.inForce().pool }

// Certificates are the roots of now.
func (r *Roots) Certificates() []*x509.Certificate { return slices.Clone(r.inForce().certs) }

func (r *Roots) inForce() *set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.force
}

func (r *Roots) candidate() *set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Fixed tells whether nothing can ever change the roots: no key was pinned.
func (r *Roots) Fixed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pinned == nil
}

// everyone are the roots of now and of the bench.
func (r *Roots) everyone() []*x509.Certificate {
	all := r.Certificates()
	for _, c := range r.bench.certs {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}

// Status is how things stand.
type Status struct {
	Fixed   bool      // no key was pinned at the bench
	Version int64     // of the signed roots in force; 0: those of the bench
	Names   []string  // of the roots
	Until   time.Time // the last of them expires
	Next    int64     // version that waits to be tried; 0: none
	Pinned  time.Time // the pinned keys expire; zero: there are none
	Trouble string    // with the files
}

// Status tells how things stand.
func (r *Roots) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Fixed: r.pinned == nil, Version: r.force.version, Trouble: r.trouble}
	for _, c := range r.force.certs {
		s.Names = append(s.Names, c.Subject.CommonName)
		if c.NotAfter.After(s.Until) {
			s.Until = c.NotAfter
		}
	}
	if r.next != nil {
		s.Next = r.next.version
	}
	if r.pinned != nil {
		s.Pinned = r.pinned.Expires
	}
	return s
}

// has are the versions to ask beyond.
func (r *Roots) has() (root, roots int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pinned == nil {
		return 0, 0
	}
	return r.pinned.Version, r.bound()
}

// bound is the version that signed roots must exceed: the highest that the pinned
// keys have signed. mu is held, or r is not shared yet.
func (r *Roots) bound() (version int64) {
	for _, s := range []*set{r.force, r.next} {
		if s == nil || s.text == nil || r.pinned == nil {
			continue
		}
		if _, err := r.pinned.Targets(s.text); err == nil {
			version = max(version, s.version)
		}
	}
	return version
}

// follow takes root metadata that follows the pinned one, oldest first.
func (r *Roots) follow(chain [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	latest := r.pinned
	for _, text := range chain {
		next, err := latest.Next(text)
		if err != nil {
			return fmt.Errorf("the keys after version %d: %w", latest.Version, err)
		}
		latest = next
	}
	if latest == r.pinned {
		return nil
	}
	if err := disk.WriteFile(r.fsys, filepath.Join(r.dir, PinnedFile), latest.Text, 0o644); err != nil {
		return err
	}
	r.pinned = latest
	if r.next != nil {
		if _, err := r.pinned.Targets(r.next.text); err != nil {
			r.next = nil // signed by a key that was withdrawn before it was tried
		}
	}
	return nil
}

// An ExpiredError: the pinned keys sign no more, by a time that is certain.
type ExpiredError struct{ Expired time.Time }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the keys that sign roots expired on %s; the backend must name others (penstock-cloud ca rotate signing)", e.Expired.Format(time.DateOnly))
}

// offer takes signed roots to be tried: not older than what was seen, by keys that
// have not expired. It is later than certain, for sure. Roots that are in force, or
// wait already, are no news.
func (r *Roots) offer(text []byte, certain time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.pinned.Targets(text)
	if err != nil {
		return err
	}
	if certain.After(r.pinned.Expires) {
		return &ExpiredError{r.pinned.Expires}
	}
	switch bound := r.bound(); {
	case t.Version == bound:
		return nil
	case t.Version < bound:
		return fmt.Errorf("version %d of the roots is older than version %d: a server shows the past", t.Version, bound)
	case certain.After(t.Expires):
		return fmt.Errorf("version %d of the roots expired on %s", t.Version, t.Expires.Format(time.DateOnly))
	}
	s, err := readSet(t, nil)
	if err != nil {
		return fmt.Errorf("version %d of the roots: %w", t.Version, err)
	}
	if err := disk.WriteFile(r.fsys, filepath.Join(r.dir, NextFile), text, 0o644); err != nil {
		return err
	}
	r.next = s
	return nil
}

// adopt puts roots into force that were tried and have worked.
func (r *Roots) adopt(tried *set) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil || !bytes.Equal(r.next.text, tried.text) {
		return nil // it was taken back meanwhile
	}
	if err := r.fsys.Rename(filepath.Join(r.dir, NextFile), filepath.Join(r.dir, File)); err != nil {
		return err
	}
	r.force, r.next, r.trouble = tried, nil, ""
	// In force now; a power cut before the folder is synced leaves them to be tried again.
	return r.fsys.SyncDir(r.dir)
}
