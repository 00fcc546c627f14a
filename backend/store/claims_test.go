package store_test

import (
	"errors"
	"testing"

	"penstock/backend/store"
)

func TestAGatewayHasOneGoodLabelAndAVoidOneStaysVoid(t *testing.T) {
	s := temporary(t)
	for _, serial := range []string{"GW-1", "GW-2"} {
		c := certificate(serial, "factory", serial)
		c.Gateway = serial
		if err := s.AddGateway(t.Context(), store.Gateway{Serial: serial}, c); err != nil {
			t.Fatal(err)
		}
	}
	set := func(serial, hash string, relabel bool, want error) {
		t.Helper()
		if err := s.SetClaim(t.Context(), serial, []byte(hash), relabel); !errors.Is(err, want) {
			t.Errorf("%s gets %s: %v, want %v", serial, hash, err, want)
		}
	}
	is := func(hash, serial string) {
		t.Helper()
		got, err := s.Claimed(t.Context(), []byte(hash))
		if got != serial || (serial == "") != errors.Is(err, store.ErrNoGateway) {
			t.Errorf("the code of %s is %q's, %v; want %q", hash, got, err, serial)
		}
	}
	set("GW-3", "a", false, store.ErrNoGateway)
	set("GW-1", "a", false, nil)
	set("GW-1", "a", false, nil) // again
	set("GW-1", "b", false, store.ErrOtherLabel)
	set("GW-2", "a", false, store.ErrVoidLabel) // two boards with one label
	is("a", "GW-1")
	is("b", "")
	set("GW-1", "b", true, nil)
	set("GW-1", "b", true, nil) // again
	is("a", "")
	is("b", "GW-1")
	set("GW-1", "a", true, store.ErrVoidLabel)
	set("GW-2", "c", false, nil)
	is("c", "GW-2")
}
