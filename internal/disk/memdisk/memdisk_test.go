package memdisk_test

import (
	"testing"

	"penstock/internal/disk"
	"penstock/internal/disk/disktest"
	"penstock/internal/disk/memdisk"
)

func TestTheFileSystemInMemoryConforms(t *testing.T) {
	d := memdisk.New()
	disktest.Run(t, d, "/")
	if err := disk.WriteFile(d, "/secret", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := d.Files()["/secret"]; string(f.Content) != "x" || f.Mode != 0o600 {
		t.Errorf("%+v", f)
	}
}
