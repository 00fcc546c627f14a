package operational

import (
	"bytes"
	"crypto"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/internal/disk"
)

// folder is what is kept, in the identity folder.
type folder struct {
	fs   disk.FS
	dir  string
	keys keys.Store
	log  *slog.Logger
}

func (f folder) path(file string) string { return filepath.Join(f.dir, file) }

// pair reads a pair; nil when there is none, or none that can be used. What cannot
// be used is said and no more: the factory identity gets another.
func (f folder) pair(file, serial string) *pair {
	text, err := pki.ReadSecret(f.fs, f.path(file))
	var p *pair
	if err == nil {
		p, err = decodePair(text, f.keys, serial)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Error("an operational certificate cannot be used; another is asked for", "file", f.path(file), "err", err)
	}
	return p
}

// keyed is a key with the text that opens it again.
type keyed struct {
	crypto.Signer

	text []byte
	// made: in this run, so that no certificate was ever issued for it unless the
	// answer was lost.
	made bool
}

// nextKey reads next.key; nil when there is none, or none that can be used.
func (f folder) nextKey() *keyed {
	text, err := pki.ReadSecret(f.fs, f.path(certs.NextKeyFile))
	var key crypto.Signer
	if err == nil {
		key, err = f.keys.Open(text)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		f.log.Error("a key cannot be used; another is made", "file", f.path(certs.NextKeyFile), "err", err)
		return nil
	}
	return &keyed{Signer: key, text: text}
}

// makeKey makes a key and keeps it as next.key, before anybody is told of it.
func (f folder) makeKey() (*keyed, error) {
	key, text, err := f.keys.Create()
	if err != nil {
		return nil, err
	}
	return &keyed{key, text, true}, disk.WriteFile(f.fs, f.path(certs.NextKeyFile), text, 0o600)
}

// keepNext keeps what was issued; its key needs no file of its own any more.
func (f folder) keepNext(p *pair) error {
	if err := disk.WriteFile(f.fs, f.path(certs.NextFile), p.encode(), 0o600); err != nil {
		return err
	}
	return f.dropNextKey()
}

func (f folder) dropNextKey() error {
	if err := f.fs.Remove(f.path(certs.NextKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.fs.SyncDir(f.dir)
}

// promote puts the next pair into the place of the one before.
func (f folder) promote() error {
	if err := f.fs.Rename(f.path(certs.NextFile), f.path(certs.OperationalFile)); err != nil {
		return err
	}
	return f.fs.SyncDir(f.dir)
}

// open reads everything.
func (f folder) open(serial string) (current, next *pair, key *keyed) {
	current, next, key = f.pair(certs.OperationalFile, serial), f.pair(certs.NextFile, serial), f.nextKey()
	if key != nil && next != nil && bytes.Equal(key.text, next.text) {
		// The power went between keeping the one and dropping the other.
		if err := f.dropNextKey(); err != nil {
			f.log.Warn("a key that has its certificate could not be dropped", "file", f.path(certs.NextKeyFile), "err", err)
		}
		key = nil
	}
	return current, next, key
}
