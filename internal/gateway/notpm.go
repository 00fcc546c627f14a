//go:build notpm

package gateway

import "penstock/certs/keys"

func machineTPM() keys.Store { return nil }
