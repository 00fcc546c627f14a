package certs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"penstock/certs"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

// relabel makes a new label, as the bench does; drawn are the labels that somebody
// could have printed, told the hashes of which the authority has heard.
func relabel(t *testing.T, a *pkitest.Authorities, d disk.FS, again bool) (drawn, told []byte, done bool) {
	t.Helper()
	made, err := certs.Provision(d, dir, ks, certs.Order{Factory: facts, Relabel: !again, Random: rand.Reader})
	if again && errors.Is(err, certs.ErrProvisioned) {
		return nil, nil, true
	}
	if err == nil {
		drawn = made.Claim.Hash()
		r, parse := pki.ParseRecord(made.Record)
		if parse != nil {
			t.Fatal(parse)
		}
		told = r.Claim
		err = certs.Install(d, dir, ks, issue(t, a, made.Record), time.Now())
	}
	if err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
		t.Fatal(err)
	}
	return drawn, told, err == nil
}

// TestThePowerMayGoAtEveryWriteOfANewLabel: the gateway is good all along, and the
// run that ends what was interrupted draws the label that was drawn before.
func TestThePowerMayGoAtEveryWriteOfANewLabel(t *testing.T) {
	a := pkitest.New(t)
	fresh := func() *faultdisk.Disk {
		d := faultdisk.New()
		bench(t, a, d, facts, false)
		return d
	}
	d := fresh()
	before := d.Operations()
	relabel(t, a, d, false)
	total := d.Operations() - before
	if total < 10 {
		t.Fatalf("a new label takes %d operations only", total)
	}
	for n := 1; n <= total; n++ {
		for seed := range uint64(6) {
			d := fresh()
			d.CutAt(d.Operations() + n)
			drawn, told, _ := relabel(t, a, d, false)
			if !bytes.Equal(drawn, told) {
				t.Fatal("the label says another code than the record")
			}
			after := d.AfterCut(seed)
			if id, err := certs.Load(after, dir, ks, time.Now); err != nil || id.Serial() != facts.Serial {
				t.Fatalf("cut at %d, seed %d: %v", n, seed, err)
			}
			second, _, done := relabel(t, a, after, true)
			if !done {
				t.Fatalf("cut at %d, seed %d: the second run failed", n, seed)
			}
			// Nothing is left to do, or the label is the same one.
			if drawn != nil && second != nil && !bytes.Equal(drawn, second) {
				t.Fatalf("cut at %d, seed %d: the second run drew another label", n, seed)
			}
			if _, err := certs.Provision(after, dir, ks, certs.Order{Factory: facts, Random: rand.Reader}); !errors.Is(err, certs.ErrProvisioned) {
				t.Fatalf("cut at %d, seed %d, after the second run: %v", n, seed, err)
			}
		}
	}
}
