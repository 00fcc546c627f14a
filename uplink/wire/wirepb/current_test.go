package wirepb

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestGeneratedCodeIsCurrent holds the committed code against the .proto file.
// Which protoc ran is of no interest.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("protoc is not installed (Debian: protobuf-compiler)")
	}
	dir := t.TempDir()
	cmd := exec.Command("protoc", "-I..", "--plugin=protoc-gen-go=./protoc-gen-go.sh", "--go_out="+dir, "--go_opt=paths=source_relative", "penstock.proto")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fresh, err := os.ReadFile(filepath.Join(dir, "penstock.pb.go"))
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile("penstock.pb.go")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^// \tprotoc.*$`)
	if !bytes.Equal(version.ReplaceAll(fresh, nil), version.ReplaceAll(committed, nil)) {
		t.Error("penstock.pb.go is not what penstock.proto gives; run go generate ./uplink/wire/...")
	}
}
