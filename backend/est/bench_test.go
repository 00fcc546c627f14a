package est_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"penstock/backend/auth"
	"penstock/backend/est"
	"penstock/backend/store"
	client "penstock/certs/est"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// bench is an auth service with its authorities and its registry.
type bench struct {
	t      testing.TB
	ca     *pki.CA
	db     *store.Store
	url    string
	client *client.Client
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.OpenCA(disk.OS, filepath.Join(dir, "ca"), clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, "cloud.db"), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	server, err := ca.Server("auth", []string{"localhost", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := pki.ForGateways(server.Certificate, ca.Pool(), clock.System.Now, func(string, *x509.Certificate) error { return nil })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l := pki.Secure(plain, config, pki.DefaultLimits, func(_ net.Addr, err error) { log.Info("refused", "err", err) })
	h := auth.New(auth.Config{Store: db, Endpoint: "mqtts://localhost:8883", Clock: clock.System, Log: log,
		EST: est.New(est.Config{Authority: ca, Store: db, Clock: clock.System, Log: log})})
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	b := &bench{t: t, ca: ca, db: db, url: "https://" + plain.Addr().String()}
	if b.client, err = client.NewClient(b.url, nil, clock.System); err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// request is a certificate request as DER.
func request(t testing.TB, serial string, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: serial}, DNSNames: []string{pki.GatewayName(serial)}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// factory provisions a gateway and returns its factory identity.
func (b *bench) factory(serial string) (*ecdsa.PrivateKey, []*x509.Certificate) {
	b.t.Helper()
	return b.provision(serial, func(g store.Gateway, c store.Certificate) error { return b.db.AddGateway(context.Background(), g, c) })
}

// provision makes a board with a factory identity, and has it registered by add.
func (b *bench) provision(serial string, add func(store.Gateway, store.Certificate) error) (*ecdsa.PrivateKey, []*x509.Certificate) {
	b.t.Helper()
	key := newKey(b.t)
	leaf, err := b.ca.IssueGateway(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request(b.t, serial, key)}), "lab")
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	err = add(store.Gateway{Serial: serial, Model: "cim550", Board: "lab"}, store.Certificate{
		Number: pki.Number(leaf), Role: string(pki.Factory), Key: sum[:], DER: leaf.Raw, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter})
	if err != nil {
		b.t.Fatal(err)
	}
	return key, b.chain(leaf)
}

func (b *bench) chain(leaf *x509.Certificate) []*x509.Certificate {
	b.t.Helper()
	chain, err := b.ca.ChainOf(leaf)
	if err != nil {
		b.t.Fatal(err)
	}
	return chain
}

// as is the TLS configuration of a gateway that shows that chain.
func (b *bench) as(key *ecdsa.PrivateKey, chain []*x509.Certificate) *tls.Config {
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return pki.ForServer(b.client.Host(), func() (*tls.Certificate, error) { return cert, nil }, b.ca.Pool(), clock.System.Now, nil)
}
