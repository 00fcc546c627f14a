package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// storageRoot is where the storage root key is persistent, if it is (TCG TPM v2.0
// Provisioning Guidance, 7.8). owner instead of a handle means: made from the
// owner's seed when it is needed, always the same.
const (
	storageRoot = tpm2.TPMHandle(0x81000001)
	owner       = tpm2.TPMRHOwner
)

// named is an object in the TPM, used with an empty password.
type named tpm2.NamedHandle

func (n named) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: n.Handle, Name: n.Name, Auth: tpm2.PasswordAuth(nil)}
}

// rootTemplate is the storage root key as the key file format has it: the TCG's
// ECC template with nothing in its unique field.
var rootTemplate = func() tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t
}()

// parentForNew is the key that new keys are wrapped by, and what the key file
// calls it: the persistent storage root key if it is there and of the right kind,
// since that costs nothing, or else the same kind of key made now.
func (c conn) parentForNew() (named, tpm2.TPMHandle, error) {
	n, public, err := c.read(storageRoot)
	if err == nil && isStorageRoot(public) {
		return n, storageRoot, nil
	}
	if err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
		return named{}, 0, err
	}
	n, err = c.parent(owner)
	return n, owner, err
}

// isStorageRoot: P-256, for wrapping only, and no password guarded by a lockout,
// which ours, being empty, would run into.
func isStorageRoot(p *tpm2.TPMTPublic) bool {
	if p.Type != tpm2.TPMAlgECC {
		return false
	}
	parms, err := p.Parameters.ECCDetail()
	a := p.ObjectAttributes
	return err == nil && parms.CurveID == tpm2.TPMECCNistP256 &&
		a.FixedTPM && a.FixedParent && a.Restricted && a.Decrypt && a.UserWithAuth && a.NoDA
}

// parent is the key that a key file names. Flush it after use.
func (c conn) parent(number tpm2.TPMHandle) (named, error) {
	if number != owner {
		n, _, err := c.read(number)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return named{}, fmt.Errorf("the key that ours is wrapped by (0x%08x) is not in the TPM any more", uint32(number))
		}
		return n, err
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: owner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(rootTemplate),
	}.Execute(c)
	if err != nil {
		return named{}, fmt.Errorf("making the storage root key: %w", err)
	}
	return named{made.ObjectHandle, made.Name}, nil
}

func (c conn) read(handle tpm2.TPMHandle) (named, *tpm2.TPMTPublic, error) {
	answer, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(c)
	if err != nil {
		return named{}, nil, fmt.Errorf("reading the key 0x%08x: %w", uint32(handle), err)
	}
	public, err := answer.OutPublic.Contents()
	return named{handle, answer.Name}, public, err
}

// flush makes room for others. What is persistent stays. The kernel flushes all
// when the device is closed; a TPM that has no resource manager before it does not.
func (c conn) flush(handle tpm2.TPMHandle) {
	const transient = 0x80
	if handle>>24 == transient {
		_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(c) // the turn has its result
	}
}
