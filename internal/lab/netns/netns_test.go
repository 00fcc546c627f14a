package netns

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

func pair(t *testing.T) (a, b *Namespace) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("%v (Debian: iproute2)", err)
	}
	var ns [2]*Namespace
	for i := range ns {
		n, err := New()
		if errors.Is(err, ErrNotAllowed) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		ns[i] = n
	}
	if err := Cable(ns[0], "left", "10.9.0.1/30", ns[1], "right", "10.9.0.2/30"); err != nil {
		t.Fatal(err)
	}
	return ns[0], ns[1]
}

func TestACableCarriesWhatProgramsSendAndNothingElse(t *testing.T) {
	a, b := pair(t)
	before, err := a.Traffic("left")
	if err != nil {
		t.Fatal(err)
	}
	if before.Packets != 0 {
		t.Errorf("%d packets before anybody said a word", before.Packets)
	}
	l, err := b.Listen("tcp4", "10.9.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 100_000
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Write(make([]byte, size))
			err = errors.Join(err, c.Close())
		}
		sent <- err
	}()
	c, err := a.Dial(t.Context(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, make([]byte, size)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	after, err := a.Traffic("left")
	if err != nil {
		t.Fatal(err)
	}
	// 1448 bytes a segment: a kernel that sent larger ones would hide headers.
	if d := after.Sub(before); d.Packets < size/1448 || d.Bytes < size+size/1448*52 {
		t.Errorf("%d bytes took %d packets and %d bytes", size, d.Packets, d.Bytes)
	}
}

func TestNamespacesDoNotSeeEachOthersInterfaces(t *testing.T) {
	a, b := pair(t)
	if _, err := a.Traffic("right"); err == nil {
		t.Error("the far end is in here, too")
	}
	if _, err := b.Traffic("right"); err != nil {
		t.Error(err)
	}
}
