package lab

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// withStore looks into the site's database while the backend runs.
func withStore(t *testing.T, site *Site, f func(db *store.Store)) {
	t.Helper()
	db, err := store.Open(t.Context(), site.Database(), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	f(db)
}

func TestACommandGoesDownAndWhatThePumpShowsComesBack(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	ask := func(args ...string) (string, error) {
		return site.Cloud(t.Context(), "command", append([]string{Serial}, args...)...)
	}
	if out, err := ask("bus1-1", "access", "remote"); err != nil || !strings.HasPrefix(out, "done: remote") {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := ask("bus1-1", "setpoint", "55%"); err != nil || !strings.HasPrefix(out, "done: 55") {
		t.Errorf("%s, %v", out, err)
	}
	for want, args := range map[string][]string{
		"refused: setpoint of bus1-1":         {"bus1-1", "setpoint", "155%"},
		`refused: this gateway has no pump "`: {"bus9-1", "setpoint", "55%"},
		"has no command":                      {"bus1-1", "explode"},
	} {
		if out, err := ask(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %s; want %q", args, out, want)
		}
	}
	// While the gateway is away a command waits, and goes no further than its end.
	if err := site.GatewayProc.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := ask("-for", "1s", "bus1-1", "setpoint", "60%"); err == nil || !strings.Contains(out, "expired") {
		t.Errorf("%s, %v", out, err)
	}
	waiting := make(chan error, 1)
	go func() {
		out, err := ask("bus1-1", "setpoint", "65%")
		if err == nil && !strings.HasPrefix(out, "done: 65") {
			err = fmt.Errorf("it says %s", out)
		}
		waiting <- err
	}()
	if err := site.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if out, err := site.Cloud(t.Context(), "command list", Serial); err != nil || strings.Count(out, "\n") != 8 {
		t.Errorf("%s, %v", out, err)
	}
	if err := site.Finish(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCommandsSurviveKills kills the gateway at any moment while commands go
// down. Each is answered once, and a pump shows what was last done.
func TestCommandsSurviveKills(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	if out, err := site.Cloud(t.Context(), "command", Serial, "bus1-1", "access", "remote"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	withStore(t, site, func(db *store.Store) {
		var ids []telemetry.CommandID
		for i := range 12 {
			c, err := db.AddCommand(t.Context(), Serial, "bus1-1", "setpoint", fmt.Sprint(30+i), "test", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, c.ID)
			if i%3 == 2 { // once the first of the three has been sent, at another distance from it each time
				if err := await(t.Context(), "a command to go out", site.CloudProc, func() (bool, error) {
					c, err := db.Command(t.Context(), ids[i-2])
					return err == nil && !c.Sent.IsZero(), err
				}); err != nil {
					t.Fatal(err)
				}
				site.GatewayProc.Kill()
				if err := site.StartGateway(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		outcomes := map[telemetry.Outcome]int{}
		for _, id := range ids {
			if err := await(t.Context(), "every command to be answered", site.GatewayProc, func() (bool, error) {
				c, err := db.Command(t.Context(), id)
				return err == nil && c.Result != nil, err
			}); err != nil {
				t.Fatal(err)
			}
			c, err := db.Command(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			outcomes[c.Result.Outcome]++
			if c.Result.Outcome != telemetry.Done && c.Result.Outcome != telemetry.OutcomeUnknown {
				t.Errorf("%s: %v, %s", c.Value, c.Result.Outcome, c.Result.Text)
			}
		}
		t.Logf("outcomes %v", outcomes)
	})
}

// TestARestoredDiskLosesNothingNew rolls a gateway's state back to a backup, so
// that it gives the names of records once more, to other readings.
func TestARestoredDiskLosesNothingNew(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	state, backup := filepath.Join(site.Dir, "gateway"), filepath.Join(site.Dir, "backup")
	stop := func() {
		t.Helper()
		if err := site.GatewayProc.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	copyState(t, state, backup)
	// again lets the gateway run for a while.
	again := func() {
		t.Helper()
		if err := site.StartGateway(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := site.AwaitReadings(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, site, 5*time.Second)
	}
	again()
	stop()
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	copyState(t, backup, state)
	again()
	if b, err := os.ReadFile(site.GatewayProc.Log); err != nil || !strings.Contains(string(b), "a new epoch begins") {
		t.Errorf("the gateway did not begin a new epoch (%v)", err)
	}
	settle(t, site, 0)
	withStore(t, site, func(db *store.Store) {
		alarms, err := db.Alarms(context.Background(), Serial)
		if err != nil || len(alarms) == 0 || !strings.Contains(alarms[0].Text, "in use twice, or was a disk restored") {
			t.Errorf("no alarm: %v, %v", alarms, err)
		}
	})
}
