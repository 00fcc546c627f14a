package tpm

// The key file format is "ASN.1 Specification for TPM 2.0 Key Files",
// https://www.hansenpartnership.com/draft-bottomley-tpm2-keys.html. OpenSSL's
// providers and engines for TPMs, and the kernel's trusted keys, read and write it.

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"penstock/certs/keys"
)

// loadable is the kind of key that TPM2_Load takes as it is.
var loadable = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// tpmKey is TPMKey of the format.
type tpmKey struct {
	Type        asn1.ObjectIdentifier
	EmptyAuth   asn1.RawValue `asn1:"optional,tag:0"`
	Policy      asn1.RawValue `asn1:"optional,tag:1"`
	Secret      asn1.RawValue `asn1:"optional,tag:2"`
	AuthPolicy  asn1.RawValue `asn1:"optional,tag:3"`
	Description asn1.RawValue `asn1:"optional,tag:4"`
	RSAParent   asn1.RawValue `asn1:"optional,tag:5"`
	Parent      int64         // a handle does not fit an int on 32-bit ARM
	Public      []byte        // TPM2B_PUBLIC
	Private     []byte        // TPM2B_PRIVATE
}

// emptyAuth is [0] EXPLICIT BOOLEAN TRUE: the key has no password. DER has one
// octet for TRUE; tpm2-openssl writes another, so any but zero will do.
var emptyAuth = []byte{0xa0, 3, 1, 1, 0xff}

func isEmptyAuth(b []byte) bool {
	return len(b) == len(emptyAuth) && bytes.HasPrefix(b, emptyAuth[:4]) && b[4] != 0
}

// keyfile is a key as the TPM hands it out.
type keyfile struct {
	parent  tpm2.TPMHandle
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
	key     *ecdsa.PublicKey // what public says
}

func (f keyfile) encode() ([]byte, error) {
	der, err := asn1.Marshal(tpmKey{
		Type:      loadable,
		EmptyAuth: asn1.RawValue{FullBytes: emptyAuth},
		Parent:    int64(f.parent),
		Public:    tpm2.Marshal(f.public),
		Private:   tpm2.Marshal(f.private),
	})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keys.TPMText, Bytes: der}), nil
}

// parse reads a key file, ours or another's.
func parse(text []byte) (f keyfile, err error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keys.TPMText {
		return f, errors.New("no PEM key of a TPM (" + keys.TPMText + ") in it")
	}
	var k tpmKey
	if rest, err := asn1.Unmarshal(block.Bytes, &k); err != nil {
		return f, fmt.Errorf("the TPM key file: %w", err)
	} else if len(rest) > 0 {
		return f, errors.New("the TPM key file: something follows the key")
	}
	switch {
	case !k.Type.Equal(loadable):
		return f, fmt.Errorf("the TPM key file: a key of kind %v cannot be loaded as it is", k.Type)
	case !isEmptyAuth(k.EmptyAuth.FullBytes):
		return f, errors.New("the TPM key file: the key has a password")
	case k.Policy.FullBytes != nil, k.Secret.FullBytes != nil, k.AuthPolicy.FullBytes != nil:
		return f, errors.New("the TPM key file: the key has a policy")
	case k.RSAParent.FullBytes != nil:
		return f, errors.New("the TPM key file: the key's parent is RSA")
	case k.Parent != int64(owner) && k.Parent>>24 != 0x81:
		return f, fmt.Errorf("the TPM key file: the parent 0x%08x is neither the owner nor a persistent key", k.Parent)
	}
	f.parent = tpm2.TPMHandle(k.Parent)
	if err := sized(k.Public, &f.public); err != nil {
		return f, fmt.Errorf("the TPM key file: the public part: %w", err)
	}
	if err := sized(k.Private, &f.private); err != nil {
		return f, fmt.Errorf("the TPM key file: the private part: %w", err)
	}
	if f.key, err = checkPublic(f.public); err != nil {
		return f, fmt.Errorf("the TPM key file: the key: %w", err)
	}
	return f, nil
}

// sized reads a TPM2B of which nothing is left over and nothing missing.
func sized[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](b []byte, into P) error {
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		return err
	}
	if !bytes.Equal(tpm2.Marshal(*v), b) {
		return errors.New("its size is wrong")
	}
	*into = *v
	return nil
}
