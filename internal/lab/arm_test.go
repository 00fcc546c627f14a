package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheUplinksPartsPassTheirTestsOn32BitARM runs the tests of the queue, the wire
// format and the journal of commands as ARMv7 programs. What is left out tries each
// write of a life many times over, which on an emulator takes minutes, and no
// integer or alignment comes into it that the others do not meet.
func TestTheUplinksPartsPassTheirTestsOn32BitARM(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("programs are emulated in the long tests only")
	}
	for _, part := range []string{"uplink/queue", "uplink/wire", "uplink/wire/decode", "uplink/command"} {
		t.Run(part, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), filepath.Base(part)+".test")
			argv, err := Emulated(binary)
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "penstock/"+part)
			build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			argv = append(argv, "-test.short", "-test.v", "-test.skip", "^(TestPowerCuts|TestRemovingAnyOneSync)")
			run := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
			run.Dir = filepath.Join("..", "..", filepath.FromSlash(part)) // where its test data is
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if passed := strings.Count(string(out), "--- PASS: Test"); passed == 0 {
				t.Errorf("no test ran:\n%s", out)
			} else {
				t.Logf("%d tests passed as ARMv7 programs", passed)
			}
			if strings.Contains(string(out), "--- SKIP") {
				t.Errorf("tests were skipped:\n%s", out)
			}
		})
	}
}
