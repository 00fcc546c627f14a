package pki_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
	"penstock/internal/disk/faultdisk"
)

// TestNoSupersededKeyOutlivesAPowerCut cuts a rotation at every write: once the
// authorities are open again, no key is there but of the latest generation.
func TestNoSupersededKeyOutlivesAPowerCut(t *testing.T) {
	for _, name := range []string{"factory", "operational", "servers", "root", "signing"} {
		t.Run(name, func(t *testing.T) {
			d := faultdisk.New()
			ca := open(t, d)
			before := d.Operations()
			if err := ca.Rotate(name); err != nil {
				t.Fatal(err)
			}
			total, left := d.Operations(), 0
			for n := before + 1; n <= total; n++ {
				d := faultdisk.New()
				ca := open(t, d)
				d.CutAt(n)
				if err := ca.Rotate(name); err != nil && !errors.Is(err, faultdisk.ErrPowerCut) {
					t.Fatal(err)
				}
				after := d.AfterCut(uint64(n))
				left += len(superseded(t, after))
				for verb, open := range map[string]func() (*pki.CA, error){
					"loaded": func() (*pki.CA, error) { return pki.LoadCA(after, pkitest.Dir, clock.System, rand.Reader) },
					"opened": func() (*pki.CA, error) { return pki.OpenCA(after, pkitest.Dir, clock.System, rand.Reader) },
				} {
					if _, err := open(); err != nil {
						t.Fatalf("cut at %d: %s: %v", n, verb, err)
					}
					if keys := superseded(t, after); len(keys) > 0 {
						t.Errorf("cut at %d: %s, and still there: %v", n, verb, keys)
					}
				}
			}
			if left == 0 {
				t.Error("no cut left a superseded key: the test shows nothing")
			}
		})
	}
}

// superseded lists the keys in the folder of which a further generation counts.
func superseded(t *testing.T, d *faultdisk.Disk) (keys []string) {
	t.Helper()
	there := func(file string) bool {
		_, err := d.Stat(filepath.Join(pkitest.Dir, file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, name := range []string{"factory", "operational", "servers", "tuf-root", "tuf-targets"} {
		for n := 1; ; n++ {
			key, next := name, fmt.Sprintf("%s-%d.pem", name, n+1)
			if n > 1 {
				key = fmt.Sprintf("%s-%d", name, n)
			}
			if strings.HasPrefix(name, "tuf-") {
				next = fmt.Sprintf("%d.root.json", n+1)
			}
			if !there(next) {
				break
			}
			if there(key + ".key") {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
