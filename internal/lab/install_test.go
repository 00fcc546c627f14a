package lab

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/internal/lab/browser"
	"penstock/internal/local"
)

// TestTheInstallGuideLeadsToAPage follows docs/install.md command by command, on
// other ports and folders, until a browser that has signed in shows a live value of
// a pump that nobody has described.
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
	path := filepath.Dir(programs.Cloud) + ":" + os.Getenv("PATH")
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
			a = strings.ReplaceAll(a, "/dev/ttyUSB0", port)
			a = strings.ReplaceAll(a, "ca issue -", "ca issue -state "+in("cloud")+" -")
			args[i] = a
		}
		argv := append([]string{filepath.Join(filepath.Dir(programs.Cloud), program)}, args...)
		state := []string{"-state", in("gateway")}
		if program == "penstock-cloud" {
			state = []string{"-state", in("cloud")}
		}
		switch args[0] {
		case "scan":
			out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "2 found") {
				t.Fatalf("%s: %v: %v\n%s", c.where, argv, err, out)
			}
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
			cmd.Stdin, cmd.Env = strings.NewReader(testPassword+"\n"), append(os.Environ(), "PATH="+path)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %v\n%s", c.where, argv, err, out)
			}
		}
		if done++; args[0] == "run" {
			break // what comes after is for who has no connection
		}
	}
	if done != 5 {
		t.Errorf("%d commands were run; the guide promises five", done)
	}
	b, err := browser.Start(t.Context(), browser.Desk)
	if errors.Is(err, browser.ErrNoBrowser) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Watch(browser.Visit{URL: "https://" + at.Web, Email: "you@example.com", Password: testPassword, Gateway: "PSK-0001"}); err != nil {
		t.Fatal(err)
	}
}
