package access_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/backend/access"
	"penstock/backend/access/accesstest"
	"penstock/backend/store"
)

// targeted counts how often somebody got as far as the password of one account.
type targeted struct {
	accesstest.Memory
	guesses int
}

func (s *targeted) AccountByEmail(ctx context.Context, e string) (store.Account, error) {
	if e == email {
		s.guesses++
	}
	return s.Memory.AccountByEmail(ctx, e)
}

// Between guesses at one account, made-up accounts are tried from many addresses,
// so that a limiter that has room for so many forgets the account that is meant.
func TestAttackTheLimitOfAnAccountIsNotFlushed(t *testing.T) {
	for name, from := range map[string]func(i int) netip.Addr{
		"from a network of 48 bits":   func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:7:%x::1", i&0xffff)) },
		"from many addresses of IPv4": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &targeted{}
				a := accounts(t, s, quiet())
				if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
					t.Fatal(err)
				}
				for i := range 15_000 {
					who := fmt.Sprintf("made-up-%d@example.org", i)
					if i%50 == 0 {
						who = email
					}
					if _, err := a.Verify(t.Context(), who, "a wrong password", access.Origin{Addr: from(i)}); !errors.Is(err, access.ErrRefused) {
						t.Fatal(err)
					}
				}
				if s.guesses < 1 || s.guesses > 10 {
					t.Errorf("%d guesses at one account; want 1 to 10", s.guesses)
				}
			})
		})
	}
}

// signInOnce signs in and returns the cookie that the browser keeps.
func signInOnce(t *testing.T, a *access.Accounts) string {
	t.Helper()
	u, err := a.Verify(t.Context(), email, password, access.Origin{Addr: here})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	http.SetCookie(w, a.DeviceCookie(u))
	r := httptest.NewRequest(http.MethodPost, "/sign-in", nil)
	c := w.Result().Cookies()[0]
	if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %+v", c)
	}
	r.AddCookie(c)
	return access.DeviceOf(r)
}

func TestAttackNobodyLocksTheOwnerOutOfABrowserThatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := accounts(t, &accesstest.Memory{}, quiet())
		if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
			t.Fatal(err)
		}
		device := signInOnce(t, a)
		refused := 0
		for i := range 300 { // a guess every two seconds, each from another address, and from the owner's too
			for _, from := range []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), here} {
				a.Verify(t.Context(), email, "a wrong password", access.Origin{Addr: from}) //nolint:errcheck // refused either way
			}
			if time.Sleep(2 * time.Second); i%28 != 27 {
				continue
			}
			if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: here, Device: device}); err != nil {
				t.Errorf("the owner's own browser after %d guesses: %v", i, err)
			}
			if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: netip.MustParseAddr("203.0.113.1")}); err != nil {
				refused++
			}
		}
		if refused == 0 {
			t.Error("the account's own limit never held: this test shows nothing")
		}
	})
}

func TestAttackACookieOfAKnownBrowserOpensNothingAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := accounts(t, &accesstest.Memory{}, quiet())
		for _, e := range []string{email, "bob@example.org"} {
			if _, err := a.Add(t.Context(), e, password, access.Viewer); err != nil {
				t.Fatal(err)
			}
		}
		device := signInOnce(t, a)
		spend := func() { // what the account allows
			for i := range 20 {
				a.Verify(t.Context(), email, "a wrong password", access.Origin{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}) //nolint:errcheck // refused either way
			}
		}
		passes := func(device string) bool {
			_, err := a.Verify(t.Context(), email, password, access.Origin{Addr: netip.MustParseAddr("203.0.113.1"), Device: device})
			return err == nil
		}
		spend()
		parts := strings.Split(device, ".")
		for name, forged := range map[string]string{
			"none": "", "rubbish": "x", "another id": "A" + device, "another date": parts[0] + ".99999999999." + parts[2],
			"another seal": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		} {
			if passes(forged) {
				t.Errorf("a cookie with %s is taken for a known browser", name)
			}
		}
		if !passes(device) {
			t.Error("the real cookie is not known")
		}
		// A stolen cookie buys the budget of one browser.
		for range 20 {
			a.Verify(t.Context(), email, "a wrong password", access.Origin{Addr: here, Device: device}) //nolint:errcheck // refused either way
		}
		if passes(device) {
			t.Error("a known browser may guess for ever")
		}
		time.Sleep(time.Hour)
		// It is the account's own: another one does not know it, nor does this one
		// after the password has changed.
		if err := a.SetPassword(t.Context(), email, password+" and more"); err != nil {
			t.Fatal(err)
		}
		spend()
		if _, err := a.Verify(t.Context(), email, password+" and more", access.Origin{Addr: netip.MustParseAddr("203.0.113.2"), Device: device}); err == nil {
			t.Error("a browser is still known after the password has changed")
		}
	})
}
