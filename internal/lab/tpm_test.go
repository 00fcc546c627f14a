package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/certs/keys"
	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/internal/status"
)

// withTPM has a program see a device at the place of the machine's TPM, and nothing
// else change: it runs with a /dev of its own.
func withTPM(t *testing.T, device string, program []string) []string {
	t.Helper()
	const script = `
dev=$1 device=$2; shift 2
mount -t tmpfs dev "$dev"
for f in null zero random urandom; do touch "$dev/$f"; mount --bind "/dev/$f" "$dev/$f"; done
mkdir "$dev/pts"; mount --rbind /dev/pts "$dev/pts"
touch "$dev/tpmrm0"; mount --bind "$device" "$dev/tpmrm0"
mount --rbind "$dev" /dev
exec "$@"`
	argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", t.TempDir(), device}
	if out, err := exec.Command(argv[0], append(argv[1:], "test", "-c", tpm.DefaultDevice)...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("a /dev of one's own needs root: %v\n%s", err, out)
		}
		t.Skipf("a /dev of one's own needs root: %v\n%s", err, out)
	}
	return append(argv, program...)
}

// TestAGatewayWithItsKeysInATPM lives through a TPM that breaks: pumps are polled and
// readings stored as ever, nobody lets the gateway in, and it says why; when the TPM
// is mended everything arrives.
func TestAGatewayWithItsKeysInATPM(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	chip := tpmtest.New(t)
	device := chip.Device(t)
	site := up(t, func(s *Site) {
		s.Keys = "tpm"
		s.Programs.Gateway = withTPM(t, device.Name, s.Programs.Gateway)
	})
	run(t, site, 2*time.Second)
	for _, file := range []string{"key.pem", "operational.pem"} {
		text, err := os.ReadFile(filepath.Join(site.path("gateway"), "identity", file))
		if err != nil || !strings.HasPrefix(string(text), "-----BEGIN "+keys.TPMText) {
			t.Errorf("%s is %.40q, %v", file, text, err)
		}
	}
	if s := look(t, site); s.Keys != (status.Keys{Store: "tpm", Because: s.Keys.Because}) || s.Keys.Because == "" {
		t.Errorf("the status says %+v", s.Keys)
	}

	device.Break(true)
	site.CloudProc.Kill()
	if err := site.StartCloud(t.Context(), anywhere); err != nil {
		t.Fatal(err)
	}
	until(t, site, "the gateway to say that its TPM is broken", func(s status.Snapshot) bool {
		return s.Uplink.State != "connected" && strings.Contains(s.Keys.Problem, "TPM_RC_FAILURE")
	})
	stillPolls(t, site)

	// It starts with a broken TPM, too.
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := site.AwaitReadings(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, site, "the gateway to say that its TPM is still broken", func(s status.Snapshot) bool {
		return strings.Contains(s.Keys.Problem, "TPM_RC_FAILURE")
	})
	stillPolls(t, site)

	device.Break(false)
	chip.Off()
	chip.On()
	until(t, site, "the gateway to be let in again", func(s status.Snapshot) bool {
		return s.Uplink.State == "connected" && s.Keys.Problem == ""
	})
	settle(t, site, 0)
}

// TestABrokenTPMIsFallenBackFromOnce: at the bench, and the gateway never looks back.
func TestABrokenTPMIsFallenBackFromOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	device := tpmtest.New(t).Device(t)
	device.Break(true)
	site := prepare(t, func(s *Site) { s.Programs.Gateway = withTPM(t, device.Name, s.Programs.Gateway) })
	if err := site.StartCloud(t.Context(), anywhere); err != nil {
		t.Fatal(err)
	}
	site.Keys = "tpm"
	if err := site.Provision(t.Context()); err == nil || !strings.Contains(err.Error(), "TPM_RC_FAILURE") {
		t.Fatalf("in the TPM or nowhere: %v", err)
	}
	if _, err := os.Stat(filepath.Join(site.path("gateway"), "identity", "keys.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a choice was recorded: %v", err)
	}
	site.Keys = "best"
	if err := site.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	device.Break(false)
	if err := errors.Join(site.StartPumps(t.Context()), site.StartGateway(t.Context()), site.AwaitStored(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := look(t, site)
	if s.Keys.Store != "file" || !strings.Contains(s.Keys.Because, "TPM_RC_FAILURE") || s.Keys.Problem != "" {
		t.Errorf("the status says %+v", s.Keys)
	}
	text, err := os.ReadFile(filepath.Join(site.path("gateway"), "identity", "operational.pem"))
	if err != nil || strings.Contains(string(text), keys.TPMText) {
		t.Errorf("the operational key is in the TPM that was given up, or %v", err)
	}
}

func look(t *testing.T, site *Site) status.Snapshot {
	t.Helper()
	s, err := site.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func until(t *testing.T, site *Site, what string, is func(status.Snapshot) bool) {
	t.Helper()
	if err := await(t.Context(), what, site.GatewayProc, func() (bool, error) {
		s, err := site.Status(t.Context())
		if err == nil && !is(s) {
			err = fmt.Errorf("the uplink %+v, the keys %+v", s.Uplink, s.Keys)
		}
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
}

// stillPolls waits for readings that are newer than now, of every pump.
func stillPolls(t *testing.T, site *Site) {
	t.Helper()
	now := time.Now()
	until(t, site, "readings of every pump", func(s status.Snapshot) bool {
		n := 0
		for _, b := range s.Buses {
			for _, p := range b.Pumps {
				if p.OK && p.LastGood.After(now) {
					n++
				}
			}
		}
		return n == site.Pumps+site.Genibus
	})
}
