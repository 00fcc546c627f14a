package keys_test

import (
	"crypto/rand"
	"testing"

	"penstock/certs/keys"
	"penstock/certs/keys/keystest"
)

func TestFile(t *testing.T) { keystest.Conformance(t, keys.File{Rand: rand.Reader}) }
