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
	if err := disk.MkdirAll(d, "begins/at/the/root", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(d, "begins/at/the/root/name", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Stat("/begins/at/the/root/name"); err != nil || st.IsDir() {
		t.Error(err)
	}
	if f := d.Files()["/secret"]; string(f.Content) != "x" || f.Mode != 0o600 {
		t.Errorf("%+v", f)
	}
}
