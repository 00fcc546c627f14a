package certs

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/internal/disk"
)

// Provision makes a gateway's identity folder: the key, made here and never
// leaving, and factory.json. It returns a certificate request as PEM.
//
// Running it again with the same facts is safe at any time, after a power cut
// too: the key stays, and the request is the same to the last bit. Other facts,
// or a folder that is complete, are refused without replace.
func Provision(fsys disk.FS, dir string, ks keys.Store, f Factory, replace bool) (request []byte, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, err
	}
	if replace {
		err = discard(fsys, dir)
	} else {
		err = mayProvision(fsys, dir, f)
	}
	if err != nil {
		return nil, err
	}
	// The facts come first: a key whose gateway nobody knows is worth nothing, and
	// a run that was interrupted is taken up by the same facts only.
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := disk.WriteFile(fsys, filepath.Join(dir, factoryFile), append(text, '\n'), 0o644); err != nil {
		return nil, err
	}
	key, err := ownKey(fsys, dir, ks)
	if err != nil {
		return nil, err
	}
	return certificateRequest(f, key)
}

// certificateRequest asks for a certificate. Without a random source the
// signature is that of RFC 6979: the same key makes the same request.
func certificateRequest(f Factory, key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: f.Serial},
		DNSNames: []string{pki.GatewayName(f.Serial)},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// mayProvision refuses a folder that belongs to another gateway or is complete.
func mayProvision(fsys disk.FS, dir string, f Factory) error {
	there, err := loadFactory(fsys, dir)
	switch {
	case errors.Is(err, ErrNotProvisioned):
		// A key without its facts is not ours to use, nor to discard.
		for _, name := range []string{certFile, keyFile} {
			if there, err := exists(fsys, filepath.Join(dir, name)); err != nil {
				return err
			} else if there {
				return fmt.Errorf("%s holds %s of an identity whose %s is gone; -replace discards it for ever", dir, name, factoryFile)
			}
		}
		return nil
	case err != nil:
		return err
	case there != f:
		return fmt.Errorf("%s holds the identity of %s (model %s, board %s, %s); -replace discards it for ever", dir, there.Serial, there.Model, there.Board, there.AuthURL)
	}
	complete, err := exists(fsys, filepath.Join(dir, certFile))
	if err == nil && complete {
		err = fmt.Errorf("%s is provisioned as %s already; -replace discards that identity for ever", dir, f.Serial)
	}
	return err
}

func exists(fsys disk.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// discard removes an identity, the certificate first and the facts last: what a
// power cut leaves is an identity that is not complete, never one with parts of
// two gateways.
func discard(fsys disk.FS, dir string) error {
	for _, name := range []string{certFile, rootsFile, keyFile, factoryFile} {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// ownKey is the key in dir, made when there is none.
func ownKey(fsys disk.FS, dir string, ks keys.Store) (crypto.Signer, error) {
	key, err := loadKey(fsys, dir, ks)
	if !errors.Is(err, ErrNotProvisioned) {
		return key, err
	}
	key, text, err := ks.Create()
	if err != nil {
		return nil, err
	}
	return key, disk.WriteFile(fsys, filepath.Join(dir, keyFile), text, 0o600)
}

// Install takes over what the authority issued: the chain and the roots, both
// PEM. It checks that they are this gateway's before it writes anything. A chain
// that has expired is refused; one that is not valid yet is not, since the clock
// at a bench may never have been set. The same chain may be installed again;
// another one replaces it.
func Install(fsys disk.FS, dir string, ks keys.Store, chain, roots []byte, now time.Time) error {
	f, err := loadFactory(fsys, dir)
	if err != nil {
		return err
	}
	key, err := loadKey(fsys, dir, ks)
	if err != nil {
		return err
	}
	shown, err := pki.ParseCertificates(chain)
	if err != nil {
		return fmt.Errorf("the issued chain: %w", err)
	}
	trusted, err := pki.ParseCertificates(roots)
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
	// The certificate comes last: an identity is complete once it is there.
	if err := disk.WriteFile(fsys, filepath.Join(dir, rootsFile), roots, 0o644); err != nil {
		return err
	}
	return disk.WriteFile(fsys, filepath.Join(dir, certFile), chain, 0o644)
}
