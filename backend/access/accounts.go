package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"

	"penstock/backend/store"
	"penstock/internal/clock"
)

// Role says what an account may do.
type Role string

const (
	Administrator Role = "administrator"
	Viewer        Role = "viewer"
)

// ErrRefused is the one answer to a sign-in that fails: no such account, wrong
// password or too many attempts. Nothing tells which.
var ErrRefused = errors.New("email or password is wrong, or there were too many attempts; wait a minute and try again")

// A password is long rather than intricate (NIST SP 800-63B, section 3.1.1.2);
// the upper bound keeps hashing bounded.
const (
	MinPassword = 12  // characters
	MaxPassword = 256 // bytes
)

// User is somebody who has an account.
type User struct {
	ID    int64
	Email string
	Role  Role

	generation int64             // of the password, see store.Account
	deviceKey  [sha256.Size]byte // seals the cookies of the browsers that it is known in
}

// Origin is where a sign-in comes from.
type Origin struct {
	Addr netip.Addr
	// Device is what DeviceOf found. A browser that has signed in to the account
	// before has a budget of attempts of its own, so that nobody can lock a person
	// out by guessing from elsewhere. It still takes the password.
	Device string
}

// AccountStore keeps accounts. *store.Store is one.
type AccountStore interface {
	// AddAccount answers store.ErrAccountExists when the email is taken.
	AddAccount(ctx context.Context, a store.Account) (store.Account, error)
	// SetPassword answers store.ErrNoAccount when there is none of that email.
	SetPassword(ctx context.Context, email, hash string) error
	// AccountByEmail and AccountByID answer store.ErrNoAccount when there is none.
	AccountByEmail(ctx context.Context, email string) (store.Account, error)
	AccountByID(ctx context.Context, id int64) (store.Account, error)
}

// Params is argon2id as RFC 9106, section 4, recommends it second (64 MiB).
var Params = argon2id.Params{Memory: 64 << 10, Iterations: 3, Parallelism: 4, SaltLength: 16, KeyLength: 32}

// Accounts makes accounts and verifies passwords.
type Accounts struct {
	store  AccountStore
	clock  clock.Clock
	log    *slog.Logger
	params argon2id.Params
	decoy  string        // hash of a password that nobody has, at the same cost
	hashes chan struct{} // bounds memory: one slot for each hash that is computed at a time

	byAccount, byDevice, byAddress, byNetwork *limiter
}

// NewAccounts keeps its accounts in s. Params may be the zero value for those
// of the package.
func NewAccounts(s AccountStore, c clock.Clock, log *slog.Logger, p argon2id.Params) (*Accounts, error) {
	if p == (argon2id.Params{}) {
		p = Params
	}
	decoy, err := argon2id.CreateHash("", &p)
	if err != nil {
		return nil, fmt.Errorf("hashing a password: %w", err)
	}
	return &Accounts{
		store: s, clock: c, log: log, params: p, decoy: decoy, hashes: make(chan struct{}, 2),
		byAccount: newLimiter(perAccount), byDevice: newLimiter(perDevice),
		byAddress: newLimiter(perAddress), byNetwork: newLimiter(perNetwork),
	}, nil
}

// CleanEmail is the one way in which an address is kept: without spaces around
// it, in lower case.
func CleanEmail(email string) (string, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > 254 {
		return "", fmt.Errorf("%q is not an email address such as name@example.org", email)
	}
	return email, nil
}

func checkPassword(password string) error {
	switch {
	case !utf8.ValidString(password):
		return errors.New("the password is not valid UTF-8")
	case utf8.RuneCountInString(password) < MinPassword:
		return fmt.Errorf("the password has fewer than %d characters; a few unrelated words make a good one", MinPassword)
	case len(password) > MaxPassword:
		return fmt.Errorf("the password has more than %d bytes", MaxPassword)
	}
	return nil
}

// Add makes an account. It answers store.ErrAccountExists when the email is taken.
func (a *Accounts) Add(ctx context.Context, email, password string, role Role) (User, error) {
	email, err := CleanEmail(email)
	if err != nil {
		return User{}, err
	}
	if role != Administrator && role != Viewer {
		return User{}, fmt.Errorf("%q is not a role; there are %s and %s", role, Administrator, Viewer)
	}
	hash, err := a.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	acc, err := a.store.AddAccount(ctx, store.Account{Email: email, Password: hash, Role: string(role), Added: a.clock.Now()})
	if err != nil {
		return User{}, fmt.Errorf("adding the account %s: %w", email, err)
	}
	return userOf(acc), nil
}

// SetPassword gives an account another password and ends all its sessions. It
// answers store.ErrNoAccount when there is none.
func (a *Accounts) SetPassword(ctx context.Context, email, password string) error {
	email, err := CleanEmail(email)
	if err != nil {
		return err
	}
	hash, err := a.hash(ctx, password)
	if err != nil {
		return err
	}
	if err := a.store.SetPassword(ctx, email, hash); err != nil {
		return fmt.Errorf("setting the password of %s: %w", email, err)
	}
	return nil
}

func (a *Accounts) hash(ctx context.Context, password string) (hash string, err error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	err = a.oneOfFew(ctx, func() error {
		hash, err = argon2id.CreateHash(password, &a.params)
		return err
	})
	return hash, err
}

// oneOfFew waits for one of the few slots in which a hash may be computed.
func (a *Accounts) oneOfFew(ctx context.Context, f func() error) error {
	select {
	case a.hashes <- struct{}{}:
		defer func() { <-a.hashes }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Verify is the sign-in by password. It answers ErrRefused whatever the reason; another error means that the store failed.
func (a *Accounts) Verify(ctx context.Context, email, password string, from Origin) (User, error) {
	now := a.clock.Now()
	email = strings.ToLower(strings.TrimSpace(email))
	if len(email) > 254 || len(password) > MaxPassword {
		return User{}, ErrRefused
	}
	if allowed, err := a.mayTry(ctx, email, from, now); err != nil {
		return User{}, err
	} else if !allowed {
		a.log.WarnContext(ctx, "sign-in refused: too many attempts", "email", email, "from", from.Addr)
		return User{}, ErrRefused
	}

	acc, err := a.store.AccountByEmail(ctx, email)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNoAccount) {
		return User{}, fmt.Errorf("looking up an account: %w", err)
	}
	hash := acc.Password
	if !known {
		hash = a.decoy
	}
	match := false
	if err := a.oneOfFew(ctx, func() (err error) {
		match, err = argon2id.ComparePasswordAndHash(password, hash)
		return err
	}); err != nil {
		return User{}, fmt.Errorf("checking the password of %s: %w", email, err)
	}
	if !known || !match {
		a.log.WarnContext(ctx, "sign-in refused: no such account or wrong password", "email", email, "from", from.Addr)
		return User{}, ErrRefused
	}
	a.log.InfoContext(ctx, "signed in", "email", email, "from", from.Addr)
	return userOf(acc), nil
}

// mayTry counts an attempt, against the browser where it is known to the account,
// and otherwise against the account. What an address may not do counts against
// no account: it would only lock its owner out.
func (a *Accounts) mayTry(ctx context.Context, email string, from Origin, now time.Time) (bool, error) {
	// Only what looks like our cookie is worth a look at the account.
	if _, _, _, ours := splitDevice(from.Device); ours && a.byNetwork.allow("device "+networkKey(from.Addr), now) {
		acc, err := a.store.AccountByEmail(ctx, email)
		if err != nil && !errors.Is(err, store.ErrNoAccount) {
			return false, fmt.Errorf("looking up an account: %w", err)
		}
		if err == nil {
			if id, known := knows(userOf(acc), from.Device, now); known {
				return a.byDevice.allow(id, now), nil
			}
		}
	}
	return a.byAddress.allow(addressKey(from.Addr), now) && a.byNetwork.allow(networkKey(from.Addr), now) &&
		a.byAccount.allow(email, now), nil
}

// User is an account as it is now; store.ErrNoAccount when it is gone.
func (a *Accounts) User(ctx context.Context, id int64) (User, error) {
	acc, err := a.store.AccountByID(ctx, id)
	if err != nil {
		return User{}, err
	}
	return userOf(acc), nil
}

func userOf(a store.Account) User {
	return User{ID: a.ID, Email: a.Email, Role: Role(a.Role), generation: a.Generation, deviceKey: deviceKey(a.Password)}
}
