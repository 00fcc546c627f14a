package backend

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"

	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/disk"
)

// Issue signs a gateway's certificate request, makes the gateway known, and
// writes what it takes over into the folder out: tuf-root.json, roots.pem and
// cert.pem.
func Issue(ctx context.Context, ca *pki.CA, db *store.Store, request []byte, model, board, out string) (*x509.Certificate, error) {
	leaf, err := ca.IssueGateway(request, board)
	if err != nil {
		return nil, err
	}
	chain, err := ca.Chain(leaf)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if err := db.AddGateway(ctx, store.Gateway{Serial: leaf.Subject.CommonName, Model: model, Board: board}, store.Certificate{
		Number: pki.Number(leaf), Role: string(pki.Factory), Key: key[:], DER: leaf.Raw,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}); err != nil {
		return nil, err
	}
	pinned, err := ca.TUFRoot()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	if err := disk.WriteFile(disk.OS, filepath.Join(out, "tuf-root.json"), pinned, 0o644); err != nil {
		return nil, err
	}
	if err := disk.WriteFile(disk.OS, filepath.Join(out, "roots.pem"), ca.Roots(), 0o644); err != nil {
		return nil, err
	}
	return leaf, disk.WriteFile(disk.OS, filepath.Join(out, "cert.pem"), chain, 0o644)
}
