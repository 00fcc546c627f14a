package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"penstock/backend/store"
	"penstock/internal/clock"
)

const (
	// Lifetime is how long a session lasts however much it is used.
	Lifetime = 14 * 24 * time.Hour
	// Idle is how long a session lasts unused. A page that shows live values is
	// a use.
	Idle = 24 * time.Hour
	// CookieName says to the browser: this host, TLS and all paths only.
	CookieName = "__Host-penstock"

	// A use is written down at most this often.
	seenEvery = time.Minute
)

// SessionStore keeps sessions. *store.Store is one.
type SessionStore interface {
	PutSession(ctx context.Context, s store.Session) error
	// Session answers store.ErrNoSession when there is none of that id.
	Session(ctx context.Context, id string) (store.Session, error)
	// SessionSeen notes a use. It brings no session back that has ended meanwhile.
	SessionSeen(ctx context.Context, id string, at time.Time) error
	DeleteSession(ctx context.Context, id string) error
	// DropSessions deletes those that expired before the one time or were last
	// seen before the other.
	DropSessions(ctx context.Context, expired, seen time.Time) error
}

// Sessions knows people by their cookie.
type Sessions struct {
	manager  *scs.SessionManager
	keep     *keeper
	accounts *Accounts
	log      *slog.Logger
}

// NewSessions keeps its sessions in s.
func NewSessions(s SessionStore, accounts *Accounts, c clock.Clock, log *slog.Logger) *Sessions {
	keep := &keeper{store: s, clock: c}
	// Not scs.New, which starts a store in memory with a goroutine that never ends.
	m := &scs.SessionManager{
		Lifetime: Lifetime,
		// scs would write every session at every request to move its idle limit,
		// and so bring back one that signed out meanwhile; keeper does it instead.
		IdleTimeout: 0,
		Store:       keep,
		Codec:       scs.GobCodec{},
		Cookie: scs.SessionCookie{
			Name: CookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, Persist: true,
		},
	}
	ss := &Sessions{manager: m, keep: keep, accounts: accounts, log: log}
	m.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() == nil {
			log.ErrorContext(r.Context(), "a session could not be loaded or saved", "err", err)
		}
		http.Error(w, "The session could not be loaded. Try again in a minute.", http.StatusServiceUnavailable)
	}
	return ss
}

// Wrap gives every request of next its session. Everything else here needs a
// context that went through it.
func (s *Sessions) Wrap(next http.Handler) http.Handler { return s.manager.LoadAndSave(next) }

// SignIn begins a session of u, under a new token.
func (s *Sessions) SignIn(ctx context.Context, u User) error {
	if err := s.manager.RenewToken(ctx); err != nil {
		return fmt.Errorf("renewing the session's token: %w", err)
	}
	s.manager.Put(ctx, "user", u.ID)
	s.manager.Put(ctx, "generation", u.generation)
	now := s.keep.clock.Now()
	if err := s.keep.store.DropSessions(ctx, now, now.Add(-Idle)); err != nil {
		return fmt.Errorf("dropping ended sessions: %w", err)
	}
	return nil
}

// SignOut ends the session.
func (s *Sessions) SignOut(ctx context.Context) error {
	if err := s.manager.Destroy(ctx); err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	return nil
}

// User tells who is signed in; false when nobody is, or no longer.
func (s *Sessions) User(ctx context.Context) (User, bool, error) {
	id := s.manager.GetInt64(ctx, "user")
	if id == 0 {
		return User{}, false, nil
	}
	u, err := s.accounts.User(ctx, id)
	if errors.Is(err, store.ErrNoAccount) || err == nil && u.generation != s.manager.GetInt64(ctx, "generation") {
		return User{}, false, nil
	}
	return u, err == nil, err
}

// Still tells whether the session that a long request began with goes on. It
// counts as a use.
func (s *Sessions) Still(ctx context.Context) (bool, error) {
	if _, found, err := s.keep.FindCtx(ctx, s.manager.Token(ctx)); err != nil || !found {
		return false, err
	}
	_, ok, err := s.User(ctx)
	return ok, err
}

// keeper is the store that scs sees: it hashes tokens and holds sessions to
// their idle limit.
type keeper struct {
	store SessionStore
	clock clock.Clock
}

var _ scs.CtxStore = (*keeper)(nil)

func (k *keeper) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	id := sessionID(token)
	s, err := k.store.Session(ctx, id)
	if errors.Is(err, store.ErrNoSession) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	now := k.clock.Now()
	if !now.Before(s.Expires) || now.Sub(s.Seen) >= Idle {
		return nil, false, k.store.DeleteSession(ctx, id)
	}
	if now.Sub(s.Seen) >= seenEvery {
		if err := k.store.SessionSeen(ctx, id, now); err != nil {
			return nil, false, err
		}
	}
	return s.Data, true, nil
}

func (k *keeper) CommitCtx(ctx context.Context, token string, data []byte, expires time.Time) error {
	return k.store.PutSession(ctx, store.Session{ID: sessionID(token), Data: data, Seen: k.clock.Now(), Expires: expires})
}

func (k *keeper) DeleteCtx(ctx context.Context, token string) error {
	return k.store.DeleteSession(ctx, sessionID(token))
}

// sessionID is what the database knows of a token. A token is 32 random bytes,
// so a plain hash cannot be guessed back.
func sessionID(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// scs wants these too and calls the ones above where it has a context, as it
// always does here.
func (k *keeper) Find(token string) ([]byte, bool, error) {
	return k.FindCtx(context.Background(), token)
}

func (k *keeper) Delete(token string) error { return k.DeleteCtx(context.Background(), token) }

func (k *keeper) Commit(token string, data []byte, expires time.Time) error {
	return k.CommitCtx(context.Background(), token, data, expires)
}
