package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestABackupRestoredIntoARunningBackendShutsOutWhomItRevokes plays a machine whose
// database came back from an older copy: a revocation that only the newer backup
// knows ends the gateway's session once that is restored, while the server runs.
func TestABackupRestoredIntoARunningBackendShutsOutWhomItRevokes(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	cloud := func(verb string, args ...string) string {
		t.Helper()
		out, err := site.Cloud(t.Context(), verb, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	restart := func(change func()) {
		t.Helper()
		site.CloudProc.Kill()
		change()
		if err := site.StartCloud(t.Context(), anywhere); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, good func(state string) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := await(ctx, what, site.GatewayProc, func() (bool, error) {
			s, err := site.Status(t.Context())
			if err != nil {
				return false, err
			}
			return good(s.Uplink.State), fmt.Errorf("the uplink is %s", s.Uplink.State)
		}); err != nil {
			t.Fatal(err)
		}
	}
	online := func(state string) bool { return state == "connected" }
	offline := func(state string) bool { return state != "connected" }

	is("the gateway online", online)
	older, newer := site.path("older.tar"), site.path("newer.tar")
	cloud("ca backup", older)
	if st, err := os.Stat(older); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", st.Mode(), err)
	}
	copied := map[string][]byte{} // the database, and what has not come into it yet
	restart(func() {
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(site.Database() + suffix)
			if err != nil {
				t.Fatal(err)
			}
			copied[site.Database()+suffix] = content
		}
	})
	cloud("ca revoke", Serial, "-reason", "stolen from the pump room")
	is("the gateway shut out", offline)
	cloud("ca backup", newer)
	cloud("ca restore", older) // undoes nothing
	if list := cloud("ca list"); !strings.Contains(list, "stolen from the pump room") {
		t.Errorf("after the restore of an older backup:\n%s", list)
	}

	restart(func() {
		if err := os.Remove(site.Database() + "-shm"); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for name, content := range copied {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	site.GatewayProc.Kill() // it was refused, and would ask again in an hour only
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	is("the gateway online by the older database", online)
	if out := cloud("ca restore", newer); !strings.Contains(out, "1 revocations") {
		t.Errorf("the restore said %q", out)
	}
	is("the gateway shut out again", offline)
	if list := cloud("ca list"); !strings.Contains(list, "stolen from the pump room") {
		t.Errorf("after the restore:\n%s", list)
	}

	// The same on a machine where there is nothing, offline keys away.
	if err := os.Remove(site.path("cloud", "ca", "root.key")); err != nil {
		t.Fatal(err)
	}
	cloud("ca backup", newer)
	elsewhere := func(verb string, args ...string) (string, error) {
		return site.Cloud(t.Context(), verb, append(args, "-state", site.path("elsewhere"))...)
	}
	if out, err := elsewhere("ca restore", newer); err == nil || !strings.Contains(out, "-revoked-since") || !strings.Contains(out, Serial) {
		t.Errorf("a restore that nobody has said anything of: %v", err)
	}
	if _, err := elsewhere("ca restore", newer, "-revoked-since", "none"); err != nil {
		t.Error(err)
	}
	out, err := elsewhere("ca list")
	if err != nil || out != cloud("ca list") {
		t.Errorf("elsewhere there is\n%s%v", out, err)
	}
}
