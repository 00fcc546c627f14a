package certs

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"penstock/certs/pki"
	"penstock/internal/disk"
)

// Provision makes a gateway's identity folder: the key, made here and never
// leaving, and factory.json. It returns a certificate request as PEM.
//
// Running it again with the same facts is safe, at any time, after a power cut
// too: the key stays, and the request is for the same key. Other facts, or a
// folder that is complete, are refused without replace.
func Provision(fsys disk.FS, dir string, f Factory, replace bool, rnd io.Reader) (request []byte, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if !replace {
		if err := mayProvision(fsys, dir, f); err != nil {
			return nil, err
		}
	} else if err := clear(fsys, dir); err != nil {
		return nil, err
	}
	key, err := ownKey(fsys, dir, rnd)
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := disk.WriteFile(fsys, filepath.Join(dir, "factory.json"), append(text, '\n'), 0o644); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: f.Serial}}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// mayProvision refuses a folder that belongs to another gateway or is complete.
func mayProvision(fsys disk.FS, dir string, f Factory) error {
	there, err := loadFactory(fsys, dir)
	switch {
	case errors.Is(err, ErrNotProvisioned):
		return nil
	case err != nil:
		return err
	case there != f:
		return fmt.Errorf("%s holds the identity of %s (model %s, board %s, %s); -replace discards it for ever", dir, there.Serial, there.Model, there.Board, there.AuthURL)
	}
	if _, err := fsys.Stat(filepath.Join(dir, "cert.pem")); err == nil {
		return fmt.Errorf("%s is provisioned as %s already; -replace discards that identity for ever", dir, f.Serial)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// clear removes an identity, the certificate first: what is left after a power
// cut is an identity that is not complete, never one with a foreign part.
func clear(fsys disk.FS, dir string) error {
	for _, name := range []string{"cert.pem", "roots.pem", "factory.json", "key.pem"} {
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
func ownKey(fsys disk.FS, dir string, rnd io.Reader) (*ecdsa.PrivateKey, error) {
	name := filepath.Join(dir, "key.pem")
	text, err := pki.ReadSecret(fsys, name)
	if err == nil {
		key, err := pki.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := pki.NewKey(rnd)
	if err != nil {
		return nil, err
	}
	if text, err = pki.EncodeKey(key); err != nil {
		return nil, err
	}
	return key, disk.WriteFile(fsys, name, text, 0o600)
}

// Install takes over what the authority issued: the chain and the roots, both
// PEM. It checks that they are this gateway's before it writes anything.
func Install(fsys disk.FS, dir string, chain, roots []byte, now time.Time) error {
	f, err := loadFactory(fsys, dir)
	if err != nil {
		return err
	}
	text, err := pki.ReadSecret(fsys, filepath.Join(dir, "key.pem"))
	if err != nil {
		return fmt.Errorf("the gateway's key: %w", err)
	}
	key, err := pki.ParseKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, "key.pem"), err)
	}
	certs, err := pki.ParseCertificates(chain)
	if err != nil {
		return fmt.Errorf("the issued chain: %w", err)
	}
	trusted, err := pki.ParseCertificates(roots)
	if err != nil {
		return fmt.Errorf("the roots: %w", err)
	}
	pool := x509.NewCertPool()
	for _, r := range trusted {
		pool.AddCert(r)
	}
	if err := checkChain(f.Serial, &key.PublicKey, certs, pool, now); err != nil {
		return fmt.Errorf("the issued chain: %w", err)
	}
	// The certificate comes last: an identity is complete once it is there.
	if err := disk.WriteFile(fsys, filepath.Join(dir, "roots.pem"), roots, 0o644); err != nil {
		return err
	}
	return disk.WriteFile(fsys, filepath.Join(dir, "cert.pem"), chain, 0o644)
}
