package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// open opens the authorities as another process does.
func open(t *testing.T, fsys disk.FS) *pki.CA {
	t.Helper()
	ca, err := pki.OpenCA(fsys, pkitest.Dir, clock.System, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// meet makes a connection of a gateway with a server, and tells what either says.
func meet(t *testing.T, server *tls.Config, client *tls.Config) error {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	ended := make(chan error, 1)
	go func() {
		c, err := plain.Accept()
		if err == nil {
			defer c.Close()
			err = tls.Server(c, server).HandshakeContext(t.Context())
		}
		ended <- err
	}()
	c, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return errors.Join(tls.Client(c, client).HandshakeContext(t.Context()), <-ended)
}

func rootsOf(t *testing.T, text []byte) *x509.CertPool {
	t.Helper()
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// TestRotationsOverlap rotates everything twice, by another process, while a server
// runs, and lets gateways of every age meet it: those that know the root of their
// own day alone, with the certificates of their own day.
func TestRotationsOverlap(t *testing.T) {
	a := pkitest.New(t)
	running := a.CA
	server, err := running.Server("auth", []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	config := pki.ForGatewaysUnder(server.Certificate, running.Pool, time.Now, func(string, *x509.Certificate) error { return nil })
	type gateway struct {
		when  string
		cert  tls.Certificate
		roots *x509.CertPool
	}
	var fleet []gateway
	deliver := func(when string) {
		t.Helper()
		// Issued by a process of its own, as penstock-cloud ca issue does.
		ca := open(t, a.FS)
		key := pkitest.Key(t)
		text, request := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, key)
		factory, err := ca.IssueGateway(text, "lab")
		if err != nil {
			t.Fatal(err)
		}
		operational, err := ca.IssueOperational(request)
		if err != nil {
			t.Fatal(err)
		}
		for role, leaf := range map[string]*x509.Certificate{" (factory)": factory, " (operational)": operational} {
			chain, err := ca.ChainOf(leaf)
			if err != nil {
				t.Fatal(err)
			}
			fleet = append(fleet, gateway{when + role, pkitest.Join(key, chain...), rootsOf(t, ca.Roots())})
		}
	}
	everybodyMeets := func(after string) {
		t.Helper()
		for _, g := range fleet {
			client := pki.ForServer("localhost", func() (*tls.Certificate, error) { return &g.cert, nil }, g.roots, time.Now, nil)
			if err := meet(t, config, client); err != nil {
				t.Errorf("after %s, a gateway of %s: %s", after, g.when, pki.Explain(err))
			}
		}
	}
	deliver("the beginning")
	everybodyMeets("the beginning")
	for _, name := range []string{"factory", "operational", "servers", "root", "factory", "root", "servers"} {
		if err := open(t, a.FS).Rotate(name); err != nil {
			t.Fatal(err)
		}
		everybodyMeets("the rotation of " + name)
		deliver("after the rotation of " + name)
		everybodyMeets("a delivery under the new " + name)
	}
	// The control: a stranger is refused by either side.
	stranger := pkitest.New(t)
	cert := stranger.Enrolled(t, "GW-0001")
	if err := meet(t, config, pki.ForServer("localhost", func() (*tls.Certificate, error) { return &cert, nil }, stranger.CA.Pool(), time.Now, nil)); err == nil {
		t.Error("a stranger met the server")
	}
	if n := len(running.Authorities()); n < 13 {
		t.Errorf("%d authorities are listed", n)
	}
}

func TestARotatedIntermediateSignsNothingMore(t *testing.T) {
	a := pkitest.New(t)
	for _, name := range []string{"factory", "operational", "servers"} {
		if err := a.CA.Rotate(name); err != nil {
			t.Fatal(err)
		}
		if _, err := a.FS.Stat(pkitest.Dir + "/" + name + ".key"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the key of the rotated %s is still there: %v", name, err)
		}
		if st, err := a.FS.Stat(pkitest.Dir + "/" + name + "-2.key"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the new key of %s: %v, %v", name, st, err)
		}
	}
}

func TestRotationNeedsTheRootsKeyAndAName(t *testing.T) {
	a := pkitest.New(t)
	if err := a.CA.Rotate("firmware"); err == nil || !strings.Contains(err.Error(), "there are root, factory, servers, operational") {
		t.Errorf("of what is none: %v", err)
	}
	if err := a.FS.Remove(pkitest.Dir + "/root.key"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, a.FS).Rotate("factory"); err == nil || !strings.Contains(err.Error(), "bring it for as long as the rotation takes") {
		t.Errorf("without the root's key: %v", err)
	}
}

// TestThePowerMayGoAtEveryWriteOfARotation: the authorities open after each cut,
// what was issued before is still believed, and the rotation can be done again.
func TestThePowerMayGoAtEveryWriteOfARotation(t *testing.T) {
	for _, name := range []string{"operational", "root"} {
		t.Run(name, func(t *testing.T) {
			fresh := func() (*faultdisk.Disk, *pki.CA) {
				d := faultdisk.New()
				return d, open(t, d)
			}
			d, ca := fresh()
			before := d.Operations()
			if err := ca.Rotate(name); err != nil {
				t.Fatal(err)
			}
			total := d.Operations()
			for n := before + 1; n <= total; n++ {
				for seed := range uint64(3) {
					d, ca := fresh()
					text, _ := pkitest.Request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-0001"}}, pkitest.Key(t))
					old, err := ca.IssueGateway(text, "lab")
					if err != nil {
						t.Fatal(err)
					}
					oldRoots := ca.Roots()
					d.CutAt(n)
					if err := ca.Rotate(name); err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
						t.Fatal(err)
					}
					after := d.AfterCut(seed)
					ca, err = pki.OpenCA(after, pkitest.Dir, clock.System, rand.Reader)
					if err != nil {
						t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
					}
					chain, err := ca.ChainOf(old)
					if err == nil {
						_, err = pki.Verify(chain, ca.Pool(), time.Now(), x509.ExtKeyUsageClientAuth)
					}
					if err != nil {
						t.Fatalf("cut at %d, seed %d: the old gateway: %v", n, seed, err)
					}
					server, err := ca.Server("auth", []string{"localhost"})
					if err != nil {
						t.Fatal(err)
					}
					shown, err := server.Certificate()
					if err != nil {
						t.Fatal(err)
					}
					var certs []*x509.Certificate
					for _, der := range shown.Certificate {
						c, err := x509.ParseCertificate(der)
						if err != nil {
							t.Fatal(err)
						}
						certs = append(certs, c)
					}
					for _, roots := range [][]byte{oldRoots, ca.Roots()} {
						if _, err := pki.Verify(certs, rootsOf(t, roots), time.Now(), x509.ExtKeyUsageServerAuth); err != nil {
							t.Fatalf("cut at %d, seed %d: the server, by a gateway: %v", n, seed, err)
						}
					}
					if err := ca.Rotate(name); err != nil {
						t.Fatalf("cut at %d, seed %d: rotating again: %v", n, seed, err)
					}
					if name == "root" && bytes.Equal(ca.Roots(), oldRoots) {
						t.Fatalf("cut at %d, seed %d: the root is the old one", n, seed)
					}
				}
			}
		})
	}
}
