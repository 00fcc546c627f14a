package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/certs/label"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/image"
)

// Provisioning is what an installer decides about a gateway.
type Provisioning struct {
	Serial, Model, Board, AuthURL string
	State                         string // the folder that gets the identity
	Image                         string // the disk image that the folder is in; "": this machine
	Partition                     int    // of the image; 0: the only one with a file system
	Keys                          string // where its keys must be: "file" or "tpm"; "": where the machine keeps them best
	Replace, Relabel              bool
}

func (p Provisioning) factory() certs.Factory {
	return certs.Factory{Serial: p.Serial, Model: p.Model, Board: p.Board, AuthURL: p.AuthURL}
}

// place is where an identity is made: a folder of this machine or of an image.
type place struct {
	fsys disk.FS
	dir  string
	keys keys.Store
	// save brings what was changed to where it belongs.
	save func() error
	// leave lets others at it.
	leave func()
}

func (p Provisioning) open(ctx context.Context) (*place, error) {
	if p.Image == "" {
		if err := disk.MkdirAll(disk.OS, p.State, 0o755); err != nil {
			return nil, err
		}
		free, err := lock(p.State)
		return &place{disk.OS, filepath.Join(p.State, "identity"), keysOf(p.State, keys.Kind(p.Keys)), func() error { return nil }, free}, err
	}
	m, err := image.Open(ctx, p.Image, p.Partition)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.State, "identity")
	d, err := m.Files(ctx, dir)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", p.Image, err)
	}
	// What has begun is ended: an image that was half written is of no use.
	save := func() error {
		return m.Save(context.WithoutCancel(ctx), dir, d, filepath.Join(dir, "cert.pem"))
	}
	// Never a key of this machine's TPM: the image goes elsewhere.
	return &place{d, dir, keys.File{Rand: rand.Reader}, save, func() { m.Close() }}, nil
}

// Bench is where what a gateway does not keep goes to, and where its certificate
// comes from.
type Bench struct {
	Records string // folder of the records, as SERIAL.csr; "" for none
	Labels  string // folder of the labels, as SERIAL.svg and SERIAL.png; "" for none
	Issue   Issue  // asks the authority; nil: the second step comes later
}

// Issue has an authority answer a record. The text of its answer is a bundle.
type Issue func(ctx context.Context, record []byte) (answer []byte, err error)

// Provision gives a gateway its identity: makes it, has it certified, installs it.
// Without b.Issue it stops after the first step, and answers the record. A gateway
// that is provisioned already is certs.ErrProvisioned.
func Provision(ctx context.Context, p Provisioning, b Bench) (record []byte, err error) {
	at, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer at.leave()
	made, err := certs.Provision(at.fsys, at.dir, at.keys, certs.Order{Factory: p.factory(), Replace: p.Replace, Relabel: p.Relabel, Random: rand.Reader})
	if err == nil {
		err = at.save() // before anybody is told of the key
	}
	if err != nil {
		return nil, err
	}
	if b.Records != "" {
		if err := os.MkdirAll(b.Records, 0o755); err != nil {
			return nil, err
		}
		if err := disk.WriteFile(disk.OS, filepath.Join(b.Records, p.Serial+".csr"), made.Record, 0o644); err != nil {
			return nil, err
		}
	}
	if b.Labels != "" {
		l := label.Label{Serial: p.Serial, Model: p.Model, Claim: made.Claim}
		if err := writeLabel(b.Labels, l); err != nil {
			return nil, err
		}
	}
	if b.Issue == nil {
		return made.Record, nil
	}
	answer, err := b.Issue(ctx, made.Record)
	if err != nil {
		return nil, fmt.Errorf("the certificate of %s: %w; nothing is lost, run the same again", p.Serial, err)
	}
	bundle, err := pki.ParseBundle(answer)
	if err == nil {
		err = certs.Install(at.fsys, at.dir, at.keys, bundle, clock.System.Now())
	}
	if err == nil {
		err = at.save()
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate of %s: %w", p.Serial, err)
	}
	return made.Record, nil
}

// writeLabel draws a label into a folder, for its owner's eyes only: it bears the
// claim code.
func writeLabel(dir string, l label.Label) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for suffix, draw := range map[string]func() ([]byte, error){".svg": l.SVG, ".png": l.PNG} {
		drawn, err := draw()
		if err != nil {
			return err
		}
		if err := disk.WriteFile(disk.OS, filepath.Join(dir, l.Serial+suffix), drawn, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Install completes the identity in a place with the bundle in a file; of p it needs
// the place alone.
func Install(ctx context.Context, p Provisioning, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	bundle, err := pki.ParseBundle(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	at, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer at.leave()
	if err := certs.Install(at.fsys, at.dir, at.keys, bundle, clock.System.Now()); err != nil {
		return err
	}
	return at.save()
}

// IsProvisioned tells whether an error says that nothing is left to do.
func IsProvisioned(err error) bool { return errors.Is(err, certs.ErrProvisioned) }
