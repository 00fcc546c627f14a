package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// CA is a set of authorities in a folder: root.pem, factory.pem, servers.pem and
// operational.pem, each with its key beside it (0600). The root's key is needed only to make
// intermediates: a cautious operator moves root.key away.
type CA struct {
	fsys  disk.FS
	dir   string
	clock clock.Clock
	rand  io.Reader

	root, factory, servers, operational *Authority
}

// ErrNoCA: there are no authorities in the folder.
var ErrNoCA = errors.New("there are no authorities")

// The authorities in the order in which they are made. A folder of before there
// were operational certificates is completed when it is next opened.
var authorities = []string{"root", "factory", "servers", "operational"}

// OpenCA reads the authorities in dir, and makes them when there are none. A
// power cut while they are being made leaves a folder that the next OpenCA
// completes. Where some are missing that had been made, it refuses: a new root
// would cut off every gateway of the old one.
func OpenCA(fsys disk.FS, dir string, clk clock.Clock, rnd io.Reader) (*CA, error) {
	return openCA(fsys, dir, clk, rnd, true)
}

// LoadCA reads the authorities in dir. The error is ErrNoCA when there are none.
func LoadCA(fsys disk.FS, dir string, clk clock.Clock, rnd io.Reader) (*CA, error) {
	return openCA(fsys, dir, clk, rnd, false)
}

func openCA(fsys disk.FS, dir string, clk clock.Clock, rnd io.Reader, create bool) (*CA, error) {
	ca := &CA{fsys: fsys, dir: dir, clock: clk, rand: rnd}
	there, err := ca.there()
	if err != nil {
		return nil, fmt.Errorf("the authorities in %s: %w", dir, err)
	}
	if there < len(authorities) && !create {
		return nil, fmt.Errorf("%s: %w; penstock-cloud serve makes them when it first starts", dir, ErrNoCA)
	}
	if create {
		if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
			return nil, err
		}
	}
	if ca.root, err = ca.open("root", there > 0, func() (*Authority, error) { return newRoot(clk.Now(), rnd) }); err != nil {
		return nil, err
	}
	if ca.factory, err = ca.open("factory", there > 1, func() (*Authority, error) { return ca.root.newFactory(clk.Now(), rnd) }); err != nil {
		return nil, err
	}
	if ca.servers, err = ca.open("servers", there > 2, func() (*Authority, error) { return ca.root.newServers(clk.Now(), rnd) }); err != nil {
		return nil, err
	}
	if ca.operational, err = ca.open("operational", there > 3, func() (*Authority, error) { return ca.root.newOperational(clk.Now(), rnd) }); err != nil {
		return nil, err
	}
	return ca, nil
}

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

// there counts the authorities whose certificates are in the folder.
func (ca *CA) there() (n int, err error) {
	missing := ""
	for _, name := range authorities {
		_, err := ca.fsys.Stat(ca.path(name + ".pem"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if missing == "" {
				missing = name
			}
		case err != nil:
			return 0, err
		case missing != "":
			return 0, fmt.Errorf("%s is there and %s is not: restore it from a backup; making a new one would cut off what the old one issued", name+".pem", missing+".pem")
		default:
			n++
		}
	}
	return n, nil
}

// open reads an authority, or makes it. The key is written before the
// certificate: a certificate always has its key.
func (ca *CA) open(name string, there bool, create func() (*Authority, error)) (*Authority, error) {
	if there {
		return ca.load(name)
	}
	a, err := create()
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", ca.path(name+".pem"), err)
	}
	key, err := EncodeKey(a.Key)
	if err != nil {
		return nil, err
	}
	if err := disk.WriteFile(ca.fsys, ca.path(name+".key"), key, 0o600); err != nil {
		return nil, err
	}
	return a, disk.WriteFile(ca.fsys, ca.path(name+".pem"), EncodeCertificates(a.Certificate), 0o644)
}

func (ca *CA) load(name string) (*Authority, error) {
	text, err := disk.ReadFile(ca.fsys, ca.path(name+".pem"))
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.path(name+".pem"), err)
	}
	a := &Authority{Certificate: certs[0]}
	if !a.Certificate.IsCA {
		return nil, fmt.Errorf("%s is not an authority's certificate", ca.path(name+".pem"))
	}
	if ca.root != nil {
		if err := a.Certificate.CheckSignatureFrom(ca.root.Certificate); err != nil {
			return nil, fmt.Errorf("%s was not issued by %s: %w", ca.path(name+".pem"), ca.path("root.pem"), err)
		}
	}
	text, err = ReadSecret(ca.fsys, ca.path(name+".key"))
	if errors.Is(err, fs.ErrNotExist) && name == "root" {
		return a, nil // kept elsewhere
	}
	if err != nil {
		return nil, fmt.Errorf("an authority's key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.path(name+".key"), err)
	}
	if !key.PublicKey.Equal(a.Certificate.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", ca.path(name+".key"), ca.path(name+".pem"))
	}
	a.Key = key
	return a, nil
}

// Authorities are the certificates of all authorities, the root first.
func (ca *CA) Authorities() []*x509.Certificate {
	return []*x509.Certificate{ca.root.Certificate, ca.factory.Certificate, ca.operational.Certificate, ca.servers.Certificate}
}

// Roots is the root certificate as PEM, for the identity folders of gateways.
func (ca *CA) Roots() []byte { return EncodeCertificates(ca.root.Certificate) }

// Pool holds the root.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.root.Certificate)
	return p
}

// IssueGateway issues a factory identity for a PEM request and the board that it
// comes from.
func (ca *CA) IssueGateway(request []byte, board string) (*x509.Certificate, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return ca.factory.IssueGateway(r, board, ca.clock.Now(), ca.rand)
}

// IssueOperational issues an operational certificate for a request that has been
// found to come from the gateway that it names.
func (ca *CA) IssueOperational(request *x509.CertificateRequest) (*x509.Certificate, error) {
	return ca.operational.IssueOperational(request, ca.clock.Now(), ca.rand)
}

// ChainOf is what a gateway must show: its certificate and its issuer's, leaf
// first.
func (ca *CA) ChainOf(leaf *x509.Certificate) ([]*x509.Certificate, error) {
	for _, a := range []*Authority{ca.factory, ca.operational} {
		if leaf.CheckSignatureFrom(a.Certificate) == nil {
			return []*x509.Certificate{leaf, a.Certificate}, nil
		}
	}
	return nil, fmt.Errorf("the certificate of %s was issued by none of the authorities in %s", strings.Join(Names(leaf), ", "), ca.dir)
}

// Chain is ChainOf as PEM.
func (ca *CA) Chain(leaf *x509.Certificate) ([]byte, error) {
	chain, err := ca.ChainOf(leaf)
	if err != nil {
		return nil, err
	}
	return EncodeCertificates(chain...), nil
}
