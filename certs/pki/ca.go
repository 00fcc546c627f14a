package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// CA is a set of authorities in a folder: root.pem, gateways.pem and
// servers.pem, each with its key beside it (0600). The root's key is needed
// only to make intermediates; a cautious operator moves root.key away.
type CA struct {
	fsys  disk.FS
	dir   string
	clock clock.Clock
	rand  io.Reader

	root     *x509.Certificate
	gateways *Authority
	servers  *Authority
}

// OpenCA reads the authorities in dir, and makes them when there are none. Made
// or not at all: a power cut while they are being made leaves a folder that the
// next OpenCA completes.
func OpenCA(fsys disk.FS, dir string, clk clock.Clock, rnd io.Reader) (*CA, error) {
	ca := &CA{fsys: fsys, dir: dir, clock: clk, rand: rnd}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	now := clk.Now()
	root, err := ca.load("root", true, func() (*Authority, error) { return newRoot(now, rnd) })
	if err != nil {
		return nil, err
	}
	ca.root = root.Certificate
	make := func(title string, life time.Duration, usage x509.ExtKeyUsage) func() (*Authority, error) {
		return func() (*Authority, error) {
			if root.key == nil {
				return nil, fmt.Errorf("making %s needs the root's key, and %s is not there", title, ca.path("root.key"))
			}
			return root.intermediate(title, life, usage, now, rnd)
		}
	}
	if ca.gateways, err = ca.load("gateways", false, make("Penstock Gateways", gatewaysLife, x509.ExtKeyUsageClientAuth)); err != nil {
		return nil, err
	}
	if ca.servers, err = ca.load("servers", false, make("Penstock Servers", serversLife, x509.ExtKeyUsageServerAuth)); err != nil {
		return nil, err
	}
	return ca, nil
}

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

// load reads an authority, or makes it when its certificate is not there. The
// key is written before the certificate: a certificate always has its key.
func (ca *CA) load(name string, keyMayBeAway bool, create func() (*Authority, error)) (*Authority, error) {
	text, err := disk.ReadFile(ca.fsys, ca.path(name+".pem"))
	if errors.Is(err, fs.ErrNotExist) {
		a, err := create()
		if err != nil {
			return nil, err
		}
		key, err := EncodeKey(a.key)
		if err != nil {
			return nil, err
		}
		if err := disk.WriteFile(ca.fsys, ca.path(name+".key"), key, 0o600); err != nil {
			return nil, err
		}
		return a, disk.WriteFile(ca.fsys, ca.path(name+".pem"), EncodeCertificates(a.Certificate), 0o644)
	}
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.path(name+".pem"), err)
	}
	a := &Authority{Certificate: certs[0]}
	text, err = ReadSecret(ca.fsys, ca.path(name+".key"))
	if keyMayBeAway && errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.path(name+".key"), err)
	}
	if !key.PublicKey.Equal(a.Certificate.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", ca.path(name+".key"), ca.path(name+".pem"))
	}
	a.key = key
	return a, nil
}

// ReadSecret reads a file that only its owner may read, and refuses one that
// others could have read: then it is no secret any more.
func ReadSecret(fsys disk.FS, name string) ([]byte, error) {
	st, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 %s, and replace the key if anybody could have copied it", name, mode, name)
	}
	return disk.ReadFile(fsys, name)
}

// Roots is the root certificate as PEM, for the identity folders of gateways.
func (ca *CA) Roots() []byte { return EncodeCertificates(ca.root) }

// Pool holds the root.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.root)
	return p
}

// IssueGateway issues for a PEM request and returns the chain as PEM: the leaf,
// then the intermediate.
func (ca *CA) IssueGateway(request []byte) (chain []byte, leaf *x509.Certificate, err error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, nil, err
	}
	leaf, err = ca.gateways.IssueGateway(r, ca.clock.Now(), ca.rand)
	if err != nil {
		return nil, nil, err
	}
	return EncodeCertificates(leaf, ca.gateways.Certificate), leaf, nil
}

// ServerCertificate keeps a server supplied with a certificate for hosts. The
// key lives in memory and is new with each certificate; one is made at the
// first call and again once 60 % of its life have passed. The function that it
// returns may be called from any goroutine.
func (ca *CA) ServerCertificate(hosts []string) func() (*tls.Certificate, error) {
	var mu sync.Mutex
	var current *tls.Certificate
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now := ca.clock.Now()
		if current != nil {
			life := current.Leaf.NotAfter.Sub(current.Leaf.NotBefore)
			if now.Before(current.Leaf.NotBefore.Add(life * 6 / 10)) {
				return current, nil
			}
		}
		key, err := NewKey(ca.rand)
		if err != nil {
			return nil, err
		}
		leaf, err := ca.servers.IssueServer(hosts, key.Public(), now, ca.rand)
		if err != nil {
			return nil, err
		}
		current = &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.servers.Certificate.Raw}, PrivateKey: key, Leaf: leaf}
		return current, nil
	}
}
