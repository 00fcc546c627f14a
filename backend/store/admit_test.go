package store_test

import (
	"errors"
	"testing"

	"penstock/backend/store"
)

func TestTheRegistryDecidesWhichCertificateIsLetIn(t *testing.T) {
	s := temporary(t)
	issued := certificate("1", "factory", "A")
	issued.DER = []byte("issued")
	other := certificate("2", "factory", "B")
	other.Gateway, other.DER = "GW-2", []byte("of another gateway")
	if err := errors.Join(s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, issued),
		s.AddGateway(t.Context(), store.Gateway{Serial: "GW-2"}, other)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, serial, number, der string
		want                      error
	}{
		{"what was issued", "GW-1", "1", "issued", nil},
		{"a number that nobody issued", "GW-1", "7", "issued", store.ErrNotIssued},
		{"a forged certificate under an issued number", "GW-1", "1", "forged", store.ErrNotIssued},
		{"a certificate of another gateway", "GW-1", "2", "of another gateway", store.ErrNotIssued},
		{"no number", "GW-1", "", "", store.ErrNotIssued},
		{"an unknown gateway", "GW-3", "1", "issued", store.ErrNoGateway},
	} {
		if err := s.Admit(t.Context(), c.serial, c.number, []byte(c.der)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if err := s.Revoke(t.Context(), "GW-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	var revoked *store.RevokedError
	if err := s.Admit(t.Context(), "GW-1", "1", []byte("issued")); !errors.As(err, &revoked) {
		t.Errorf("of a revoked gateway: %v", err)
	}
}
