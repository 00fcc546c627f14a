package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"penstock/uplink/link"
)

// dialTLS opens a mutually authenticated connection to address over a link. Where
// somebody else answers, its name server may have lied, and the address is looked
// up once more: a link that has several asks them in turn.
func (s *Session) dialTLS(ctx context.Context, path link.Path, address string) (*tls.Conn, error) {
	conn, err := s.dialOnce(ctx, path, address)
	var stranger *tls.CertificateVerificationError
	if errors.As(err, &stranger) {
		return s.dialOnce(ctx, path, address)
	}
	return conn, err
}

func (s *Session) dialOnce(ctx context.Context, path link.Path, address string) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := path.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, s.cfg.TLS(host))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error says more
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return conn, nil
}

// usualWay is the only link of a gateway that was given none: whatever the
// machine routes.
type usualWay struct{}

func (usualWay) Next() link.Path { return usualWay{} }
func (usualWay) Name() string    { return "" }
func (usualWay) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return link.Dial(ctx, network, address)
}
func (usualWay) Traits() link.Traits   { return link.Traits{} }
func (usualWay) Answered()             {}
func (usualWay) Failed(error)          {}
func (usualWay) Left() <-chan struct{} { return nil }
func (usualWay) History() bool         { return true }
