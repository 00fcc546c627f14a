package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Programs are the binaries that a site is made of.
type Programs struct {
	Gateway []string // penstock, perhaps behind an emulator
	Cloud   string   // penstock-cloud
	Lab     string   // penstock-lab, for the virtual pumps
}

// Beside finds the programs in the folder of the running one, where `make
// build` puts them, or builds them (when run by `go run` or a test).
func Beside(ctx context.Context, into string) (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return Programs{}, err
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"penstock", "penstock-cloud", "penstock-lab"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return Build(ctx, into)
		} else if err != nil {
			return Programs{}, err
		}
	}
	return programs(dir), nil
}

func programs(dir string) Programs {
	return Programs{
		Gateway: []string{filepath.Join(dir, "penstock")},
		Cloud:   filepath.Join(dir, "penstock-cloud"),
		Lab:     filepath.Join(dir, "penstock-lab"),
	}
}

// Build compiles the programs of the module that the working directory is in.
func Build(ctx context.Context, into string) (Programs, error) {
	if err := goBuild(ctx, nil, into+string(filepath.Separator), "penstock/cmd/penstock", "penstock/cmd/penstock-cloud", "penstock/cmd/penstock-lab"); err != nil {
		return Programs{}, err
	}
	return programs(into), nil
}

// BuildARM cross-compiles the firmware for ARMv7, stripped as it is released,
// and returns its path.
func BuildARM(ctx context.Context, into string) (string, error) {
	out := filepath.Join(into, "penstock-armv7")
	return out, goBuild(ctx, []string{"GOOS=linux", "GOARCH=arm", "GOARM=7"}, out, "penstock/cmd/penstock")
}

// Emulated is the command that runs an ARM binary on this machine.
func Emulated(armBinary string) ([]string, error) {
	if runtime.GOARCH == "arm" {
		return []string{armBinary}, nil
	}
	q, err := exec.LookPath("qemu-arm-static")
	if err != nil {
		return nil, fmt.Errorf("running ARM programs needs qemu-arm-static (Debian: qemu-user-static): %w", err)
	}
	return []string{q, armBinary}, nil
}

func goBuild(ctx context.Context, env []string, out string, packages ...string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}
