package accesstest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"penstock/backend/store"
)

// Conform holds a store to what package access asks of one. open gives an
// empty store.
func Conform(t *testing.T, open func(*testing.T) Store) {
	ctx := context.Background()
	at := time.UnixMilli(1_790_000_000_123).UTC()

	t.Run("an account is found by its email and by its id", func(t *testing.T) {
		s := open(t)
		a, err := s.AddAccount(ctx, store.Account{Email: "ann@example.org", Password: "hash", Role: "viewer", Added: at})
		if err != nil {
			t.Fatal(err)
		}
		for _, get := range []func() (store.Account, error){
			func() (store.Account, error) { return s.AccountByEmail(ctx, "ann@example.org") },
			func() (store.Account, error) { return s.AccountByID(ctx, a.ID) },
		} {
			b, err := get()
			if err != nil || !b.Added.Equal(at) || b.ID == 0 || b.Generation != a.Generation || b.Password != "hash" || b.Role != "viewer" || b.Email != a.Email {
				t.Errorf("got %+v, %v; added %+v", b, err, a)
			}
		}
	})
	t.Run("an email is taken once", func(t *testing.T) {
		s := open(t)
		a := store.Account{Email: "ann@example.org", Password: "hash", Role: "viewer", Added: at}
		if _, err := s.AddAccount(ctx, a); err != nil {
			t.Fatal(err)
		}
		a.Password = "another"
		if _, err := s.AddAccount(ctx, a); !errors.Is(err, store.ErrAccountExists) {
			t.Errorf("the second was answered by %v", err)
		}
		if b, err := s.AccountByEmail(ctx, a.Email); err != nil || b.Password != "hash" {
			t.Errorf("the first became %+v, %v", b, err)
		}
	})
	t.Run("a new password is another generation", func(t *testing.T) {
		s := open(t)
		a, err := s.AddAccount(ctx, store.Account{Email: "ann@example.org", Password: "hash", Role: "viewer", Added: at})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetPassword(ctx, a.Email, "new"); err != nil {
			t.Fatal(err)
		}
		if b, err := s.AccountByID(ctx, a.ID); err != nil || b.Password != "new" || b.Generation <= a.Generation {
			t.Errorf("got %+v, %v after %+v", b, err, a)
		}
	})
	t.Run("who is not there is said not to be there", func(t *testing.T) {
		s := open(t)
		_, errEmail := s.AccountByEmail(ctx, "nobody@example.org")
		_, errID := s.AccountByID(ctx, 7)
		for _, err := range []error{errEmail, errID, s.SetPassword(ctx, "nobody@example.org", "x")} {
			if !errors.Is(err, store.ErrNoAccount) {
				t.Errorf("got %v", err)
			}
		}
		if _, err := s.Session(ctx, "none"); !errors.Is(err, store.ErrNoSession) {
			t.Errorf("got %v", err)
		}
		if err := s.DeleteSession(ctx, "none"); err != nil {
			t.Errorf("deleting what is not there: %v", err)
		}
	})
	t.Run("a session is kept, replaced and deleted", func(t *testing.T) {
		s := open(t)
		for _, data := range []string{"first", "second"} {
			want := store.Session{ID: "id", Data: []byte(data), Seen: at, Expires: at.Add(time.Hour)}
			if err := s.PutSession(ctx, want); err != nil {
				t.Fatal(err)
			}
			got, err := s.Session(ctx, "id")
			if err != nil || !bytes.Equal(got.Data, want.Data) || !got.Seen.Equal(want.Seen) || !got.Expires.Equal(want.Expires) {
				t.Fatalf("got %+v, %v; want %+v", got, err, want)
			}
		}
		if err := s.DeleteSession(ctx, "id"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Session(ctx, "id"); !errors.Is(err, store.ErrNoSession) {
			t.Errorf("after its end: %v", err)
		}
	})
	t.Run("a late use does not bring a session back", func(t *testing.T) {
		s := open(t)
		if err := s.PutSession(ctx, store.Session{ID: "id", Data: []byte("x"), Seen: at, Expires: at.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := s.SessionSeen(ctx, "id", at.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Session(ctx, "id"); err != nil || !got.Seen.Equal(at.Add(time.Minute)) {
			t.Errorf("got %+v, %v", got, err)
		}
		if err := s.DeleteSession(ctx, "id"); err != nil {
			t.Fatal(err)
		}
		if err := s.SessionSeen(ctx, "id", at.Add(2*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Session(ctx, "id"); !errors.Is(err, store.ErrNoSession) {
			t.Errorf("it is back: %+v, %v", got, err)
		}
	})
	t.Run("what has ended is dropped, the rest stays", func(t *testing.T) {
		s := open(t)
		for id, x := range map[string]store.Session{
			"expired": {Seen: at, Expires: at.Add(-time.Minute)},
			"idle":    {Seen: at.Add(-2 * time.Hour), Expires: at.Add(time.Hour)},
			"good":    {Seen: at, Expires: at.Add(time.Hour)},
		} {
			x.ID, x.Data = id, []byte("x")
			if err := s.PutSession(ctx, x); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.DropSessions(ctx, at, at.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		for id, stays := range map[string]bool{"expired": false, "idle": false, "good": true} {
			if _, err := s.Session(ctx, id); (err == nil) != stays {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
}
