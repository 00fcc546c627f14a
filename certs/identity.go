// Package certs holds a gateway's identity: the key that never leaves it, the
// certificate that names it, and the roots that it trusts.
//
// The identity folder is written once, at the bench, by `penstock provision`:
//
//	factory.json  serial number, model, board, address of the auth service
//	key.pem       private key, P-256, readable by its owner only
//	cert.pem      certificate and intermediates, leaf first
//	roots.pem     the authorities that servers must come from
//
// Nothing is compiled in: whoever flashes a board decides whose backend it
// trusts. The authorities and the TLS policy are in certs/pki, which both sides
// share.
package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"penstock/certs/pki"
	"penstock/internal/disk"
)

// Factory is factory.json: what a gateway is, decided at the bench.
type Factory struct {
	Serial  string `json:"serial"`
	Model   string `json:"model"`
	Board   string `json:"board"`
	AuthURL string `json:"auth_url"`
}

// Models are the kinds of gateway.
var Models = []string{"cim280", "cim550"}

func (f Factory) check() error {
	if err := pki.CheckSerial(f.Serial); err != nil {
		return fmt.Errorf("serial: %w", err)
	}
	if f.Model != Models[0] && f.Model != Models[1] {
		return fmt.Errorf("model: %q is not allowed; allowed: %s", f.Model, strings.Join(Models, ", "))
	}
	if f.Board == "" {
		return errors.New("board: it is missing")
	}
	u, err := url.Parse(f.AuthURL)
	if err != nil {
		return fmt.Errorf("auth_url: %w", err)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("auth_url: %q is not allowed; allowed: https://HOST or https://HOST:PORT", f.AuthURL)
	}
	return nil
}

// ErrNotProvisioned: there is no identity yet.
var ErrNotProvisioned = errors.New("this gateway has no identity yet; run penstock provision")

// Identity is a gateway's identity, loaded. It is immutable.
type Identity struct {
	factory  Factory
	cert     tls.Certificate
	roots    *x509.CertPool
	now      func() time.Time
	sessions tls.ClientSessionCache
}

// Load reads an identity folder. It refuses a key that others can read, and
// parts that do not belong together. An expired certificate is no error: the
// gateway goes on polling and storing, and says so (Problem).
func Load(fsys disk.FS, dir string, now func() time.Time) (*Identity, error) {
	f, err := loadFactory(fsys, dir)
	if err != nil {
		return nil, err
	}
	text, err := pki.ReadSecret(fsys, filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("the gateway's key: %w", err)
	}
	key, err := pki.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "key.pem"), err)
	}
	chain, err := loadCertificates(fsys, filepath.Join(dir, "cert.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: have the request signed by penstock-cloud ca issue, then run penstock provision -install", filepath.Join(dir, "cert.pem"))
	}
	if err != nil {
		return nil, err
	}
	roots, err := loadCertificates(fsys, filepath.Join(dir, "roots.pem"))
	if err != nil {
		return nil, err
	}
	id := &Identity{factory: f, roots: x509.NewCertPool(), now: now, sessions: tls.NewLRUClientSessionCache(4)}
	for _, r := range roots {
		id.roots.AddCert(r)
	}
	if err := checkChain(f.Serial, &key.PublicKey, chain, id.roots, now()); err != nil && !isExpired(err) {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "cert.pem"), err)
	}
	id.cert = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		id.cert.Certificate = append(id.cert.Certificate, c.Raw)
	}
	return id, nil
}

func loadFactory(fsys disk.FS, dir string) (f Factory, err error) {
	name := filepath.Join(dir, "factory.json")
	text, err := disk.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%s: %w", dir, ErrNotProvisioned)
	}
	if err != nil {
		return f, err
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	if err := f.check(); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func loadCertificates(fsys disk.FS, name string) ([]*x509.Certificate, error) {
	text, err := disk.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs, nil
}

// checkChain tells whether the chain is this gateway's: its key, its serial
// number, issued under the roots for a client.
func checkChain(serial string, public *ecdsa.PublicKey, chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	leaf := chain[0]
	if !public.Equal(leaf.PublicKey) {
		return errors.New("this certificate is for another key than the gateway's")
	}
	named, err := pki.GatewaySerial(leaf)
	if err != nil {
		return err
	}
	if named != serial {
		return fmt.Errorf("this certificate is for %s, and the gateway is %s", named, serial)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

func isExpired(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
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

// NotAfter is when the certificate expires.
func (id *Identity) NotAfter() time.Time { return id.cert.Leaf.NotAfter }

// Problem says what is wrong with the certificate at that time, "" if nothing.
func (id *Identity) Problem(now time.Time) string {
	leaf := id.cert.Leaf
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("valid only from %s; is the clock right?", leaf.NotBefore.Format(time.DateOnly))
	case now.After(leaf.NotAfter):
		return fmt.Sprintf("expired on %s; the gateway goes on polling and storing, but nobody lets it in", leaf.NotAfter.Format(time.DateOnly))
	}
	return ""
}

// ClientTLS is the configuration for a connection to the server of that name.
func (id *Identity) ClientTLS(serverName string) *tls.Config {
	return pki.ForServer(serverName, func() (*tls.Certificate, error) { return &id.cert, nil }, id.roots, id.now, id.sessions)
}
