package keys_test

import (
	"crypto/rand"
	"testing"

	"penstock/certs/keys"
	"penstock/certs/keys/keystest"
)

func TestFile(t *testing.T) {
	next := func() keys.Store { return keys.File{Rand: rand.Reader} }
	keystest.Conformance(t, next(), next)
}
