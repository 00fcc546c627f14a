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
