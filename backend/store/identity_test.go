package store_test

import (
	"errors"
	"testing"
	"time"

	"penstock/backend/store"
)

// certificate is one for a key of that name, valid for a year from now on.
func certificate(number, role, key string) store.Certificate {
	return store.Certificate{Number: number, Gateway: "GW-1", Role: role, Key: []byte(key), NotAfter: time.Now().Add(365 * 24 * time.Hour)}
}

func TestOneSerialNumberHasOneFactoryKeyAtATime(t *testing.T) {
	s, gw := temporary(t), store.Gateway{Serial: "GW-1", Model: "cim550", Board: "lab"}
	add := func(c store.Certificate) error { return s.AddGateway(t.Context(), gw, c) }
	if err := errors.Join(add(certificate("1", "factory", "A")), add(certificate("2", "factory", "A"))); err != nil {
		t.Fatalf("the same key again: %v", err)
	}
	if err := add(certificate("3", "factory", "B")); !errors.Is(err, store.ErrOtherKey) {
		t.Errorf("another board under the same serial number: %v", err)
	}
	if err := s.AddCertificate(t.Context(), certificate("4", "operational", "C")); err != nil {
		t.Errorf("an operational certificate has a key of its own: %v", err)
	}
	if err := s.ReplaceGateway(t.Context(), gw, certificate("5", "factory", "B"), "struck by lightning"); err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"1", "2", "4"} {
		var revoked *store.RevokedError
		if err := s.Standing(t.Context(), "GW-1", number); !errors.As(err, &revoked) || revoked.Reason != "struck by lightning" {
			t.Errorf("certificate %s of the board that was replaced: %v", number, err)
		}
	}
	if err := s.Standing(t.Context(), "GW-1", "5"); err != nil {
		t.Errorf("the new board: %v", err)
	}
	if err := add(certificate("6", "factory", "A")); !errors.Is(err, store.ErrOtherKey) && !errors.Is(err, store.ErrRevokedKey) {
		t.Errorf("the old board's key came back: %v", err)
	}
	if err := s.AddCertificate(t.Context(), certificate("7", "operational", "C")); !errors.Is(err, store.ErrRevokedKey) {
		t.Errorf("a revoked operational key was certified again: %v", err)
	}
}

func TestACertificateIsAddedToAKnownGatewayInGoodStandingOnly(t *testing.T) {
	s := temporary(t)
	if err := s.AddCertificate(t.Context(), certificate("1", "operational", "A")); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("of an unknown gateway: %v", err)
	}
	if err := s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, certificate("2", "factory", "F")); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), "GW-1", "lost"); err != nil {
		t.Fatal(err)
	}
	var revoked *store.RevokedError
	if err := s.AddCertificate(t.Context(), certificate("3", "operational", "A")); !errors.As(err, &revoked) {
		t.Errorf("of a revoked gateway: %v", err)
	}
}

func TestAGatewayThatIsLetInAgainNeedsANewOperationalKey(t *testing.T) {
	s := temporary(t)
	err := errors.Join(s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, certificate("1", "factory", "F")),
		s.AddCertificate(t.Context(), certificate("2", "operational", "A")),
		s.AddCertificate(t.Context(), certificate("3", "operational", "B")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unrevoke(t.Context(), "GW-1", "by mistake"); !errors.Is(err, store.ErrNotRevoked) {
		t.Errorf("a gateway that is not revoked: %v", err)
	}
	if err := s.Unrevoke(t.Context(), "GW-2", "by mistake"); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("an unknown gateway: %v", err)
	}
	for round := range 2 { // it may happen twice
		if err := s.Revoke(t.Context(), "GW-1", "stolen"); err != nil {
			t.Fatal(err)
		}
		for _, number := range []string{"1", "2", "3", "unheard of"} {
			var revoked *store.RevokedError
			if err := s.Standing(t.Context(), "GW-1", number); !errors.As(err, &revoked) || revoked.Reason != "stolen" {
				t.Errorf("round %d: certificate %s: %v", round, number, err)
			}
		}
		if err := s.Unrevoke(t.Context(), "GW-1", "found again"); err != nil {
			t.Fatal(err)
		}
		if err := s.Standing(t.Context(), "GW-1", "1"); err != nil {
			t.Errorf("round %d: the factory identity, which is to enrol anew: %v", round, err)
		}
		for _, number := range []string{"2", "3"} {
			if err := s.Standing(t.Context(), "GW-1", number); err == nil {
				t.Errorf("round %d: the operational certificate %s came back", round, number)
			}
		}
		if err := s.AddCertificate(t.Context(), certificate("4", "operational", "A")); !errors.Is(err, store.ErrRevokedKey) {
			t.Errorf("round %d: the old key in a new certificate: %v", round, err)
		}
	}
	if err := s.AddCertificate(t.Context(), certificate("5", "operational", "C")); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if err := s.Standing(t.Context(), "GW-1", "5"); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
	if gws, err := s.Gateways(t.Context()); err != nil || len(gws) != 1 || !gws[0].Revoked.IsZero() {
		t.Errorf("gateways %+v, %v", gws, err)
	}
	all, err := s.Revocations(t.Context(), 0)
	if err != nil || len(all) != 4 || all[0].Reason != "stolen" || all[0].LiftedReason != "found again" || all[0].Lifted.IsZero() {
		t.Errorf("the history: %+v, %v", all, err)
	}
	if rest, err := s.Revocations(t.Context(), all[1].ID); err != nil || len(rest) != 2 || rest[0] != all[2] {
		t.Errorf("beyond %d: %+v, %v", all[1].ID, rest, err)
	}
}
