package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"

	"penstock/internal/disk"
)

// Rotate replaces an authority ("root", "factory", "operational" or "servers") by a
// further generation, with a new key. The root's key must be here. "signing" are the
// keys that sign roots for gateways; that takes tuf-root.key alone.
//
// What was issued before stays valid to its end. A rotated intermediate can sign
// nothing more: its key is destroyed. A rotated root takes the intermediates along.
// Gateways that know the earlier root alone believe the servers by a
// cross-certificate, until that root expires, and learn of the new one by a file that
// is signed at once: tuf-targets.key must be here for that.
//
// A power cut leaves the generation before, or the new one; a root whose
// intermediates have not followed yet is followed up when the authorities are next
// opened.
func (ca *CA) Rotate(name string) error {
	ca.now()
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if name == "signing" {
		if err := ca.rotateSigning(); err != nil {
			return fmt.Errorf("rotating %s: %w", name, err)
		}
		return nil
	}
	if ca.set.root().Key == nil {
		return fmt.Errorf("the key of %q is not in %s: bring it for as long as the rotation takes", ca.set.root().Certificate.Subject.CommonName, ca.dir)
	}
	var err error
	if name == "root" {
		// Without it gateways would never hear of the new root.
		if _, err = ca.rootsKey(); err == nil {
			err = ca.rotateRoot()
		}
	} else {
		err = ca.rotateIntermediate(name)
	}
	if err != nil {
		return fmt.Errorf("rotating %s: %w", name, err)
	}
	if ca.set, err = ca.read(); err != nil {
		return err
	}
	if err := ca.follow(); err != nil {
		return err
	}
	return ca.followSigning()
}

// rotateIntermediate makes the next generation, then destroys the key of the one
// before; mu is held.
func (ca *CA) rotateIntermediate(name string) error {
	a, err := ca.make(name, ca.set.root())
	if err != nil {
		return err
	}
	n := len(ca.set.intermediate[name])
	if err := ca.keep(a, generation(name, n+1)); err != nil {
		return err
	}
	return ca.destroy(generation(name, n))
}

// destroy removes keys that count no more.
func (ca *CA) destroy(files ...string) error {
	removed := false
	for _, file := range files {
		err := ca.fsys.Remove(ca.path(file + ".key"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return ca.fsys.SyncDir(ca.dir)
}

// destroySuperseded removes the keys of rotated intermediates, and those that signed
// roots before: a power cut in a rotation leaves them. Whatever counts has its key,
// or read would have refused.
func (ca *CA) destroySuperseded() error {
	var gone []string
	for _, name := range authorities[1:] {
		for n := 1; n < len(ca.set.intermediate[name]); n++ {
			gone = append(gone, generation(name, n))
		}
	}
	for n := 1; n < len(ca.set.signing.chain); n++ {
		gone = append(gone, generation("tuf-root", n), generation("tuf-targets", n))
	}
	return ca.destroy(gone...)
}

// rotateRoot makes the next root; its certificate, which is written last, is what
// makes it count. mu is held.
func (ca *CA) rotateRoot() error {
	n, now := len(ca.set.roots)+1, ca.clock.Now()
	root, err := newRoot(fmt.Sprintf("Penstock Root %d", n), now, ca.rand)
	if err != nil {
		return err
	}
	for i, earlier := range ca.set.roots {
		if earlier.Key == nil || now.After(earlier.Certificate.NotAfter) {
			continue
		}
		cross, err := earlier.Sign(&x509.Certificate{
			Subject:               pkix.Name{CommonName: root.Certificate.Subject.CommonName},
			NotBefore:             root.Certificate.NotBefore,
			NotAfter:              root.Certificate.NotAfter,
			IsCA:                  true,
			BasicConstraintsValid: true,
			MaxPathLen:            1,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, root.Key.Public(), ca.rand)
		if err != nil {
			return err
		}
		file := fmt.Sprintf("%s-by-%d.pem", generation("root", n), i+1)
		if err := disk.WriteFile(ca.fsys, ca.path(file), EncodeCertificates(cross), 0o644); err != nil {
			return err
		}
	}
	return ca.keep(root, generation("root", n))
}

// follow makes intermediates under the root of today where those of today are under
// an earlier one. Without the root's key they stay, and are good to their end.
func (ca *CA) follow() error {
	root := ca.set.root()
	if root.Key == nil {
		return nil
	}
	followed := false
	for _, name := range authorities[1:] {
		if ca.set.current(name).Certificate.CheckSignatureFrom(root.Certificate) == nil {
			continue
		}
		if err := ca.rotateIntermediate(name); err != nil {
			return fmt.Errorf("%s under the new root: %w", name, err)
		}
		followed = true
	}
	if !followed {
		return nil
	}
	fresh, err := ca.read()
	if err == nil {
		ca.set = fresh
	}
	return err
}
