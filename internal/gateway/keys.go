package gateway

import (
	"crypto/rand"
	"path/filepath"

	"penstock/certs/keys"
	"penstock/internal/disk"
	"penstock/internal/status"
)

// keysOf is where the keys of the gateway with that state folder are.
func keysOf(state string, want keys.Kind) *keys.Choice {
	return &keys.Choice{FS: disk.OS, Dir: filepath.Join(state, "identity"), File: keys.File{Rand: rand.Reader}, TPM: machineTPM(), Want: want}
}

// KeysOf says in a few words where the keys of the gateway with that state folder
// are, and why.
func KeysOf(state string) string { return keysStatus(keysOf(state, "").Status()).String() }

func keysStatus(s keys.Status) status.Keys {
	return status.Keys{Store: string(s.Kind), Because: s.Because, Problem: s.Problem}
}
