package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/internal/status"
)

// shows waits until the gateway's status is as it should be.
func shows(t *testing.T, site *Site, what string, ok func(s status.Snapshot) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begin := time.Now()
	defer func() { t.Logf("%s: after %v", what, time.Since(begin).Round(100*time.Millisecond)) }()
	if err := await(ctx, what, site.GatewayProc, func() (bool, error) {
		s, err := site.Status(ctx)
		return err == nil && ok(s), fmt.Errorf("%w; the cloud: %s, %s; trust: %+v", err, s.Uplink.State, s.Uplink.LastError, s.Trust)
	}); err != nil {
		t.Fatal(err)
	}
}

func connected(s status.Snapshot) bool { return s.Uplink.State == "connected" }

// TestARunningGatewayFollowsARotatedRoot rotates the root of a real backend, has the
// running gateway take it into use, and takes the bridge away by which one that knows
// the old root alone would still come in.
func TestARunningGatewayFollowsARotatedRoot(t *testing.T) {
	t.Parallel()
	site := prepare(t, func(s *Site) { s.Genibus = 0 })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(site.StartCloud(t.Context(), anywhere))
	must(site.Provision(t.Context()))
	must(site.StartPumps(t.Context()))
	out, err := site.Cloud(t.Context(), "ca rotate", "root")
	must(err)
	if !strings.Contains(out, "gateways shall trust: Penstock Root, Penstock Root 2 (signed, version 2)") {
		t.Errorf("the operator is told\n%s", out)
	}
	must(site.StartGateway(t.Context()))
	followed := func(s status.Snapshot) bool {
		return connected(s) && s.Trust.Version == 2 && slices.Equal(s.Trust.Roots, []string{"Penstock Root", "Penstock Root 2"}) && s.Trust.Problem == ""
	}
	shows(t, site, "both roots in force", followed)

	ca := func(name string) string { return site.path("cloud", "ca", name) }
	cross, err := os.ReadFile(ca("root-2-by-1.pem"))
	must(err)
	// servers starts the backend anew, with certificates that lead to the first root or not.
	servers := func(bridge bool) {
		t.Helper()
		must(site.CloudProc.Stop(t.Context()))
		if !bridge {
			shows(t, site, "a gateway alone", func(s status.Snapshot) bool { return !connected(s) })
		}
		kept, err := filepath.Glob(ca("server-*.pem"))
		must(err)
		for _, name := range kept {
			must(os.Remove(name))
		}
		if bridge {
			must(os.WriteFile(ca("root-2-by-1.pem"), cross, 0o644))
		} else {
			must(os.Remove(ca("root-2-by-1.pem")))
		}
		must(site.StartCloud(t.Context(), anywhere))
	}
	servers(false)
	shows(t, site, "a session by the second root alone", connected)

	// The control: what the gateway has taken is gone, and with it the way in.
	identity := func(name string) string { return site.path("gateway", "identity", name) }
	pinned, err := os.ReadFile(identity("tuf-root.json"))
	must(err)
	must(site.GatewayProc.Stop(t.Context()))
	must(os.Remove(identity("roots.json")))
	must(os.Remove(identity("tuf-root.json")))
	must(site.StartGateway(t.Context()))
	shows(t, site, "a refusal by the first root alone", func(s status.Snapshot) bool {
		return !connected(s) && strings.Contains(s.Uplink.LastError, "unknown authority") && s.Trust.Fixed && s.Trust.Version == 0
	})

	// From a drawer: the files of the bench and nothing else, and servers with a bridge.
	must(site.GatewayProc.Stop(t.Context()))
	must(os.WriteFile(identity("tuf-root.json"), pinned, 0o644))
	servers(true)
	must(site.StartGateway(t.Context()))
	shows(t, site, "back from a drawer", followed)

	// The first root's key is stolen. The gateway's factory identity comes from it; its
	// operational certificate does not.
	_, err = site.Cloud(t.Context(), "ca withdraw", "root")
	must(err)
	must(site.GatewayProc.Stop(t.Context()))
	must(site.StartGateway(t.Context()))
	shows(t, site, "the second root alone", func(s status.Snapshot) bool {
		return connected(s) && s.Trust.Version == 3 && slices.Equal(s.Trust.Roots, []string{"Penstock Root 2"}) && s.Clock.Source == "signed"
	})
	if err := site.Finish(t.Context()); err != nil {
		t.Error(err)
	}
}
