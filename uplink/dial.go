package uplink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// dialTCP opens a TCP connection that the kernel gives up when bytes stay
// unacknowledged for userTimeout: without it a black hole is retransmitted into
// for a quarter of an hour. TCP's own keepalive is off, since MQTT pings, and
// each probe would be paid for.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
			}); e != nil {
				return e
			}
			if err != nil {
				return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
			}
			return nil
		},
	}
	return d.DialContext(ctx, network, address)
}

// dialTLS opens a mutually authenticated connection to address.
func (s *Session) dialTLS(ctx context.Context, address string) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := s.cfg.Dial(ctx, "tcp", address)
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
