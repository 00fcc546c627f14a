// Package keys makes and opens the private keys of a gateway.
//
// A key is made on the device and never leaves it. How well it is kept depends on
// the hardware, and the rest of the firmware need not know: a Store makes a key
// and says in a PEM text how to open it again, and whoever uses the key signs with
// it and sees no more of it. The text lives in the identity folder, beside the
// certificate that was issued for the key or in one file with it, so that both are
// replaced together by one rename.
//
// With File the text is the key itself (PKCS #8). With the store of certs/keys/tpm
// it is what the machine's TPM needs to have it back, and worth nothing elsewhere.
// Choice decides between them, once for each identity.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"penstock/certs/pki"
)

// Store makes keys and opens them again. Its methods may be called from any
// goroutine, and so may those of the keys.
type Store interface {
	// Create makes a key for ECDSA on P-256. The text is PEM and opens the key
	// again; it is to be kept as a secret is (0600, durable), before anybody is
	// told of the key.
	Create() (key crypto.Signer, text []byte, err error)
	// Open opens the key that the first PEM block of the text is of. What follows
	// that block is not looked at.
	Open(text []byte) (crypto.Signer, error)
}

// File keeps keys in the text itself.
type File struct {
	Rand io.Reader // must be a source of secrets: crypto/rand.Reader outside of tests
}

// Create implements Store.
func (f File) Create() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), f.Rand)
	if err != nil {
		return nil, nil, err
	}
	text, err := pki.EncodeKey(key)
	return key, text, err
}

// Open implements Store.
func (File) Open(text []byte) (crypto.Signer, error) { return pki.ParseKey(text) }

// Check tells whether a key signs, and signs right.
func Check(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("whether this key signs"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("a first signature: %w", err)
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, digest[:], signature) {
		return errors.New("a first signature is wrong")
	}
	return nil
}
