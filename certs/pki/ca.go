package pki

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
)

// CA is a set of authorities in a folder: root.pem, factory.pem, servers.pem and
// operational.pem, each with its key beside it (0600). The root's key is needed only
// to make intermediates: a cautious operator moves root.key away.
//
// An authority that has been rotated has a generation: root-2.pem follows root.pem.
// Nothing is ever overwritten, and the earlier certificates stay, since gateways go
// on showing them. root-2-by-1.pem is the cross-certificate by which those who know
// the first root alone believe the second.
//
// Another process may rotate the authorities meanwhile: what it makes is seen at the
// next use. Methods may be called from any goroutine.
type CA struct {
	// Life is how long an operational certificate is good that is issued from now on;
	// OperationalLife unless it is set, before the first use.
	Life time.Duration

	fsys  disk.FS
	dir   string
	clock clock.Clock
	rand  io.Reader

	mu  sync.Mutex
	set *set // replaced as a whole; guarded by mu
}

// set is all authorities at a time. It is immutable.
type set struct {
	roots        []*Authority            // oldest first; the last one signs
	intermediate map[string][]*Authority // by name, oldest first; the last one signs
	crosses      []*x509.Certificate     // of the last root, by earlier ones
	pool         *x509.CertPool          // the roots, but for those that were withdrawn
	signing      signing
}

func (s *set) root() *Authority               { return last(s.roots) }
func (s *set) current(name string) *Authority { return last(s.intermediate[name]) }

func last(as []*Authority) *Authority { return as[len(as)-1] }

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
		if err := ca.complete(there); err != nil {
			return nil, err
		}
	}
	if ca.set, err = ca.read(); err != nil {
		return nil, err
	}
	if create {
		if err := ca.follow(); err != nil { // a rotation of the root that a power cut ended
			return nil, err
		}
		if err := ca.followSigning(); err != nil {
			return nil, err
		}
	}
	if err := ca.destroySuperseded(); err != nil {
		return nil, fmt.Errorf("destroying the keys of rotated authorities: %w", err)
	}
	return ca, nil
}

// complete makes what is missing of the first generation.
func (ca *CA) complete(there int) (err error) {
	var root *Authority
	if there > 0 && there < len(authorities) {
		roots, err := ca.generations("root", nil)
		if err != nil {
			return err
		}
		root = last(roots)
	}
	for _, name := range authorities[there:] {
		var a *Authority
		if name == "root" {
			root, err = newRoot("Penstock Root", ca.clock.Now(), ca.rand)
			a = root
		} else {
			a, err = ca.make(name, root)
		}
		if err != nil {
			return fmt.Errorf("making %s: %w", ca.path(name+".pem"), err)
		}
		if err := ca.keep(a, name); err != nil {
			return err
		}
	}
	return nil
}

// make makes an intermediate.
func (ca *CA) make(name string, root *Authority) (*Authority, error) {
	switch now := ca.clock.Now(); name {
	case "factory":
		return root.newFactory(now, ca.rand)
	case "operational":
		return root.newOperational(now, ca.rand)
	case "servers":
		return root.newServers(now, ca.rand)
	}
	return nil, fmt.Errorf("%q is not an authority; there are %s", name, strings.Join(authorities, ", "))
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

// keep writes an authority. The key is written before the certificate: a
// certificate always has its key.
func (ca *CA) keep(a *Authority, file string) error {
	key, err := EncodeKey(a.Key)
	if err != nil {
		return err
	}
	if err := disk.WriteFile(ca.fsys, ca.path(file+".key"), key, 0o600); err != nil {
		return err
	}
	return disk.WriteFile(ca.fsys, ca.path(file+".pem"), EncodeCertificates(a.Certificate), 0o644)
}

// generation is the file name of an authority's generation, which count from 1.
func generation(name string, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n)
}

// read reads all authorities.
func (ca *CA) read() (*set, error) {
	s := &set{intermediate: map[string][]*Authority{}, pool: x509.NewCertPool()}
	var err error
	if s.roots, err = ca.generations("root", nil); err != nil {
		return nil, err
	}
	if s.signing, err = ca.readSigning(); err != nil {
		return nil, err
	}
	for n, r := range s.roots {
		if !s.signing.withdrawn(s.roots, n) {
			s.pool.AddCert(r.Certificate) // one that has expired verifies nothing
		}
	}
	for _, name := range authorities[1:] {
		if s.intermediate[name], err = ca.generations(name, s.roots); err != nil {
			return nil, err
		}
	}
	for m := 1; m < len(s.roots); m++ {
		file := ca.path(fmt.Sprintf("%s-by-%d.pem", generation("root", len(s.roots)), m))
		cross, err := ca.certificate(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // that root's key was away
		}
		if err != nil {
			return nil, err
		}
		if !s.root().Certificate.PublicKey.(*ecdsa.PublicKey).Equal(cross.PublicKey) {
			return nil, fmt.Errorf("%s is not for the key of %s", file, s.root().Certificate.Subject.CommonName)
		}
		s.crosses = append(s.crosses, cross)
	}
	return s, nil
}

// generations reads the generations of an authority, which was issued by one of the
// roots. Only the last must have its key, and a root need not.
func (ca *CA) generations(name string, roots []*Authority) (all []*Authority, err error) {
	for n := 1; ; n++ {
		file := generation(name, n)
		c, err := ca.certificate(ca.path(file + ".pem"))
		if errors.Is(err, fs.ErrNotExist) && n > 1 {
			break
		}
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s is not an authority's certificate", ca.path(file+".pem"))
		}
		if roots != nil && !slices.ContainsFunc(roots, func(r *Authority) bool { return c.CheckSignatureFrom(r.Certificate) == nil }) {
			return nil, fmt.Errorf("%s was not issued by %s", ca.path(file+".pem"), ca.path("root.pem"))
		}
		a := &Authority{Certificate: c}
		key, err := ca.key(file, c)
		switch {
		case err == nil:
			a.Key = key
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		all = append(all, a)
	}
	if roots != nil && last(all).Key == nil {
		return nil, fmt.Errorf("an authority's key: %s is not there: restore it from a backup", ca.path(generation(name, len(all))+".key"))
	}
	return all, nil
}

func (ca *CA) certificate(file string) (*x509.Certificate, error) {
	text, err := disk.ReadFile(ca.fsys, file)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return certs[0], nil
}

func (ca *CA) key(file string, c *x509.Certificate) (*ecdsa.PrivateKey, error) {
	name := ca.path(file + ".key")
	text, err := ReadSecret(ca.fsys, name)
	if err != nil {
		return nil, fmt.Errorf("an authority's key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !key.PublicKey.Equal(c.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", name, ca.path(file+".pem"))
	}
	return key, nil
}

// now is the set of today: when another process has made a further generation, it
// is read. What cannot be read yet leaves the set as it was.
func (ca *CA) now() *set {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	further := ca.set.signing.files()
	for _, name := range authorities {
		n := len(ca.set.intermediate[name])
		if name == "root" {
			n = len(ca.set.roots)
		}
		further = append(further, generation(name, n+1)+".pem")
	}
	for _, file := range further {
		if _, err := ca.fsys.Stat(ca.path(file)); err != nil {
			continue
		}
		if fresh, err := ca.read(); err == nil {
			ca.set = fresh
		}
		break
	}
	return ca.set
}

// Authorities are the certificates of all authorities, earlier generations and
// cross-certificates too, the roots first.
func (ca *CA) Authorities() (all []*x509.Certificate) {
	s := ca.now()
	for _, r := range s.roots {
		all = append(all, r.Certificate)
	}
	all = append(all, s.crosses...)
	for _, name := range authorities[1:] {
		for _, a := range s.intermediate[name] {
			all = append(all, a.Certificate)
		}
	}
	return all
}

// Roots is the root of today as PEM, for the identity folders of gateways.
func (ca *CA) Roots() []byte { return EncodeCertificates(ca.now().root().Certificate) }

// Pool holds the roots of all generations: a gateway's certificate may have been
// issued under an earlier one.
func (ca *CA) Pool() *x509.CertPool { return ca.now().pool }

// IssueGateway issues a factory identity for a PEM request and the board that it
// comes from.
func (ca *CA) IssueGateway(request []byte, board string) (*x509.Certificate, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return ca.now().current("factory").IssueGateway(r, board, ca.clock.Now(), ca.rand)
}

// IssueOperational issues an operational certificate for a request that has been
// found to come from the gateway that it names.
func (ca *CA) IssueOperational(request *x509.CertificateRequest) (*x509.Certificate, error) {
	return ca.now().current("operational").IssueOperational(request, cmp.Or(ca.Life, OperationalLife), ca.clock.Now(), ca.rand)
}

// ChainOf is what a gateway must show: its certificate and its issuer's, leaf
// first.
func (ca *CA) ChainOf(leaf *x509.Certificate) ([]*x509.Certificate, error) {
	s := ca.now()
	for _, name := range []string{"factory", "operational"} {
		for _, a := range s.intermediate[name] {
			if leaf.CheckSignatureFrom(a.Certificate) == nil {
				return []*x509.Certificate{leaf, a.Certificate}, nil
			}
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
