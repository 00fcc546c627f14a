package store_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"penstock/backend/access/accesstest"
	"penstock/backend/store"
	"penstock/internal/clock"
)

func TestAccountsAndSessionsConform(t *testing.T) {
	accesstest.Conform(t, func(t *testing.T) accesstest.Store {
		s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "cloud.db"), clock.System, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}
