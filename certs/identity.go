// Package certs holds a gateway's identity: the key that never leaves it, the
// certificate that names it, and the roots that it trusts.
//
// The identity folder is written once, at the bench, by `penstock provision`:
//
//	factory.json  serial number, model, board, address of the auth service
//	keys.json     where the keys are, TPM or file, and why (see certs/keys)
//	key.pem       private key, P-256, or what the TPM needs to have it back; for its owner only
//	cert.pem      certificate and intermediates, leaf first
//	roots.pem     the authorities that servers must come from, until others follow (certs/trust)
//	tuf-root.json the keys that may sign those others, where the authority has such
//
// It is the factory identity. What the gateway gets with it, and renews by itself,
// is kept in the same folder by certs/operational.
//
// Nothing is compiled in: whoever flashes a board decides whose backend it
// trusts. The identity is complete once cert.pem is there, which is written last.
// A certificate that has expired, or a clock that says so, is told and never
// fatal: the gateway goes on polling its pumps and storing what they say.
//
// The authorities and the TLS policy are in certs/pki, which both sides share.
package certs

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"penstock/certs/keys"
	"penstock/certs/pki"
	"penstock/certs/trust"
	"penstock/internal/disk"
)

// The files of an identity.
const (
	factoryFile = "factory.json"
	keyFile     = "key.pem"
	certFile    = "cert.pem"
	rootsFile   = "roots.pem"
	tufRootFile = "tuf-root.json"
)

// The files of the operational identity in the same folder; certs/operational says
// what they are.
const (
	OperationalFile = "operational.pem"
	NextFile        = "next.pem"
	NextKeyFile     = "next.key"
)

// ErrNotProvisioned: there is no identity, or only a part of one.
var ErrNotProvisioned = errors.New("this gateway has no identity yet; run penstock provision")

// Identity is a gateway's identity, loaded. It is immutable, but for the roots.
type Identity struct {
	factory  Factory
	cert     tls.Certificate
	chain    []*x509.Certificate // leaf first, root last
	trust    *trust.Roots
	now      func() time.Time
	sessions tls.ClientSessionCache
}

// Load reads an identity folder. It refuses a key that others can read, and
// parts that do not belong together. A certificate that is out of date by the
// clock is no error (see Problem). The error is ErrNotProvisioned when a part is
// not there.
func Load(fsys disk.FS, dir string, ks keys.Store, now func() time.Time) (*Identity, error) {
	f, err := loadFactory(fsys, dir)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(fsys, dir, ks)
	if err != nil {
		return nil, err
	}
	shown, err := loadCertificates(fsys, dir, certFile, "have the request signed by penstock-cloud ca issue, then run penstock provision -install")
	if err != nil {
		return nil, err
	}
	roots, err := loadCertificates(fsys, dir, rootsFile, "copy it from the backend's ca folder (root.pem), or run penstock provision -install again")
	if err != nil {
		return nil, err
	}
	id := &Identity{factory: f, trust: trust.Open(fsys, dir, roots), now: now, sessions: tls.NewLRUClientSessionCache(4)}
	if id.chain, err = checkChain(f, key.Public(), shown, pool(roots)); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, certFile), err)
	}
	id.cert = tls.Certificate{PrivateKey: key, Leaf: shown[0]}
	for _, c := range shown {
		id.cert.Certificate = append(id.cert.Certificate, c.Raw)
	}
	return id, nil
}

func loadKey(fsys disk.FS, dir string, ks keys.Store) (crypto.Signer, error) {
	name := filepath.Join(dir, keyFile)
	text, err := pki.ReadSecret(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the gateway's key %s is not there: %w", name, ErrNotProvisioned)
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway's key: %w", err)
	}
	key, err := ks.Open(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; run penstock provision -replace and have the new request signed", name, err)
	}
	return key, nil
}

// partError says which part of an identity is not there, and what to do.
type partError struct{ name, advice string }

func (e *partError) Error() string        { return e.name + " is not there: " + e.advice }
func (e *partError) Is(target error) bool { return target == ErrNotProvisioned }

func loadCertificates(fsys disk.FS, dir, file, advice string) ([]*x509.Certificate, error) {
	name := filepath.Join(dir, file)
	text, err := disk.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &partError{name, advice}
	}
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs, nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// checkChain tells whether the chain that the gateway shows is its own: its key,
// its serial number, its board, issued under the roots for a client. Whether it
// is in date is another question, which a gateway with a dead clock cannot
// answer: the chain is judged as of the day its certificate was issued.
func checkChain(f Factory, public crypto.PublicKey, shown []*x509.Certificate, roots *x509.CertPool) ([]*x509.Certificate, error) {
	leaf := shown[0]
	if !leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
		return nil, fmt.Errorf("this certificate (%q) is for another key than %s", leaf.Subject.CommonName, keyFile)
	}
	g, err := pki.ReadGateway(leaf)
	if err != nil {
		return nil, err
	}
	if g.Serial != f.Serial {
		return nil, fmt.Errorf("this certificate is for %s, and %s says that this gateway is %s", g.Serial, factoryFile, f.Serial)
	}
	if g.Board != "" && g.Board != f.Board {
		return nil, fmt.Errorf("this certificate is for a board %q, and %s says that this is a %q", g.Board, factoryFile, f.Board)
	}
	chain, err := pki.Verify(shown, roots, leaf.NotBefore, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", rootsFile, pki.Explain(&pki.PeerError{Leaf: leaf, Err: err}))
	}
	return chain, nil
}

// Serial is the gateway's serial number.
func (id *Identity) Serial() string { return id.factory.Serial }

// Model is the kind of gateway.
func (id *Identity) Model() string { return id.factory.Model }

// Board is the hardware that the identity was made for.
func (id *Identity) Board() string { return id.factory.Board }

// AuthURL is the address of the auth service.
func (id *Identity) AuthURL() string { return strings.TrimSuffix(id.factory.AuthURL, "/") }

// Issuer names the authority of the certificate.
func (id *Identity) Issuer() string { return id.cert.Leaf.Issuer.CommonName }

// NotAfter is when the certificate expires, or its authority, whichever is first.
func (id *Identity) NotAfter() time.Time { _, after := id.validity(); return after }

// validity is when every certificate of the chain is valid.
func (id *Identity) validity() (from, to time.Time) {
	from, to = id.chain[0].NotBefore, id.chain[0].NotAfter
	for _, c := range id.chain[1:] {
		if c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(to) {
			to = c.NotAfter
		}
	}
	return from, to
}

// Problem says what is wrong with the certificate at that time, "" if nothing.
func (id *Identity) Problem(now time.Time) string {
	from, to := id.validity()
	switch {
	case now.Before(from):
		return fmt.Sprintf("valid only from %s; is the clock right?", from.Format(time.DateOnly))
	case now.After(to):
		return fmt.Sprintf("expired on %s; the gateway goes on polling and storing, but nobody lets it in", to.Format(time.DateOnly))
	}
	return ""
}

// Roots are the authorities that servers must come from today: ask for each use.
func (id *Identity) Roots() *x509.CertPool { return id.trust.Pool() }

// Trust is where those roots are replaced.
func (id *Identity) Trust() *trust.Roots { return id.trust }

// Certificate is what the gateway shows of itself.
func (id *Identity) Certificate() (*tls.Certificate, error) { return &id.cert, nil }

// ClientTLS is the configuration for a connection to the server of that name or
// address.
func (id *Identity) ClientTLS(serverName string) *tls.Config {
	return pki.ForServer(serverName, id.Certificate, id.trust.Pool(), id.now, id.sessions)
}
