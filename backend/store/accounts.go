package store

import (
	"errors"
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
