package certs_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"penstock/certs"
	"penstock/certs/keys"
	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// board is a gateway's board: a disk, and a TPM if p is not nil.
type board struct {
	d disk.FS
	p *tpmtest.TPM
}

func (b board) keys() *keys.Choice {
	return &keys.Choice{FS: b.d, Dir: dir, File: keys.File{Rand: rand.Reader}, TPM: tpm.New(b.p.Open, clock.System)}
}

func (b board) provision(replace bool) (record []byte, err error) {
	made, err := certs.Provision(b.d, dir, b.keys(), certs.Order{Factory: facts, Replace: replace, Random: rand.Reader})
	return made.Record, err
}

// whole provisions the board and installs what the authority says.
func (b board) whole(t *testing.T, a *pkitest.Authorities, replace bool) error {
	t.Helper()
	record, err := b.provision(replace)
	if err != nil {
		return err
	}
	return certs.Install(b.d, dir, b.keys(), issue(t, a, record), time.Now())
}

// comesIn has the identity on the board go through a real handshake with a server
// of its authority, in that version of TLS.
func (b board) comesIn(t *testing.T, a *pkitest.Authorities, version uint16) error {
	t.Helper()
	id, err := certs.Load(b.d, dir, b.keys(), time.Now)
	if err != nil {
		return err
	}
	own := a.Server(t, "localhost")
	roots := x509.NewCertPool()
	roots.AddCert(a.Root.Certificate)
	seen := make(chan string, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(patience))
		c := tls.Server(raw, pki.ForGateways(func() (*tls.Certificate, error) { return &own, nil }, roots, time.Now,
			func(serial string, _ *x509.Certificate) error { seen <- serial; return nil }))
		if c.Handshake() == nil {
			_, _ = c.Write([]byte("welcome"))
		}
	}()
	config := id.ClientTLS("localhost")
	config.MinVersion, config.MaxVersion = version, version
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 7)); err != nil || n == 0 {
		return err
	}
	if s := <-seen; s != facts.Serial {
		return errors.New("the server saw " + s)
	}
	return nil
}

func TestAnIdentityWhoseKeyIsInATPM(t *testing.T) {
	a := pkitest.New(t)
	b := board{faultdisk.New(), tpmtest.New(t)}
	if err := b.whole(t, a, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if err := b.comesIn(t, a, version); err != nil {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
		}
		b.p.Off() // and after a cut of the power
		b.p.On()
	}
	text, err := disk.ReadFile(b.d, dir+"/key.pem")
	if err != nil || !strings.Contains(string(text), keys.TPMText) {
		t.Errorf("key.pem is %q, %v", text, err)
	}
	// The disk alone is worth nothing.
	thief := board{b.d, tpmtest.New(t)}
	if err := thief.comesIn(t, a, tls.VersionTLS13); err == nil || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("the disk in another gateway: %v", err)
	}
	b.p.Off()
	if err := b.comesIn(t, a, tls.VersionTLS13); err == nil || !strings.Contains(err.Error(), "penstock provision -replace") {
		t.Errorf("the TPM is gone: %v", err)
	}
	if id, err := certs.Load(b.d, dir, b.keys(), time.Now); err != nil || id.Serial() != facts.Serial {
		t.Errorf("the identity went with the TPM: %v", err)
	}
}

func TestATPMThatIsLostIsReplacedByAnOrder(t *testing.T) {
	a := pkitest.New(t)
	for _, complete := range []bool{false, true} {
		b := board{faultdisk.New(), tpmtest.New(t)}
		var err error
		if complete {
			err = b.whole(t, a, false)
		} else {
			_, err = b.provision(false)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.p.Off()
		if _, err := b.provision(false); err == nil || !strings.Contains(err.Error(), "-replace") {
			t.Errorf("complete %v: err = %v", complete, err)
		}
		if s := b.keys().Status(); s.Kind != keys.InTPM {
			t.Errorf("complete %v: without an order the keys are now %+v", complete, s)
		}
		if err := b.whole(t, a, true); err != nil {
			t.Fatal(err)
		}
		b.p.On() // too late
		if s := b.keys().Status(); s.Kind != keys.InFile || s.Because == "" {
			t.Errorf("complete %v: the keys are %+v", complete, s)
		}
		if err := b.comesIn(t, a, tls.VersionTLS13); err != nil {
			t.Errorf("complete %v: %v", complete, err)
		}
	}
}

// TestThePowerMayGoAtEveryWriteOfProvisioningWithATPM cuts it at each. The second
// run ends well, and the keys are where they were first chosen to be.
func TestThePowerMayGoAtEveryWriteOfProvisioningWithATPM(t *testing.T) {
	a := pkitest.New(t)
	p := tpmtest.New(t)
	d := faultdisk.New()
	if err := (board{d, p}).whole(t, a, false); err != nil {
		t.Fatal(err)
	}
	total := d.Operations()
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for n := 1; n <= total; n++ {
		for seed := range seeds {
			d := faultdisk.New()
			d.CutAt(n)
			err := board{d, p}.whole(t, a, false)
			if err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
				t.Fatal(err)
			}
			after := board{d.AfterCut(seed), p}
			if _, loadErr := certs.Load(after.d, dir, after.keys(), time.Now); err == nil && loadErr != nil {
				t.Fatalf("cut at %d, seed %d: it was promised, and is gone: %v", n, seed, loadErr)
			}
			if err := after.whole(t, a, false); err != nil && !errors.Is(err, certs.ErrProvisioned) {
				t.Fatalf("cut at %d, seed %d: the second run: %v", n, seed, err)
			}
			if err := after.comesIn(t, a, tls.VersionTLS13); err != nil {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			if s := after.keys().Status(); s.Kind != keys.InTPM || s.Problem != "" {
				t.Fatalf("cut at %d, seed %d: the keys are %+v", n, seed, s)
			}
		}
	}
}
