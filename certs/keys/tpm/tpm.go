// Package tpm keeps a gateway's keys in a TPM 2.0.
//
// A TPM makes the key, signs with it and never gives it away: whoever copies the
// disk, or takes it out of a stolen gateway, has nothing that signs elsewhere.
// What a TPM hands out of a key is its private part wrapped, encrypted by a key
// above it that never leaves the TPM either, the storage root key. The key's text
// is that wrapped part in the form that the other tools of the field read (TSS2
// PRIVATE KEY, see keyfile.go); the TPM itself stores nothing and cannot fill up.
//
// A TPM is a small, slow and shared machine. It has room for about three keys at
// a time, and one command takes it up to a second. So each signature is a turn of
// its own: open the device, load the key, sign, flush, close; one turn at a time.
// The device is the kernel's resource manager, which gives each opener a room of
// its own. What the TPM asks to have sent again (TPM_RC_RETRY and its kin) is sent
// again. A TPM that falls silent costs an error after Patience, never a caller.
// Every signature is checked before it is believed.
//
// The keys are not sealed to the state of the system (PCRs): an update of it would
// lose them. They are exempt from the TPM's dictionary attack lockout, as a key
// without a password has nothing to guess.
//
// Chapters and names are of the TCG's TPM 2.0 Library Specification, parts 2
// (structures) and 3 (commands).
package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"penstock/internal/clock"
)

// Patience is how long one turn may take, and how long one may wait for it.
const Patience = 20 * time.Second

// ErrSilent: the TPM took longer than Patience.
var ErrSilent = fmt.Errorf("the TPM has not answered for %v; it may need a power cycle", Patience)

// Store keeps keys in one TPM. It is a keys.Store.
type Store struct {
	open  func() (io.ReadWriteCloser, error)
	clock clock.Clock
	turns chan struct{} // holds an element while somebody has the turn

	mu   sync.Mutex
	last error // of the last turn; guarded by mu
}

// New returns the store of the TPM that open opens, for one turn: a command is
// written as a whole, and its response read. It does not touch the TPM.
func New(open func() (io.ReadWriteCloser, error), clk clock.Clock) *Store {
	return &Store{open: open, clock: clk, turns: make(chan struct{}, 1)}
}

// Trouble is why the last attempt to use the TPM failed, nil if it did not.
func (s *Store) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Create implements keys.Store. It signs with the new key before it hands it out.
func (s *Store) Create() (crypto.Signer, []byte, error) {
	f, err := turn(s, func(c conn) (keyfile, error) {
		parent, number, err := c.parentForNew()
		if err != nil {
			return keyfile{}, err
		}
		defer c.flush(parent.Handle)
		made, err := tpm2.Create{ParentHandle: parent.auth(), InPublic: tpm2.New2B(template)}.Execute(c)
		if err != nil {
			return keyfile{}, fmt.Errorf("making a key: %w", err)
		}
		f := keyfile{parent: number, public: made.OutPublic, private: made.OutPrivate}
		if f.key, err = checkPublic(f.public); err != nil {
			return keyfile{}, fmt.Errorf("the key that the TPM made: %w", err)
		}
		_, err = c.sign(parent, f, make([]byte, 32))
		return f, err
	})
	if err != nil {
		return nil, nil, err
	}
	text, err := f.encode()
	return &key{s, f}, text, err
}

// Open implements keys.Store. It does not touch the TPM: a gateway whose TPM is
// late, or gone, has an identity all the same, and goes on polling its pumps.
func (s *Store) Open(text []byte) (crypto.Signer, error) {
	f, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &key{s, f}, nil
}

// key is a key in the TPM.
type key struct {
	store *Store
	file  keyfile
}

func (k *key) Public() crypto.PublicKey { return k.file.key }

// Sign implements crypto.Signer. The TPM has a random source of its own.
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if h := opts.HashFunc(); h != 0 && h.Size() != len(digest) {
		return nil, fmt.Errorf("a digest of %d bytes is not of %v", len(digest), h)
	}
	return turn(k.store, func(c conn) ([]byte, error) {
		parent, err := c.parent(k.file.parent)
		if err != nil {
			return nil, err
		}
		defer c.flush(parent.Handle)
		return c.sign(parent, k.file, digest)
	})
}

// turn has the TPM do one thing, alone and within Patience. Given up, it goes on
// in the background until the device lets go of it, and keeps others out: a
// device that hangs must not collect them. What it then returns is dropped.
func turn[T any](s *Store, do func(conn) (T, error)) (result T, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	defer func() {
		s.mu.Lock()
		s.last = err
		s.mu.Unlock()
	}()
	select {
	case s.turns <- struct{}{}:
	case <-ctx.Done():
		return result, ErrSilent
	}
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-s.turns }()
		var o outcome
		defer func() { done <- o }()
		rw, err := s.open()
		if err != nil {
			o.err = err
			return
		}
		defer rw.Close()
		// It ends the wait on a socket; on a device the kernel has the last word.
		defer context.AfterFunc(ctx, func() { rw.Close() })()
		o.result, o.err = do(conn{ctx, rw, s.clock})
	}()
	select {
	case o := <-done:
		if o.err != nil && ctx.Err() != nil {
			o.err = ErrSilent
		}
		return o.result, o.err
	case <-ctx.Done():
		return result, ErrSilent
	}
}

// template is what a gateway's key is.
var template = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM:            true, // cannot be duplicated
		FixedParent:         true,
		SensitiveDataOrigin: true, // made by the TPM, not brought to it
		UserWithAuth:        true, // used with the (empty) password, not with a policy
		NoDA:                true,
		SignEncrypt:         true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
	}),
}

// checkPublic tells whether a public area is of a key as we make them, whoever
// made it, and returns what it verifies with.
func checkPublic(area tpm2.TPM2BPublic) (*ecdsa.PublicKey, error) {
	p, err := area.Contents()
	if err != nil {
		return nil, err
	}
	if p.Type != tpm2.TPMAlgECC {
		return nil, errors.New("it is not an elliptic curve key")
	}
	parms, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	if parms.CurveID != tpm2.TPMECCNistP256 {
		return nil, errors.New("it is not on P-256")
	}
	if s := parms.Scheme.Scheme; s != tpm2.TPMAlgNull && s != tpm2.TPMAlgECDSA {
		return nil, errors.New("it is not for ECDSA")
	}
	switch a := p.ObjectAttributes; {
	case !a.SignEncrypt || a.Restricted || !a.UserWithAuth:
		return nil, errors.New("it does not sign without a policy")
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin:
		return nil, errors.New("it was not made in a TPM for good: somebody may have a copy")
	}
	point, err := p.Unique.ECC()
	if err != nil {
		return nil, err
	}
	if len(point.X.Buffer) > 32 || len(point.Y.Buffer) > 32 {
		return nil, errors.New("its point is too long")
	}
	encoded := make([]byte, 65)
	encoded[0] = 4                                           // uncompressed
	copy(encoded[33-len(point.X.Buffer):33], point.X.Buffer) // a TPM may leave out leading zeros
	copy(encoded[65-len(point.Y.Buffer):], point.Y.Buffer)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), encoded)
}

// fit brings a digest to the 32 bytes that the key's scheme has. ECDSA on P-256
// takes the leftmost 256 bits of a longer one (FIPS 186-5, 6.4.1) and a shorter
// one as a number.
func fit(digest []byte) []byte {
	if len(digest) >= 32 {
		return digest[:32]
	}
	return append(make([]byte, 32-len(digest)), digest...)
}

// sign loads the key, signs and flushes it, and returns the signature in DER.
func (c conn) sign(parent named, f keyfile, digest []byte) ([]byte, error) {
	digest = fit(digest)
	loaded, err := tpm2.Load{ParentHandle: parent.auth(), InPrivate: f.private, InPublic: f.public}.Execute(c)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return nil, errors.New("the key is of another TPM, or of this one before it was cleared")
	}
	if err != nil {
		return nil, fmt.Errorf("loading the key: %w", err)
	}
	defer c.flush(loaded.ObjectHandle)
	answer, err := tpm2.Sign{
		KeyHandle:  named{loaded.ObjectHandle, loaded.Name}.auth(),
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}, // whatever the digest is of
	}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	rs, err := answer.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(rs.SignatureR.Buffer), new(big.Int).SetBytes(rs.SignatureS.Buffer)})
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(f.key, digest, der) {
		return nil, errors.New("the TPM made a signature that is wrong")
	}
	return der, nil
}
