package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// known is a store that knows the gateway G-0001.
func known(t *testing.T, s *store.Store) *store.Store {
	t.Helper()
	c := store.Certificate{Number: "1", Role: "factory", Key: []byte{1}, NotAfter: time.Now().AddDate(1, 0, 0)}
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "G-0001", Model: "cim550", Board: "lab"}, c); err != nil {
		t.Fatal(err)
	}
	return s
}

func result(g *gateway, r telemetry.CommandResult) []byte {
	g.seq++
	return wire.AppendRecord(nil, g.epoch, wire.Urgent, g.seq, g.packer.AppendPayload(nil, wire.KindResult, wire.AppendResult(nil, r)))
}

func TestACommandIsSentUntilItIsAnswered(t *testing.T) {
	s := known(t, temporary(t))
	stirred := s.Stirred()
	first, err := s.AddCommand(t.Context(), "G-0001", "bus1-1", "setpoint", "55%", "anna", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-stirred:
	default:
		t.Error("nobody was told")
	}
	down, err := s.Downlinks(t.Context())
	if err != nil || len(down) != 1 || len(down["G-0001"].Commands) != 1 || down["G-0001"].Commands[0] != first.Command {
		t.Fatalf("%+v, %v", down, err)
	}
	g := newGateway(t)
	for _, step := range []struct {
		from    string
		outcome telemetry.Outcome
		want    telemetry.Outcome // 0: still open
	}{
		{"G-0002", telemetry.Done, 0}, // another gateway's word counts for nothing
		{"G-0001", telemetry.OutcomeUnknown, telemetry.OutcomeUnknown},
		{"G-0001", telemetry.NotFollowed, telemetry.NotFollowed}, // definite outranks unknown,
		{"G-0001", telemetry.OutcomeUnknown, telemetry.NotFollowed},
		{"G-0001", telemetry.Done, telemetry.NotFollowed}, // and the first counts
	} {
		if err := s.Append(t.Context(), step.from, result(g, telemetry.CommandResult{ID: first.ID, Outcome: step.outcome, Time: t0, Raw: 5400, Text: "54 %"})); err != nil {
			t.Fatal(err)
		}
		got, err := s.Command(t.Context(), first.ID)
		if err != nil {
			t.Fatal(err)
		}
		if step.want == 0 != (got.Result == nil) || got.Result != nil && got.Result.Outcome != step.want {
			t.Errorf("after %v from %s: %+v", step.outcome, step.from, got.Result)
		}
	}
	if down, err := s.Downlinks(t.Context()); err != nil || len(down) != 0 {
		t.Errorf("%+v, %v", down, err)
	}
}

func TestAnExpiredCommandIsNotSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	synctest.Test(t, func(t *testing.T) {
		s := known(t, open(t, path))
		defer s.Close()
		if _, err := s.AddCommand(t.Context(), "G-0001", "bus1-1", "setpoint", "55%", "anna", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if down, err := s.Downlinks(t.Context()); err != nil || len(down) != 0 {
			t.Errorf("%+v, %v", down, err)
		}
	})
}

func TestWhatNobodyCouldCarryOutIsRefusedAtOnce(t *testing.T) {
	s := known(t, temporary(t))
	for what, try := range map[string]func() error{
		"unknown gateway": func() error {
			_, err := s.AddCommand(t.Context(), "G-0009", "bus1-1", "setpoint", "1", "anna", time.Minute)
			if !errors.Is(err, store.ErrNoGateway) {
				t.Errorf("unknown gateway: %v", err)
			}
			return err
		},
		"no pump": func() error {
			_, err := s.AddCommand(t.Context(), "G-0001", " ", "setpoint", "1", "a", time.Minute)
			return err
		},
		"no name": func() error {
			_, err := s.AddCommand(t.Context(), "G-0001", "p", "", "1", "a", time.Minute)
			return err
		},
		"no life": func() error { _, err := s.AddCommand(t.Context(), "G-0001", "p", "n", "1", "a", 0); return err },
		"long value": func() error {
			_, err := s.AddCommand(t.Context(), "G-0001", "p", "n", strings.Repeat("1", 999), "a", time.Minute)
			return err
		},
	} {
		if err := try(); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := s.Revoke(t.Context(), "G-0001", "stolen"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddCommand(t.Context(), "G-0001", "p", "n", "1", "a", time.Minute); err == nil {
		t.Error("a command for a revoked gateway")
	}
}

func TestAnotherOwnerCancelsWhatIsPending(t *testing.T) {
	s := known(t, temporary(t))
	add := func() store.Command {
		c, err := s.AddCommand(t.Context(), "G-0001", "bus1-1", "setpoint", "55%", "anna", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	sent, waiting := add(), add()
	if err := s.Sent(t.Context(), sent.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.ChangeOwner(t.Context(), "G-0001"); err != nil {
		t.Fatal(err)
	}
	for c, want := range map[*store.Command]telemetry.Outcome{&sent: telemetry.OutcomeUnknown, &waiting: telemetry.Cancelled} {
		if got, err := s.Command(t.Context(), c.ID); err != nil || got.Result == nil || got.Result.Outcome != want {
			t.Errorf("want %v, got %+v, %v", want, got.Result, err)
		}
	}
	after := add()
	if after.Owner != waiting.Owner+1 {
		t.Errorf("owner %d after %d", after.Owner, waiting.Owner)
	}
	if down, err := s.Downlinks(t.Context()); err != nil || len(down["G-0001"].Commands) != 1 || down["G-0001"].Commands[0].ID != after.ID {
		t.Errorf("%+v, %v", down["G-0001"], err)
	}
}

func TestTwoContentsUnderOneNameMakeAnEpochThatIsGivenUp(t *testing.T) {
	s := temporary(t)
	one, clone := newGateway(t), newGateway(t)
	for _, publish := range [][]byte{one.catalogueRecord(), one.block(t0), clone.catalogueRecord(), clone.block(t0.Add(time.Hour))} {
		if err := s.Append(t.Context(), "G-0001", publish); err != nil {
			t.Fatal(err)
		}
	}
	down, err := s.Downlinks(t.Context())
	if err != nil || down["G-0001"] == nil || len(down["G-0001"].Epochs) != 1 || down["G-0001"].Epochs[0] != one.epoch {
		t.Errorf("%+v, %v", down["G-0001"], err)
	}
}

func TestALeaseOutlastsNoWatcher(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, path)
		defer s.Close()
		for _, lease := range []time.Duration{time.Minute, 20 * time.Second} { // a shorter one takes nothing away
			if err := s.Watch(t.Context(), "G-0001", lease); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []bool{true, false} {
			down, err := s.Downlinks(t.Context())
			if err != nil || (down["G-0001"] != nil) != want {
				t.Errorf("want a watcher: %v; %+v, %v", want, down["G-0001"], err)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestTheVersionOfDownlinksChangesWithThem: whoever waits for something to send, in
// another process, too, reads one number.
func TestTheVersionOfDownlinksChangesWithThem(t *testing.T) {
	s := known(t, temporary(t))
	version := func() int64 {
		t.Helper()
		n, err := s.DownlinkVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := version()
	changed := func(what string, want bool) {
		t.Helper()
		if now := version(); (now != before) != want {
			t.Errorf("%s: version %d, before %d", what, now, before)
		}
		before = version()
	}
	if _, err := s.AddCommand(t.Context(), "G-0001", "p", "stop", "", "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	changed("a command", true)
	for range 2 {
		if err := s.Watch(t.Context(), "G-0001", time.Hour); err != nil {
			t.Fatal(err)
		}
		changed("a lease", true)
	}
	g := newGateway(t)
	for _, p := range [][]byte{g.catalogueRecord(), g.block(t0)} {
		if err := s.Append(t.Context(), "G-0001", p); err != nil {
			t.Fatal(err)
		}
	}
	changed("records", false)
	g.seq = 0
	if err := s.Append(t.Context(), "G-0001", g.block(t0)); err != nil {
		t.Fatal(err)
	}
	changed("a conflict", true)
}
