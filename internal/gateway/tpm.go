//go:build !notpm

package gateway

import (
	"penstock/certs/keys"
	"penstock/certs/keys/tpm"
	"penstock/internal/clock"
)

// openTPM opens the machine's TPM. Tests put another one there.
var openTPM = tpm.Device(tpm.DefaultDevice)

// machineTPM is the store of keys in it. The build tag notpm leaves it out, and a
// third of a megabyte with it.
func machineTPM() keys.Store { return tpm.New(openTPM, clock.System) }
