// Package accesstest holds a store of accounts and sessions in memory, for
// tests, and the suite that every such store passes.
package accesstest

import (
	"context"
	"sync"
	"time"

	"penstock/backend/access"
	"penstock/backend/store"
)

// Store is all that package access keeps.
type Store interface {
	access.AccountStore
	access.SessionStore
}

// Memory is a Store that forgets. Its zero value is empty.
type Memory struct {
	mu       sync.Mutex
	accounts []store.Account
	sessions map[string]store.Session
}

var _ Store = (*Memory)(nil)

// AddAccount implements access.AccountStore.
func (m *Memory) AddAccount(_ context.Context, a store.Account) (store.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.find(func(b store.Account) bool { return b.Email == a.Email }) >= 0 {
		return store.Account{}, store.ErrAccountExists
	}
	a.ID, a.Generation = int64(len(m.accounts)+1), 1
	m.accounts = append(m.accounts, a)
	return a, nil
}

// SetPassword implements access.AccountStore.
func (m *Memory) SetPassword(_ context.Context, email, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(func(a store.Account) bool { return a.Email == email })
	if i < 0 {
		return store.ErrNoAccount
	}
	m.accounts[i].Password = hash
	m.accounts[i].Generation++
	return nil
}

// AccountByEmail implements access.AccountStore.
func (m *Memory) AccountByEmail(_ context.Context, email string) (store.Account, error) {
	return m.account(func(a store.Account) bool { return a.Email == email })
}

// AccountByID implements access.AccountStore.
func (m *Memory) AccountByID(_ context.Context, id int64) (store.Account, error) {
	return m.account(func(a store.Account) bool { return a.ID == id })
}

func (m *Memory) account(is func(store.Account) bool) (store.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.find(is); i >= 0 {
		return m.accounts[i], nil
	}
	return store.Account{}, store.ErrNoAccount
}

func (m *Memory) find(is func(store.Account) bool) int {
	for i, a := range m.accounts {
		if is(a) {
			return i
		}
	}
	return -1
}

// PutSession implements access.SessionStore.
func (m *Memory) PutSession(_ context.Context, s store.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions == nil {
		m.sessions = map[string]store.Session{}
	}
	m.sessions[s.ID] = s
	return nil
}

// Session implements access.SessionStore.
func (m *Memory) Session(_ context.Context, id string) (store.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[id]
	if !ok {
		return store.Session{}, store.ErrNoSession
	}
	return s, nil
}

// SessionSeen implements access.SessionStore.
func (m *Memory) SessionSeen(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sessions[id]; ok {
		s.Seen = at
		m.sessions[id] = s
	}
	return nil
}

// DeleteSession implements access.SessionStore.
func (m *Memory) DeleteSession(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, id)
	return nil
}

// DropSessions implements access.SessionStore.
func (m *Memory) DropSessions(_ context.Context, expired, seen time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.sessions {
		if s.Expires.Before(expired) || s.Seen.Before(seen) {
			delete(m.sessions, id)
		}
	}
	return nil
}

// SessionIDs are the ids of all sessions, as the store knows them.
func (m *Memory) SessionIDs() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.sessions {
		ids = append(ids, id)
	}
	return ids
}
