package link

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// UserTimeout is how long the kernel waits for bytes to be acknowledged before it
// gives a connection up. Without it a black hole is retransmitted into for a
// quarter of an hour. It counts with the retransmissions, which are seconds apart
// by then, so that what is noticed is noticed within 30 s.
const UserTimeout = 20 * time.Second

// Dial opens a TCP connection the machine's usual way.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := dialer("")
	return d.DialContext(ctx, network, address)
}

// dialer makes sockets that are bound to a device, if one is named. TCP's own
// keepalive is off: MQTT pings, and each probe would be paid for.
func dialer(device string) *net.Dialer {
	return &net.Dialer{
		KeepAlive: -1,
		Control: func(network, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = prepare(int(fd), network, device) }); e != nil {
				return e
			}
			return err
		},
	}
}

func prepare(fd int, network, device string) error {
	if device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			return fmt.Errorf("binding a socket to %s: %w", device, err)
		}
	}
	if network == "tcp4" || network == "tcp6" {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(UserTimeout.Milliseconds())); err != nil {
			return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
		}
	}
	return nil
}
