package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// DeviceCookieName is the cookie by which a browser is known that has signed in
	// before. It opens nothing; see Origin.
	DeviceCookieName = "__Host-penstock-known"
	// deviceLife is how long a browser is known after its last sign-in.
	deviceLife = 365 * 24 * time.Hour
)

// DeviceCookie makes the browser known from which u has just signed in.
func (a *Accounts) DeviceCookie(u User) *http.Cookie {
	text := rand.Text() + "." + strconv.FormatInt(a.clock.Now().Unix(), 10)
	return &http.Cookie{
		Name: DeviceCookieName, Value: text + "." + sealDevice(u.deviceKey, u.Email, text), Path: "/",
		MaxAge: int(deviceLife / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// DeviceOf is the Device of a request's Origin.
func DeviceOf(r *http.Request) string {
	c, err := r.Cookie(DeviceCookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

// deviceKey is the key that seals an account's devices. Its secret is the hash of
// the password: no other has to be kept, and another password makes every browser
// unknown. Whoever could read that hash could guess without asking us.
func deviceKey(passwordHash string) [sha256.Size]byte {
	return sha256.Sum256([]byte("penstock known browser\x00" + passwordHash))
}

func sealDevice(key [sha256.Size]byte, email, text string) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(email + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// splitDevice takes a cookie's value apart; false when it is none of ours by its
// form alone.
func splitDevice(value string) (text, seal string, made time.Time, ok bool) {
	parts := strings.Split(value, ".")
	if len(value) > 200 || len(parts) != 3 {
		return "", "", time.Time{}, false
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0] + "." + parts[1], parts[2], time.Unix(seconds, 0), err == nil
}

// knows tells whether a browser signed in to that account within deviceLife.
func knows(u User, device string, now time.Time) (id string, ok bool) {
	text, seal, made, ok := splitDevice(device)
	if !ok || now.Sub(made) >= deviceLife {
		return "", false
	}
	return text, hmac.Equal([]byte(seal), []byte(sealDevice(u.deviceKey, u.Email, text)))
}
