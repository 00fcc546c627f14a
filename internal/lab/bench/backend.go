package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"penstock/backend/endpoint"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// testBackend is an endpoint over a store on disk, on loopback, in this process.
type testBackend struct {
	dir     string
	ca      *pki.CA
	db      *store.Store
	address string
	stop    func() error
}

func newBackend(ctx context.Context) (b *testBackend, err error) {
	b = &testBackend{}
	if b.dir, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(b.dir))
		}
	}()
	if b.ca, err = pki.OpenCA(disk.OS, filepath.Join(b.dir, "ca"), clock.System, rand.Reader); err != nil {
		return nil, err
	}
	if b.db, err = store.Open(ctx, filepath.Join(b.dir, "cloud.db"), clock.System, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	server, err := b.ca.Server("endpoint", []string{"127.0.0.1"})
	if err != nil {
		return nil, err
	}
	e, err := endpoint.New(endpoint.Config{Store: b.db, Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		TLS: pki.ForGateways(server.Certificate, b.ca.Pool(), time.Now, func(string, *x509.Certificate) error { return nil })})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.address = l.Addr().String()
	serving, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(serving, l) }()
	b.stop = func() error {
		cancel()
		return errors.Join(<-ended, b.db.Close(), os.RemoveAll(b.dir))
	}
	return b, nil
}

// gateway makes a gateway known and issues its certificate.
func (b *testBackend) gateway(ctx context.Context, serial string) (tls.Certificate, error) {
	return enrolled(ctx, b.ca, b.db, serial)
}

// enrolled makes a gateway known and issues its operational certificate.
func enrolled(ctx context.Context, ca *pki.CA, db *store.Store, serial string) (tls.Certificate, error) {
	cert, err := gatewayCertificate(ca, serial)
	if err != nil {
		return cert, err
	}
	key := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	return cert, db.AddGateway(ctx, store.Gateway{Serial: serial, Model: "cim550", Board: "lab"}, store.Certificate{
		Number: pki.Number(cert.Leaf), Role: string(pki.Operational), Key: key[:], DER: cert.Leaf.Raw, NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter})
}
