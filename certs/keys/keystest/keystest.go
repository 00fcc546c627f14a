// Package keystest is the conformance suite of key stores.
package keystest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"penstock/certs/keys"
)

// Conformance checks what certs expects of a store.
func Conformance(t *testing.T, s keys.Store) {
	key, text, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	public := publicOf(t, key)
	t.Run("a key opened again is the same key", func(t *testing.T) {
		again, err := s.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		if !public.Equal(again.Public()) {
			t.Fatal("another key")
		}
		signs(t, again, public)
	})
	t.Run("a key signs", func(t *testing.T) { signs(t, key, public) })
	t.Run("what follows the key is not looked at", func(t *testing.T) {
		again, err := s.Open(append(bytes.Clone(text), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
		if err != nil || !public.Equal(again.Public()) {
			t.Fatalf("err = %v", err)
		}
	})
	t.Run("two keys differ", func(t *testing.T) {
		other, _, err := s.Create()
		if err != nil {
			t.Fatal(err)
		}
		if public.Equal(other.Public()) {
			t.Fatal("the same key twice")
		}
	})
	t.Run("what is no key is refused", func(t *testing.T) {
		for _, bad := range [][]byte{nil, []byte("no PEM"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), text[:len(text)/2]} {
			if _, err := s.Open(bad); err == nil {
				t.Errorf("%q was opened", bad)
			}
		}
	})
}

func publicOf(t *testing.T, key crypto.Signer) *ecdsa.PublicKey {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		t.Fatalf("a %T is not ECDSA on P-256", key.Public())
	}
	return public
}

func signs(t *testing.T, key crypto.Signer, public *ecdsa.PublicKey) {
	digest := sha256.Sum256([]byte("what is signed"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Fatal("the signature is wrong")
	}
}
