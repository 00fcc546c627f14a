package certs

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/certs/pki/claim"
	"penstock/certs/pki/tuf"
	"penstock/internal/disk"
)

// ErrProvisioned: there is a complete identity of just these facts. Nothing is left
// to do.
var ErrProvisioned = errors.New("provisioned already")

// claimFile holds the claim code between the steps of provisioning, so that a run
// that was interrupted ends with the same label. The last step removes it: a gateway
// needs its code for nothing.
const claimFile = "claim.json"

// Order is what the bench wants of an identity folder.
type Order struct {
	Factory
	// Replace discards an identity for ever that is complete, broken or another's.
	// One of the same facts that is not complete yet is taken up as it is.
	Replace bool
	// Relabel makes a new claim code for an identity that is complete.
	Relabel bool
	Random  io.Reader // of claim codes; a source of secrets
}

// Made is what Provision has made.
type Made struct {
	Record []byte // for the authority, see pki.Record
	Claim  claim.Code
}

// Provision makes a gateway's identity folder: factory.json and the key, made here
// and never leaving. What it answers is for the authority and for the label.
//
// Running it again with the same facts is safe at any time, after a power cut
// too: key and claim code stay, and, where the key is in a file, the record is the
// same to the last bit. A complete identity is ErrProvisioned; other facts are
// refused without Replace.
func Provision(fsys disk.FS, dir string, ks keys.Store, o Order) (made Made, err error) {
	if err := o.Check(); err != nil {
		return made, err
	}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return made, err
	}
	state, err := look(fsys, dir, ks, o)
	switch {
	case err != nil && !o.Replace:
		return made, err
	case err != nil || o.Replace && state != open:
		if err := discard(fsys, dir); err != nil {
			return made, err
		}
		state = open
	case state == complete && !o.Relabel:
		return made, fmt.Errorf("%s is %w as %s", dir, ErrProvisioned, o.Serial)
	}
	// The facts come first: a key whose gateway nobody knows is worth nothing, and
	// a run that was interrupted is taken up by the same facts only.
	if err := writeJSON(fsys, filepath.Join(dir, factoryFile), o.Factory, 0o644); err != nil {
		return made, err
	}
	pending, err := ownClaim(fsys, dir, o.Random, state == complete)
	if err != nil {
		return made, err
	}
	key, err := ownKey(fsys, dir, ks)
	if err != nil {
		return made, err
	}
	made.Claim = pending.code
	made.Record, err = pki.EncodeRecord(pki.Record{Serial: o.Serial, Board: o.Board, Model: o.Model, Claim: pending.code.Hash(), Relabel: pending.Relabel}, key)
	return made, err
}

// progress is how far an identity folder has come.
type progress int

const (
	blank    progress = iota // there is no key yet
	open                     // something is left to do
	complete                 // nothing is
)

// look tells how far the folder has come with the identity of these facts. What
// stands in the way of it is the error, which replacing overcomes.
func look(fsys disk.FS, dir string, ks keys.Store, o Order) (progress, error) {
	there, err := loadFactory(fsys, dir)
	switch {
	case errors.Is(err, ErrNotProvisioned):
		// A key without its facts is not ours to use, nor to discard.
		for _, name := range []string{certFile, keyFile} {
			if there, err := exists(fsys, filepath.Join(dir, name)); err != nil {
				return open, err
			} else if there {
				return open, fmt.Errorf("%s holds %s of an identity whose %s is gone; -replace discards it for ever", dir, name, factoryFile)
			}
		}
		return blank, nil
	case err != nil:
		return open, fmt.Errorf("%w; -replace discards the identity for ever", err)
	case there != o.Factory:
		return open, fmt.Errorf("%s holds the identity of %s (model %s, board %s, %s); -replace discards it for ever", dir, there.Serial, there.Model, there.Board, there.AuthURL)
	}
	key, err := loadKey(fsys, dir, ks)
	if err == nil {
		err = keys.Check(key) // it may be in a TPM that has broken
	}
	if errors.Is(err, ErrNotProvisioned) {
		return blank, nil
	} else if err != nil {
		return open, err
	}
	for name, want := range map[string]bool{certFile: true, claimFile: false} {
		if there, err := exists(fsys, filepath.Join(dir, name)); err != nil || there != want {
			return open, err
		}
	}
	return complete, nil
}

func exists(fsys disk.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// discard empties an identity folder, the key first and the facts last: what a power
// cut leaves is an identity that is not complete, never one with parts of two
// gateways, and never the key that was to be discarded.
func discard(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	names := []string{keyFile, certFile}
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && n != keyFile && n != certFile && n != factoryFile {
			names = append(names, n)
		}
	}
	for _, name := range append(names, factoryFile) {
		if err := remove(fsys, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func remove(fsys disk.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeJSON(fsys disk.FS, name string, v any, perm fs.FileMode) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(fsys, name, append(text, '\n'), perm)
}

// pendingClaim is claim.json.
type pendingClaim struct {
	Code    string `json:"code"`
	Relabel bool   `json:"relabel,omitempty"` // it takes the place of another
	code    claim.Code
}

// ownClaim is the claim code of the run that is under way, made when there is none.
func ownClaim(fsys disk.FS, dir string, random io.Reader, relabel bool) (p pendingClaim, err error) {
	name := filepath.Join(dir, claimFile)
	text, err := pki.ReadSecret(fsys, name)
	switch {
	case err == nil:
		if err = json.Unmarshal(text, &p); err == nil {
			p.code, err = claim.Parse(p.Code)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return p, err
	case !errors.Is(err, fs.ErrNotExist):
		return p, err
	}
	if p.code, err = claim.New(random); err != nil {
		return p, err
	}
	p.Code, p.Relabel = p.code.String(), relabel
	return p, writeJSON(fsys, name, p, 0o600)
}

// ownKey is the key in dir, made when there is none.
func ownKey(fsys disk.FS, dir string, ks keys.Store) (crypto.Signer, error) {
	key, err := loadKey(fsys, dir, ks)
	if !errors.Is(err, ErrNotProvisioned) {
		return key, err
	}
	// A certificate whose key is gone, left by a discard that was cut short.
	if err := remove(fsys, filepath.Join(dir, certFile)); err != nil {
		return nil, err
	}
	key, text, err := ks.Create()
	if err != nil {
		return nil, err
	}
	return key, disk.WriteFile(fsys, filepath.Join(dir, keyFile), text, 0o600)
}

// Install takes over what the authority issued. It checks that it is this gateway's
// before it writes anything. A chain that has expired is refused; one that is not
// valid yet is not, since the clock at a bench may never have been set. The same
// chain may be installed again; another one replaces it.
func Install(fsys disk.FS, dir string, ks keys.Store, b pki.Bundle, now time.Time) error {
	f, err := loadFactory(fsys, dir)
	if err != nil {
		return err
	}
	key, err := loadKey(fsys, dir, ks)
	if err != nil {
		return err
	}
	shown, err := pki.ParseCertificates(b.Chain)
	if err != nil {
		return fmt.Errorf("the issued chain: %w", err)
	}
	trusted, err := pki.ParseCertificates(b.Roots)
	if err != nil {
		return fmt.Errorf("the roots: %w", err)
	}
	whole, err := checkChain(f, key.Public(), shown, pool(trusted))
	if err != nil {
		return fmt.Errorf("the issued chain: %w", err)
	}
	for _, c := range whole {
		if now.After(c.NotAfter) {
			return fmt.Errorf("the issued chain: %q expired on %s", c.Subject.CommonName, c.NotAfter.Format(time.DateOnly))
		}
	}
	if b.TUFRoot != nil {
		if _, err := tuf.ParseRoot(b.TUFRoot); err != nil {
			return fmt.Errorf("the keys that sign roots: %w", err)
		}
	}
	if err := disk.WriteFile(fsys, filepath.Join(dir, rootsFile), b.Roots, 0o644); err != nil {
		return err
	}
	if b.TUFRoot != nil {
		if err := disk.WriteFile(fsys, filepath.Join(dir, tufRootFile), b.TUFRoot, 0o644); err != nil {
			return err
		}
	}
	// The certificate comes last: an identity is complete once it is there.
	if err := disk.WriteFile(fsys, filepath.Join(dir, certFile), b.Chain, 0o644); err != nil {
		return err
	}
	return remove(fsys, filepath.Join(dir, claimFile))
}
