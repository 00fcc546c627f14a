package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// doorway is a listener whose peers come from addresses that a test chooses.
type doorway struct {
	in   chan net.Conn
	once sync.Once
	shut chan struct{}
}

func newDoorway() *doorway { return &doorway{in: make(chan net.Conn), shut: make(chan struct{})} }

func (d *doorway) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

func (d *doorway) Close() error {
	d.once.Do(func() { close(d.shut) })
	return nil
}

func (d *doorway) Addr() net.Addr { return &net.TCPAddr{} }

type addressed struct {
	net.Conn
	from string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.from))
}

// dial is a connection from that address.
func (d *doorway) dial(from string) net.Conn {
	here, there := net.Pipe()
	d.in <- addressed{here, from}
	return there
}

// silent makes n connections that say nothing, and returns how many the listener
// keeps. from gives the address of each.
func silent(d *doorway, n int, from func(i int) string) (kept *atomic.Int64, leave func()) {
	kept = &atomic.Int64{}
	var all []net.Conn
	for i := range n {
		c := d.dial(from(i))
		all = append(all, c)
		kept.Add(1)
		go func() {
			_, _ = io.Copy(io.Discard, c)
			kept.Add(-1)
		}()
	}
	synctest.Wait()
	return kept, func() {
		for _, c := range all {
			c.Close()
		}
		synctest.Wait()
	}
}

func TestAttackOneAddressTakesItsShareOfThePlacesAndNoMore(t *testing.T) {
	server := configurations(t)["for browsers"]
	const share = 3
	for _, tt := range []struct {
		name string
		from func(i int) string
		want int64
	}{
		{"IPv4 address", func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1000+i) }, share},
		{"IPv6 network of 64 bits", func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1000", i+1) }, share},
		{"IPv6 network of 48 bits", func(i int) string { return fmt.Sprintf("[2001:db8:0:%x::1]:1000", i+1) }, 4 * share},
		{"twenty IPv4 addresses", func(i int) string { return fmt.Sprintf("192.0.2.%d:1000", i+1) }, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorway()
				var refused atomic.Int64
				l := pki.Secure(d, server, pki.Limits{Handshake: time.Hour, Conns: 100, PerAddress: share}, func(net.Addr, error) { refused.Add(1) })
				kept, leave := silent(d, 20, tt.from)
				if kept.Load() != tt.want {
					t.Errorf("%d of 20 connections are kept; want %d", kept.Load(), tt.want)
				}
				if told := refused.Load(); tt.want < 20 && told != 1 {
					t.Errorf("the log is told %d times of one crowd", told)
				}
				other, goAway := silent(d, 1, func(int) string { return "198.51.100.7:1000" })
				if other.Load() != 1 {
					t.Error("another address is kept out by the crowd")
				}
				leave()
				again, leaveAgain := silent(d, 1, tt.from)
				if again.Load() != 1 {
					t.Error("no place is free after the crowd has left")
				}
				leaveAgain()
				goAway()
				l.Close()
			})
		})
	}
}

func TestAttackOneCertificateTakesItsShareOfThePlacesAndTheOldestGoes(t *testing.T) {
	a := pkitest.New(t)
	server := a.Server(t, "localhost")
	config := pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, a.CA.Pool(), time.Now, func(string, *x509.Certificate) error { return nil })
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// One place for those who have not said who they are: whoever has does not take it.
	l := pki.Secure(plain, config, pki.Limits{Handshake: time.Minute, Conns: 100, PerAddress: 1, PerCertificate: 2}, func(_ net.Addr, err error) { t.Errorf("refused: %v", err) })
	defer l.Close()
	connect := func(cert tls.Certificate) (peer net.Conn) {
		t.Helper()
		peer, err := tls.Dial("tcp", plain.Addr().String(), pki.ForServer("localhost", func() (*tls.Certificate, error) { return &cert, nil }, a.CA.Pool(), time.Now, nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(served, served) }()
		return peer
	}
	echoes := func(c net.Conn) bool {
		b := []byte{7}
		if _, err := c.Write(b); err != nil {
			return false
		}
		_, err := io.ReadFull(c, b)
		return err == nil
	}
	mine, other := a.Enrolled(t, "GW-0001"), a.Enrolled(t, "GW-0002")
	first, second, neighbour := connect(mine), connect(mine), connect(other)
	third := connect(mine)
	for name, tt := range map[string]struct {
		conn net.Conn
		want bool
	}{"the oldest": {first, false}, "the second": {second, true}, "the newest": {third, true}, "another gateway's": {neighbour, true}} {
		if got := echoes(tt.conn); got != tt.want {
			t.Errorf("%s stands: %v; want %v", name, got, tt.want)
		}
	}
}

func TestAttackAPeerThatTakesNothingIsLeft(t *testing.T) {
	server := configurations(t)["for browsers"]
	for name, reads := range map[string]bool{"takes nothing": false, "takes all": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorway()
				l := pki.Secure(d, server, pki.Limits{Handshake: time.Hour, Conns: 1, Stall: 30 * time.Second}, func(_ net.Addr, err error) { t.Errorf("refused: %v", err) })
				peer := tls.Client(d.dial("192.0.2.1:1000"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the attacker
				go func() {
					_ = peer.Handshake()
					if reads {
						_, _ = io.Copy(io.Discard, peer)
					}
				}()
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				// As the protocol above would: a far deadline of its own.
				_ = c.SetDeadline(time.Now().Add(time.Hour))
				start := time.Now()
				_, err = c.Write(make([]byte, 1<<20))
				if took := time.Since(start); reads != (err == nil) || took > 30*time.Second {
					t.Errorf("writing took %v: %v", took, err)
				}
				peer.NetConn().Close()
				c.Close()
				l.Close()
			})
		})
	}
}
