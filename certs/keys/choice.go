package keys

import (
	"bytes"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"penstock/internal/disk"
)

// Kind is a way to keep keys.
type Kind string

// The kinds of store. A folder's keys are all of one kind.
const (
	InFile Kind = "file"
	InTPM  Kind = "tpm"
)

// TPMText is the PEM type of a TPM's keys, as other programs know it.
const TPMText = "TSS2 PRIVATE KEY"

const (
	recordFile = "keys.json"
	firstKey   = "key.pem" // of an identity folder
)

// Choice keeps the keys of an identity folder where this machine keeps them best:
// in its TPM if that works when the first key is made, in files otherwise. What was
// chosen then is recorded in the folder (keys.json), with the reason, and stands for
// as long as the identity does. A TPM that worked and fails later is an error; one
// that failed and works later is not used: a gateway whose keys are now here, now
// there is one that nobody can reason about.
//
// Choice is a Store. Opening goes by the text, which says what kind of key it is.
type Choice struct {
	FS   disk.FS
	Dir  string // the identity folder; it must be there
	File Store
	TPM  Store // nil: the firmware was built without
	Want Kind  // what the operator insists on; "": the machine decides
}

// record is keys.json.
type record struct {
	Store   Kind   `json:"store"`
	Because string `json:"because"`
}

// Create implements Store. The first call for a folder makes the choice, and the
// record is safe on disk before the key is handed out.
func (c *Choice) Create() (crypto.Signer, []byte, error) {
	r, err := c.recorded()
	if err != nil {
		return nil, nil, err
	}
	if r.Store == "" {
		return c.first()
	}
	if err := c.wants(r.Store); err != nil {
		return nil, nil, err
	}
	if r.Store == InFile {
		return c.File.Create()
	}
	if c.TPM == nil {
		return nil, nil, errNoTPM
	}
	key, text, err := c.TPM.Create()
	if err != nil {
		return nil, nil, gone(err)
	}
	return only{key}, text, nil
}

// only is a key that is in the TPM and nowhere else.
type only struct{ crypto.Signer }

func (k only) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := k.Signer.Sign(random, digest, opts)
	if err != nil {
		return nil, gone(err)
	}
	return signature, nil
}

func gone(err error) error {
	return fmt.Errorf("this gateway's keys are in its TPM, which fails: %w; if that does not pass, run penstock provision -replace and have the new key certified", err)
}

// first makes the first key, and the choice.
func (c *Choice) first() (key crypto.Signer, text []byte, err error) {
	r := record{Store: InFile}
	switch {
	case c.Want == InFile:
		r.Because = "the operator wanted it"
	case c.TPM == nil:
		if err = errNoTPM; c.Want == InTPM {
			return nil, nil, err
		}
		r.Because = err.Error()
	default:
		key, text, err = c.tryTPM()
		switch {
		case err == nil:
			r = record{InTPM, "it worked when the first key was made"}
		case c.Want == InTPM:
			return nil, nil, err
		default:
			r.Because = err.Error()
		}
	}
	if r.Store == InFile {
		if key, text, err = c.File.Create(); err != nil {
			return nil, nil, err
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, nil, err
	}
	return key, text, disk.WriteFile(c.FS, filepath.Join(c.Dir, recordFile), append(line, '\n'), 0o644)
}

// tryTPM makes a key in the TPM and uses it as it will be used: opened from its
// text, for a signature that others verify.
func (c *Choice) tryTPM() (crypto.Signer, []byte, error) {
	_, text, err := c.TPM.Create()
	if err != nil {
		return nil, nil, err
	}
	key, err := c.TPM.Open(text)
	if err != nil {
		return nil, nil, err
	}
	return only{key}, text, Check(key)
}

// wants tells whether what is there is what the operator insists on.
func (c *Choice) wants(k Kind) error {
	if c.Want != "" && c.Want != k {
		return fmt.Errorf("%s is a folder with keys in %s; -replace discards its identity for ever", c.Dir, k.where())
	}
	return nil
}

// Open implements Store.
func (c *Choice) Open(text []byte) (crypto.Signer, error) {
	if err := c.wants(kindOf(text)); err != nil {
		return nil, err
	}
	if kindOf(text) == InFile {
		return c.File.Open(text)
	}
	if c.TPM == nil {
		return nil, errNoTPM
	}
	key, err := c.TPM.Open(text)
	if err != nil {
		return nil, err
	}
	return only{key}, nil
}

var errNoTPM = errors.New("this firmware was built without TPM support")

func kindOf(text []byte) Kind {
	if block, _ := pem.Decode(text); block != nil && block.Type == TPMText {
		return InTPM
	}
	return InFile
}

func (k Kind) where() string {
	if k == InTPM {
		return "the TPM"
	}
	return "files"
}

// recorded is the choice that was made; its Store is "" when none was. A folder
// whose first key was brought there, in an image, has no record: its keys are of
// that one's kind.
func (c *Choice) recorded() (r record, err error) {
	name := filepath.Join(c.Dir, recordFile)
	text, err := disk.ReadFile(c.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = disk.ReadFile(c.FS, filepath.Join(c.Dir, firstKey))
		if errors.Is(err, fs.ErrNotExist) {
			return r, nil
		}
		return record{kindOf(text), "the first key came so"}, err
	}
	if err != nil {
		return r, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	if r.Store != InFile && r.Store != InTPM {
		return r, fmt.Errorf("%s: store %q is not allowed; allowed: %s, %s", name, r.Store, InFile, InTPM)
	}
	return r, nil
}

// Status is where a folder's keys are.
type Status struct {
	Kind    Kind   // "" as long as there is none
	Because string // the choice was this
	Problem string // why a key could not be used the last time, "" if it could
}

// Status may be called at any time.
func (c *Choice) Status() Status {
	r, err := c.recorded()
	if err != nil {
		return Status{Problem: err.Error()}
	}
	s := Status{Kind: r.Store, Because: r.Because}
	if t, ok := c.TPM.(interface{ Trouble() error }); ok && r.Store == InTPM {
		if err := t.Trouble(); err != nil {
			s.Problem = err.Error()
		}
	}
	return s
}
