package operational

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"penstock/certs/est"
	"penstock/certs/pki"
)

// ask gets a certificate and keeps it as the next pair.
func (o *Identity) ask(ctx context.Context, do step) (*pair, error) {
	o.mu.Lock()
	current, next, with := o.current, o.next, o.chosen()
	o.mu.Unlock()
	server := o.cfg.Server
	config := func() *tls.Config { return o.cfg.Factory.ClientTLS(server.Host()) }
	if do == renew {
		config = func() *tls.Config { return o.clientTLS(with, server.Host()) }
	}
	wishes, err := server.Attributes(ctx, config())
	if err == nil {
		err = wishes.Check()
	}
	if err != nil {
		return nil, err
	}
	if do == renew && with == next {
		// A service has let it in, and it must not be lost for the one that comes.
		o.mu.Lock()
		next.proven = true
		o.mu.Unlock()
		if o.settle(); o.isNext(next) {
			return nil, errors.New("the certificate of before could not be kept")
		}
		current, next = with, nil
	}
	authorities, err := server.CACerts(ctx, config())
	if err != nil {
		return nil, err
	}
	issued, key, err := o.request(ctx, do, config, current, next)
	if err != nil {
		return nil, err
	}
	p, err := complete(issued, authorities, o.cfg.Factory.Roots(), key, o.cfg.Factory.Serial())
	if err != nil {
		return nil, err
	}
	if err := o.folder.keepNext(p); err != nil {
		return nil, err
	}
	o.key = nil
	return p, nil
}

func (o *Identity) isNext(p *pair) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next == p
}

// request asks for a certificate for one key after the other until none is refused.
//
// The factory identity begins with the key that the gateway has: so neither a wrong
// clock nor an answer that was lost looks like a second board. Renewal takes a new
// one, or that which an earlier attempt began with. A key that was revoked is never
// certified again; a new one may be.
func (o *Identity) request(ctx context.Context, do step, config func() *tls.Config, current, next *pair) ([]*x509.Certificate, *keyed, error) {
	to := o.cfg.Server.Enroll
	if do == renew {
		to = o.cfg.Server.Reenroll
	}
	var candidates []*keyed
	switch {
	case next != nil: // it was refused by the services, or nothing would be asked
		candidates = append(candidates, &keyed{Signer: next.key, text: next.text})
	case do == enrol && current != nil:
		candidates = append(candidates, &keyed{Signer: current.key, text: current.text})
	}
	switch {
	case o.key == nil:
	case next == nil && current != nil && o.expired(current):
		// It may have been certified, and then it is the one that is still good there.
		candidates = append([]*keyed{o.key}, candidates...)
	default:
		candidates = append(candidates, o.key)
	}
	for _, key := range candidates {
		issued, err := o.send(ctx, to, config(), key)
		if !keyRefused(err) || key.made {
			return issued, key, err
		}
		o.cfg.Log.Warn("a key is refused; trying another", "err", err)
	}
	key, err := o.folder.makeKey()
	if err != nil {
		return nil, nil, err
	}
	o.key = key
	issued, err := o.send(ctx, to, config(), key)
	return issued, key, err
}

type requester func(ctx context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error)

func (o *Identity) send(ctx context.Context, to requester, config *tls.Config, key *keyed) ([]*x509.Certificate, error) {
	serial := o.cfg.Factory.Serial()
	request, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: serial},
		DNSNames: []string{pki.GatewayName(serial)},
	}, key.Signer)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return to(ctx, config, request)
}

// complete joins what was issued with the authorities in between, as far as they
// lead to a root of the gateway's own. It adds no root.
func complete(issued, authorities []*x509.Certificate, roots *x509.CertPool, key *keyed, serial string) (*pair, error) {
	leaf := issued[0]
	if err := belongs(leaf, key.Public(), serial); err != nil {
		return nil, fmt.Errorf("what was issued: %w", err)
	}
	shown := []*x509.Certificate{leaf}
	for _, c := range append(issued[1:], authorities...) {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			shown = append(shown, c)
		}
	}
	// The clock here may be wrong; whether it is in date the services say.
	chain, err := pki.Verify(shown, roots, leaf.NotBefore, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, fmt.Errorf("what was issued: %s", pki.Explain(&pki.PeerError{Leaf: leaf, Err: err}))
	}
	return newPair(key.Signer, key.text, chain[:len(chain)-1]), nil
}

// refused tells whether the authority has turned the gateway away as who it is.
func refused(err error) bool {
	var remote *net.OpError
	var e *est.Error
	if errors.As(err, &e) {
		return e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests
	}
	return errors.As(err, &remote) && remote.Op == "remote error"
}

// keyRefused tells whether the authority may have refused a request for its key: it
// has read it, and says that it is not allowed (403) or no good (400). A path that is
// not there or a service that wants something else says nothing about a key.
func keyRefused(err error) bool {
	var e *est.Error
	return errors.As(err, &e) && (e.Status == http.StatusForbidden || e.Status == http.StatusBadRequest)
}

func retryAfter(err error) time.Duration {
	var e *est.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
