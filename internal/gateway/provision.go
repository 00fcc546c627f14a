package gateway

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// identityKeys is where the gateway's keys are.
var identityKeys keys.Store = keys.File{Rand: rand.Reader}

// Provisioning is what an installer decides about a gateway.
type Provisioning struct {
	Serial, Model, Board, AuthURL string
	Replace                       bool
}

// Provision makes the identity in the state folder, as far as the gateway can
// alone, and returns the certificate request as PEM.
func Provision(state string, p Provisioning) (request []byte, err error) {
	f := certs.Factory{Serial: p.Serial, Model: p.Model, Board: p.Board, AuthURL: p.AuthURL}
	return certs.Provision(disk.OS, filepath.Join(state, "identity"), identityKeys, f, p.Replace)
}

// Install completes the identity with cert.pem and roots.pem of a folder, as
// `penstock-cloud ca issue` wrote it.
func Install(state, dir string) error {
	chain, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil {
		return err
	}
	roots, err := os.ReadFile(filepath.Join(dir, "roots.pem"))
	if err != nil {
		return err
	}
	return certs.Install(disk.OS, filepath.Join(state, "identity"), identityKeys, chain, roots, clock.System.Now())
}
