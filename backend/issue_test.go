package backend_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"penstock/backend"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
)

// desk is an authority's desk: authorities and a registry of their own.
func desk(t *testing.T) (*pki.CA, *store.Store) {
	t.Helper()
	dir := t.TempDir()
	ca, err := backend.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), dir+"/cloud.db", clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return ca, db
}

// record is one of a new key.
func record(t *testing.T, r pki.Record) []byte {
	t.Helper()
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.EncodeRecord(r, key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func hash(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestTheSameRecordGetsTheSameAnswer(t *testing.T) {
	ca, db := desk(t)
	r := record(t, pki.Record{Serial: "GW-1", Model: "cim280", Board: "rpi", Claim: hash(1)})
	first, err := backend.Issue(t.Context(), ca, db, r, backend.Order{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := backend.Issue(t.Context(), ca, db, r, backend.Order{})
	if err != nil || !bytes.Equal(first.Bundle.Chain, again.Bundle.Chain) || !bytes.Equal(first.Bundle.Roots, again.Bundle.Roots) {
		t.Errorf("again: another answer, or %v", err)
	}
	if all, err := db.Certificates(t.Context(), "GW-1"); err != nil || len(all) != 1 {
		t.Errorf("%d certificates, %v", len(all), err)
	}
	if gw, err := db.Gateway(t.Context(), "GW-1"); err != nil || gw.Model != "cim280" || gw.Board != "rpi" {
		t.Errorf("%+v, %v", gw, err)
	}
	if serial, err := db.Claimed(t.Context(), hash(1)); err != nil || serial != "GW-1" {
		t.Errorf("the label is %q's, %v", serial, err)
	}
	// Whoever knows the new root alone would not believe the certificate of before.
	if err := ca.Rotate("root"); err != nil {
		t.Fatal(err)
	}
	rotated, err := backend.Issue(t.Context(), ca, db, r, backend.Order{})
	if err != nil || bytes.Equal(first.Bundle.Chain, rotated.Bundle.Chain) {
		t.Errorf("after a rotation: the answer of before, or %v", err)
	}
	if err := db.Revoke(t.Context(), "GW-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	var revoked *store.RevokedError
	if _, err := backend.Issue(t.Context(), ca, db, r, backend.Order{}); !errors.As(err, &revoked) {
		t.Errorf("of a revoked gateway: %v", err)
	}
}

func TestAnotherBoardOfTheSameSerialNumberIsRefusedUntilItIsSaidToReplaceTheFirst(t *testing.T) {
	ca, db := desk(t)
	issue := func(r []byte, o backend.Order) error {
		_, err := backend.Issue(t.Context(), ca, db, r, o)
		return err
	}
	first := record(t, pki.Record{Serial: "GW-1", Model: "cim550", Board: "rpi", Claim: hash(1)})
	second := record(t, pki.Record{Serial: "GW-1", Model: "cim550", Board: "rpi", Claim: hash(2)})
	if err := issue(first, backend.Order{}); err != nil {
		t.Fatal(err)
	}
	if err := issue(second, backend.Order{}); !errors.Is(err, store.ErrOtherKey) || !strings.Contains(err.Error(), "-replaced") {
		t.Errorf("two boards: %v", err)
	}
	for range 2 {
		if err := issue(second, backend.Order{Replaced: "struck by lightning"}); err != nil {
			t.Errorf("the board was replaced: %v", err)
		}
	}
	if err := issue(first, backend.Order{}); err == nil {
		t.Error("the old board is back")
	}
	if serial, err := db.Claimed(t.Context(), hash(2)); err != nil || serial != "GW-1" {
		t.Errorf("the new label is %q's, %v", serial, err)
	}
	if _, err := db.Claimed(t.Context(), hash(1)); !errors.Is(err, store.ErrNoGateway) {
		t.Errorf("the old label is good: %v", err)
	}
}

func TestWhatARecordSaysIsSignedAndAddsUp(t *testing.T) {
	ca, db := desk(t)
	full := record(t, pki.Record{Serial: "GW-1", Model: "cim550", Board: "rpi"})
	bare := record(t, pki.Record{Serial: "GW-2"})
	for _, tc := range []struct {
		record []byte
		order  backend.Order
		says   string
	}{
		{full, backend.Order{Board: "imx6ul"}, "signed for the board rpi, not for imx6ul"},
		{full, backend.Order{Model: "cim280"}, "signed for the model cim550, not for cim280"},
		{bare, backend.Order{}, "give -model"},
		{bare, backend.Order{Model: "cim550"}, "give -board"},
		{bare, backend.Order{Model: "cim", Board: "rpi"}, "allowed: cim280, cim550"},
		{[]byte("hello"), backend.Order{}, "no PEM certificate request"},
		{full, backend.Order{Model: "cim550", Board: "rpi"}, ""},
		{bare, backend.Order{Model: "cim550", Board: "rpi"}, ""},
	} {
		_, err := backend.Issue(t.Context(), ca, db, tc.record, tc.order)
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%+v: %v; want %q", tc.order, err, tc.says)
		}
	}
}
