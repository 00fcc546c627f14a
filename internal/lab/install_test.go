package lab

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/internal/local"
)

// TestTheInstallGuideLeadsToAPage follows docs/install.md command by command, on
// other ports and folders, until a reading of a pump that nobody has described is
// in the store.
func TestTheInstallGuideLeadsToAPage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the whole plant is brought up in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "penstock-guide-") // a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	port := in("ttyUSB0")
	pumps, err := Start("the virtual pumps", in("pumps.log"), programs.Lab, "pumps", "-link", port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pumps.Kill)
	if err := os.WriteFile(in("config.yaml"), []byte("report_every: 2s\nbuses:\n  - port: "+port+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	var at Addresses
	done := 0
	for _, c := range documented(t, "../../docs/install.md") {
		program, args := c.words[0], c.words[1:]
		for i, a := range args { // what is another here than in the guide
			a = strings.ReplaceAll(a, "laptop.local:8443", at.Auth)
			a = strings.ReplaceAll(a, "laptop.local", "127.0.0.1")
			if a == "gateway.csr" || a == "issued" {
				a = in(a)
			}
			args[i] = a
		}
		argv := append([]string{filepath.Join(filepath.Dir(programs.Cloud), program)}, args...)
		state := []string{"-state", in("gateway")}
		if program == "penstock-cloud" {
			state = []string{"-state", in("cloud")}
		}
		switch args[0] {
		case "scan":
			continue // TestPlugAndPlay and fieldbus/discover search lines
		case "serve":
			argv = append(append(argv, state...), "-auth", "127.0.0.1:0", "-endpoint", "127.0.0.1:0", "-web", "127.0.0.1:0", "-ready", in("ready"))
			cloud, err := Start("the backend", in("cloud.log"), argv...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cloud.Kill)
			if err := await(t.Context(), "the backend", cloud, func() (bool, error) {
				text, err := os.ReadFile(in("ready"))
				if err != nil {
					return false, err
				}
				return true, json.Unmarshal(text, &at)
			}); err != nil {
				t.Fatal(err)
			}
		case "run":
			argv = append(append(argv, state...), "-config", in("config.yaml"), "-socket", in("sock"))
			gateway, err := Start("the gateway", in("gateway.log"), argv...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(gateway.Kill)
			if err := await(t.Context(), "a reading of a found pump in the store", gateway, func() (bool, error) {
				s, err := local.Status(t.Context(), in("sock"))
				return err == nil && len(s.Buses) > 0 && s.Uplink.Acknowledged > 1, err
			}); err != nil {
				t.Fatal(err)
			}
		default:
			cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], state...)...)
			cmd.Stdin = strings.NewReader(testPassword + "\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %v\n%s", c.where, argv, err, out)
			}
		}
		done++
	}
	if done != 6 {
		t.Errorf("%d commands were run; the guide promises six", done)
	}
}
