package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"penstock/backend/store"
)

// registered is a registry with a board and what it enrolled.
func registered(t *testing.T, factory, board, operational, key string) *store.Store {
	t.Helper()
	s := temporary(t)
	if err := errors.Join(s.AddGateway(t.Context(), store.Gateway{Serial: "GW-1"}, certificate(factory, "factory", board)),
		s.AddCertificate(t.Context(), certificate(operational, "operational", key))); err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshot(t *testing.T, s *store.Store) store.Registry {
	t.Helper()
	r, err := s.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func replace(t *testing.T, s *store.Store, factory, board, operational, key string) {
	t.Helper()
	if err := errors.Join(s.ReplaceGateway(t.Context(), store.Gateway{Serial: "GW-1"}, certificate(factory, "factory", board), "stolen"),
		s.AddCertificate(t.Context(), certificate(operational, "operational", key))); err != nil {
		t.Fatal(err)
	}
}

func TestARestoreLetsNoReplacedBoardIn(t *testing.T) {
	// The stolen board has the keys A and a, the present one B and b.
	earlier := func(r store.Registry) store.Registry {
		for i := range r.Certificates {
			r.Certificates[i].Board = nil
		}
		return r
	}
	for name, order := range map[string]func(*testing.T) *store.Store{
		"lost, replaced, restored": func(t *testing.T) *store.Store {
			backup := snapshot(t, registered(t, "1", "A", "2", "a"))
			s := temporary(t)
			replace(t, s, "3", "B", "4", "b")
			merge(t, s, backup)
			return s
		},
		"a backup that does not say which board": func(t *testing.T) *store.Store {
			backup := earlier(snapshot(t, registered(t, "1", "A", "2", "a")))
			s := temporary(t)
			replace(t, s, "3", "B", "4", "b")
			merge(t, s, backup)
			return s
		},
		"replaced, lost, restored from before, restored from after": func(t *testing.T) *store.Store {
			old := registered(t, "1", "A", "2", "a")
			before := snapshot(t, old)
			replace(t, old, "3", "B", "4", "b")
			after := snapshot(t, old)
			s := temporary(t)
			merge(t, s, before)
			merge(t, s, after)
			return s
		},
		"restored from after, then from before": func(t *testing.T) *store.Store {
			old := registered(t, "1", "A", "2", "a")
			before := snapshot(t, old)
			replace(t, old, "3", "B", "4", "b")
			s := temporary(t)
			merge(t, s, snapshot(t, old))
			merge(t, s, before)
			return s
		},
		"renewed here after it was replaced elsewhere": func(t *testing.T) *store.Store {
			elsewhere := registered(t, "1", "A", "9", "z")
			before := snapshot(t, elsewhere)
			replace(t, elsewhere, "3", "B", "4", "b")
			s := temporary(t)
			merge(t, s, before)
			if err := s.AddCertificate(t.Context(), certificate("2", "operational", "a")); err != nil {
				t.Fatal(err)
			}
			merge(t, s, snapshot(t, elsewhere))
			return s
		},
		"the stolen key certified here again": func(t *testing.T) *store.Store {
			elsewhere := registered(t, "1", "A", "9", "z")
			replace(t, elsewhere, "3", "B", "4", "b")
			s := registered(t, "7", "A", "2", "a")
			merge(t, s, snapshot(t, elsewhere))
			return s
		},
		"revoked and let in again meanwhile": func(t *testing.T) *store.Store {
			backup := snapshot(t, registered(t, "1", "A", "2", "a"))
			s := temporary(t)
			replace(t, s, "3", "B", "5", "c")
			if err := errors.Join(s.Revoke(t.Context(), "GW-1", "lost"), s.Unrevoke(t.Context(), "GW-1", "found"),
				s.AddCertificate(t.Context(), certificate("4", "operational", "b"))); err != nil {
				t.Fatal(err)
			}
			merge(t, s, backup)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := order(t)
			var revoked *store.RevokedError
			for _, c := range snapshot(t, s).Certificates {
				if key := string(c.Key); key != "A" && key != "a" {
					continue
				}
				if err := s.Standing(t.Context(), "GW-1", c.Number); !errors.As(err, &revoked) {
					t.Errorf("certificate %s of the stolen board: %v", c.Number, err)
				}
			}
			if err := s.AddCertificate(t.Context(), certificate("99", "operational", "a")); !errors.Is(err, store.ErrRevokedKey) {
				t.Errorf("the stolen board renews: %v", err)
			}
			for _, number := range []string{"3", "4"} {
				if err := s.Standing(t.Context(), "GW-1", number); err != nil {
					t.Errorf("certificate %s of the present board: %v", number, err)
				}
			}
			again := len(snapshot(t, s).Revocations)
			merge(t, s, snapshot(t, s))
			if n := len(snapshot(t, s).Revocations); n != again {
				t.Errorf("the same again: %d revocations instead of %d", n, again)
			}
		})
	}
}

// A certificate that only the backup knows, of the board that the gateway has, is let in.
func TestARestoreKeepsWhatThePresentBoardEnrolled(t *testing.T) {
	s := temporary(t)
	merge(t, s, snapshot(t, registered(t, "1", "A", "2", "a")))
	for _, number := range []string{"1", "2"} {
		if err := s.Standing(t.Context(), "GW-1", number); err != nil {
			t.Errorf("certificate %s: %v", number, err)
		}
	}
}

// Nobody noted the board, and there was only one: it is that one's.
func TestARestoreKeepsWhatOnlyOneBoardCanHaveEnrolled(t *testing.T) {
	backup := snapshot(t, registered(t, "1", "A", "2", "a"))
	for i := range backup.Certificates {
		backup.Certificates[i].Board = nil
	}
	slices.SortFunc(backup.Certificates, func(a, b store.RegisteredCertificate) int { return -strings.Compare(a.Number, b.Number) })
	s := temporary(t)
	merge(t, s, backup)
	for _, number := range []string{"1", "2"} {
		if err := s.Standing(t.Context(), "GW-1", number); err != nil {
			t.Errorf("certificate %s: %v", number, err)
		}
	}
}

// The order in which a backup lists certificates is that of clocks, which may be wrong.
func TestWhichBoardIsLeftDoesNotHangOnTheOrderOfABackup(t *testing.T) {
	elsewhere := registered(t, "1", "A", "9", "z")
	replace(t, elsewhere, "3", "B", "4", "b")
	backup := snapshot(t, elsewhere)
	for _, descending := range []int{1, -1} {
		slices.SortFunc(backup.Certificates, func(a, b store.RegisteredCertificate) int { return descending * strings.Compare(a.Number, b.Number) })
		s := registered(t, "7", "A", "2", "a") // the stolen board, certified here again
		merge(t, s, backup)
		var revoked *store.RevokedError
		for number, in := range map[string]bool{"1": false, "2": false, "3": true, "4": true, "7": false, "9": false} {
			if err := s.Standing(t.Context(), "GW-1", number); in && err != nil || !in && !errors.As(err, &revoked) {
				t.Errorf("order %d: certificate %s: %v", descending, number, err)
			}
		}
	}
}

func merge(t *testing.T, s *store.Store, r store.Registry) {
	t.Helper()
	if _, err := s.MergeRegistry(t.Context(), r, &store.Since{}); err != nil {
		t.Fatal(err)
	}
}
