package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Account is somebody who may sign in to the web client.
type Account struct {
	ID         int64
	Email      string // as package access cleans it
	Password   string // argon2id with its parameters and salt
	Role       string
	Generation int64 // grows with each new password
	Added      time.Time
}

// Session is a browser that signed in.
type Session struct {
	ID      string // a hash of the token that the browser holds
	Data    []byte
	Seen    time.Time // last use, to within a minute
	Expires time.Time
}

var (
	ErrAccountExists = errors.New("there is an account of this email already")
	ErrNoAccount     = errors.New("there is no account of this email")
	ErrNoSession     = errors.New("there is no such session")
)

// AddAccount adds an account and returns it with its id. It answers
// ErrAccountExists when the email is taken.
func (s *Store) AddAccount(ctx context.Context, a Account) (Account, error) {
	a.Generation = 1
	err := s.write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO accounts (email, password, role, generation, added) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (email) DO NOTHING RETURNING id`, a.Email, a.Password, a.Role, a.Generation, a.Added.UnixMilli()).Scan(&a.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrAccountExists
		}
		return err
	})
	return a, err
}

// SetPassword replaces the hash of an account's password, by which its sessions
// end. It answers ErrNoAccount when there is none.
func (s *Store) SetPassword(ctx context.Context, email, hash string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE accounts SET password = ?, generation = generation + 1 WHERE email = ?`, hash, email)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return ErrNoAccount
	})
}

// AccountByEmail answers ErrNoAccount when there is none.
func (s *Store) AccountByEmail(ctx context.Context, email string) (Account, error) {
	return s.account(ctx, `email = ?`, email)
}

// AccountByID answers ErrNoAccount when there is none.
func (s *Store) AccountByID(ctx context.Context, id int64) (Account, error) {
	return s.account(ctx, `id = ?`, id)
}

func (s *Store) account(ctx context.Context, which string, arg any) (a Account, err error) {
	var added int64
	err = s.reader.QueryRowContext(ctx, `SELECT id, email, password, role, generation, added FROM accounts WHERE `+which, arg).
		Scan(&a.ID, &a.Email, &a.Password, &a.Role, &a.Generation, &added)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, ErrNoAccount
	}
	a.Added = at(added)
	return a, err
}

// PutSession keeps a session, in place of one of the same id.
func (s *Store) PutSession(ctx context.Context, x Session) error {
	return s.session(ctx, "keeping", `INSERT INTO sessions (id, data, seen, expires) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET data = excluded.data, seen = excluded.seen, expires = excluded.expires`,
		x.ID, x.Data, x.Seen.UnixMilli(), x.Expires.UnixMilli())
}

// Session answers ErrNoSession when there is none of that id.
func (s *Store) Session(ctx context.Context, id string) (Session, error) {
	x := Session{ID: id}
	var seen, expires int64
	err := s.reader.QueryRowContext(ctx, `SELECT data, seen, expires FROM sessions WHERE id = ?`, id).Scan(&x.Data, &seen, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, ErrNoSession
	}
	x.Seen, x.Expires = at(seen), at(expires)
	return x, err
}

// SessionSeen notes a use of a session that is still there.
func (s *Store) SessionSeen(ctx context.Context, id string, seen time.Time) error {
	return s.session(ctx, "noting a use of", `UPDATE sessions SET seen = ? WHERE id = ?`, seen.UnixMilli(), id)
}

// DeleteSession ends a session; that there is none is no error.
func (s *Store) DeleteSession(ctx context.Context, id string) error {
	return s.session(ctx, "ending", `DELETE FROM sessions WHERE id = ?`, id)
}

// DropSessions deletes the sessions that expired before the one time or were
// last seen before the other.
func (s *Store) DropSessions(ctx context.Context, expired, seen time.Time) error {
	return s.session(ctx, "dropping", `DELETE FROM sessions WHERE expires < ? OR seen < ?`, expired.UnixMilli(), seen.UnixMilli())
}

func (s *Store) session(ctx context.Context, doing, statement string, args ...any) error {
	if err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}); err != nil {
		return fmt.Errorf("%s a session: %w", doing, err)
	}
	return nil
}
