package lab

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestAPlantedListenerIsCaught(t *testing.T) {
	none := func() []string {
		t.Helper()
		got, err := ListeningSockets(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := none(); len(got) != 0 {
		t.Fatalf("this test listens already: %v", got)
	}
	for _, tc := range []struct{ network, address, want string }{
		{"tcp4", "127.0.0.1:0", "tcp "},
		{"tcp6", "[::1]:0", "tcp6 "},
		{"udp4", "127.0.0.1:0", "udp "},
		{"udp6", "[::1]:0", "udp6 "},
	} {
		var c interface{ Close() error }
		var err error
		if strings.HasPrefix(tc.network, "tcp") {
			c, err = net.Listen(tc.network, tc.address)
		} else {
			c, err = net.ListenPacket(tc.network, tc.address)
		}
		if err != nil {
			if strings.HasSuffix(tc.network, "6") {
				t.Logf("no IPv6 loopback here: %v", err)
				continue
			}
			t.Fatal(err)
		}
		if got := none(); len(got) != 1 || !strings.HasPrefix(got[0], tc.want) {
			t.Errorf("%s listener: found %v", tc.network, got)
		}
		c.Close()
	}

	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := net.Dial("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if got := none(); len(got) != 1 {
		t.Errorf("with one listener and two outgoing connections: found %v", got)
	}
}
