// Package netns makes network namespaces and cables between them, so that what
// two programs say to each other can be counted, delayed and cut as on a real
// network, on a machine with one network card or none.
//
// A namespace lives as long as something refers to it: here a file descriptor,
// and the sockets that were opened in it. Nothing is left behind in /run/netns.
// In a namespace is a thread, not a process: Do runs a function on a thread of
// its own that is in the namespace and ends with it. Sockets stay in the
// namespace that they were opened in, whoever uses them, so that one program can
// hold both ends of a cable.
//
// It needs root, or a user namespace: `unshare -Ur` gives one.
package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotAllowed: this process may not make namespaces.
var ErrNotAllowed = errors.New("network namespaces need root (or unshare -Ur)")

// Namespace is a network namespace. Its methods may be called from any goroutine.
type Namespace struct{ file *os.File }

// New makes a namespace with nothing but a loopback interface that is up.
func New() (*Namespace, error) {
	n := &Namespace{}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		made <- n.create()
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	if err := n.Do(func() error { return ip("link", "set", "lo", "up") }); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Namespace) create() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		return fmt.Errorf("making a network namespace: %w", err)
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	n.file = f
	return err
}

// Close lets go of the namespace. It goes with its last socket.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f in the namespace and returns its error. Programs that f starts are in
// it, too; goroutines are not.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Dial opens a connection from inside the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		d := net.Dialer{KeepAlive: -1, FallbackDelay: -1} // one address, no second goroutine
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a listener inside the namespace.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Traffic is what went through an interface.
type Traffic struct {
	Packets, Bytes uint64 // both ways; Bytes without the Ethernet header
}

// Sub is the traffic since earlier.
func (t Traffic) Sub(earlier Traffic) Traffic {
	return Traffic{t.Packets - earlier.Packets, t.Bytes - earlier.Bytes}
}

const ethernetHeader = 14

// Traffic reads the counters of an interface.
func (n *Namespace) Traffic(name string) (t Traffic, err error) {
	err = n.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			rest, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), name+":")
			if !ok {
				continue
			}
			var rx, tx Traffic
			var skip uint64
			if _, err := fmt.Sscan(rest, &rx.Bytes, &rx.Packets, &skip, &skip, &skip, &skip, &skip, &skip, &tx.Bytes, &tx.Packets); err != nil {
				return fmt.Errorf("the counters of %s are %q: %w", name, rest, err)
			}
			t.Packets = rx.Packets + tx.Packets
			t.Bytes = rx.Bytes + tx.Bytes - ethernetHeader*t.Packets
			return nil
		}
		return fmt.Errorf("there is no interface %s", name)
	})
	return t, err
}

// Cable joins two namespaces by a pair of veth interfaces. Each end is an
// interface name and an IPv4 address with its prefix length. Neighbours are known
// beforehand and IPv6 is off, so that nothing travels on it but what programs
// send, and no segment is larger than on a real link (1500 bytes), whatever the
// kernel would like to send in one piece.
func Cable(a *Namespace, aName, aAddress string, b *Namespace, bName, bAddress string) error {
	err := a.Do(func() error {
		return ip("link", "add", aName, "type", "veth", "peer", "name", bName, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.file.Fd()))
	})
	if err != nil {
		return err
	}
	hardware := map[*Namespace]string{}
	for _, end := range []struct {
		n             *Namespace
		name, address string
	}{{a, aName, aAddress}, {b, bName, bAddress}} {
		err := end.n.Do(func() error {
			// Where IPv6 is compiled out there is nothing to switch off.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err := ip("address", "add", end.address, "dev", end.name); err != nil {
				return err
			}
			if err := ip("link", "set", end.name, "gso_max_segs", "1", "up"); err != nil {
				return err
			}
			i, err := net.InterfaceByName(end.name)
			if err == nil {
				hardware[end.n] = i.HardwareAddr.String()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	know := func(n *Namespace, name, address, hardware string) error {
		host, _, _ := strings.Cut(address, "/")
		return n.Do(func() error {
			return ip("neighbour", "replace", host, "lladdr", hardware, "dev", name, "nud", "permanent")
		})
	}
	return errors.Join(know(a, aName, bAddress, hardware[b]), know(b, bName, aAddress, hardware[a]))
}

// ip runs iproute2 on the calling thread, and so in its namespace.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
