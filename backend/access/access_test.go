package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"

	"penstock/backend/access"
	"penstock/backend/access/accesstest"
	"penstock/backend/store"
	"penstock/internal/clock"
)

// cheap is argon2id at a cost that tests can bear.
var cheap = argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

const (
	email    = "ann@example.org"
	password = "correct horse battery"
)

var here = netip.MustParseAddr("192.0.2.7")

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func accounts(t *testing.T, s access.AccountStore, log *slog.Logger) *access.Accounts {
	t.Helper()
	a, err := access.NewAccounts(s, clock.System, log, cheap)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMemoryConforms(t *testing.T) {
	accesstest.Conform(t, func(*testing.T) accesstest.Store { return &accesstest.Memory{} })
}

func TestOnlyTheRightPasswordSignsIn(t *testing.T) {
	ctx := t.Context()
	a := accounts(t, &accesstest.Memory{}, quiet())
	if _, err := a.Add(ctx, " Ann@Example.org ", password, access.Viewer); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		email, password string
		ok              bool
	}{
		{email, password, true},
		{"ANN@example.org ", password, true},
		{email, password + "x", false},
		{email, "", false},
		{"bob@example.org", password, false},
		{"bob@example.org", "", false}, // the decoy is a hash of ""
		{email, strings.Repeat("x", 1000), false},
		{"", "", false},
	} {
		u, err := a.Verify(ctx, tc.email, tc.password, access.Origin{Addr: here})
		if tc.ok && (err != nil || u.Email != email || u.Role != access.Viewer) {
			t.Errorf("%q, %q: %+v, %v", tc.email, tc.password, u, err)
		}
		if !tc.ok && !errors.Is(err, access.ErrRefused) {
			t.Errorf("%q, %q: %+v, %v", tc.email, tc.password, u, err)
		}
	}
}

func TestAnAccountNeedsAnAddressAPasswordAndARole(t *testing.T) {
	a := accounts(t, &accesstest.Memory{}, quiet())
	for _, tc := range []struct {
		email, password string
		role            access.Role
		says            string
	}{
		{"ann", password, access.Viewer, "not an email address"},
		{"Ann <ann@example.org>", password, access.Viewer, "not an email address"},
		{email, "short", access.Viewer, "fewer than 12"},
		{email, strings.Repeat("x", 257), access.Viewer, "more than 256"},
		{email, "twelve bytes\xff", access.Viewer, "UTF-8"},
		{email, password, "owner", "not a role"},
	} {
		if _, err := a.Add(t.Context(), tc.email, tc.password, tc.role); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q, %q, %q: %v; want %q", tc.email, tc.password, tc.role, err, tc.says)
		}
	}
	if _, err := a.Add(t.Context(), email, password, access.Administrator); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Add(t.Context(), "ANN@EXAMPLE.ORG", password, access.Viewer); !errors.Is(err, store.ErrAccountExists) {
		t.Errorf("the same address again: %v", err)
	}
	if err := a.SetPassword(t.Context(), "bob@example.org", password); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("a password for nobody: %v", err)
	}
}

// counting tells how many accounts were looked up: a refused attempt must not
// get that far.
type counting struct {
	accesstest.Memory
	lookups int
}

func (c *counting) AccountByEmail(ctx context.Context, email string) (store.Account, error) {
	c.lookups++
	return c.Memory.AccountByEmail(ctx, email)
}

func TestTooManyAttemptsAreRefusedWithTheRightPasswordToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counting{}
		a := accounts(t, s, quiet())
		if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
			t.Fatal(err)
		}
		// From ever other addresses: the account's own limit holds.
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
		for i := range 10 {
			if _, err := a.Verify(t.Context(), email, "a wrong password", access.Origin{Addr: addr(i)}); !errors.Is(err, access.ErrRefused) {
				t.Fatal(err)
			}
		}
		looked := s.lookups
		for i := range 5 {
			if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: addr(100 + i)}); !errors.Is(err, access.ErrRefused) {
				t.Fatalf("attempt beyond the limit: %v", err)
			}
		}
		if s.lookups != looked {
			t.Error("a refused attempt was looked up: its time tells that it was")
		}
		time.Sleep(time.Minute)
		if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: here}); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestAnAddressThatTriesManyAccountsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := accounts(t, &accesstest.Memory{}, quiet())
		if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
			t.Fatal(err)
		}
		// One IPv6 customer has a whole network of 64 bits.
		for i := range 30 {
			from := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
			if _, err := a.Verify(t.Context(), fmt.Sprintf("user%d@example.org", i), "a wrong password", access.Origin{Addr: from}); !errors.Is(err, access.ErrRefused) {
				t.Fatal(err)
			}
		}
		if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: netip.MustParseAddr("2001:db8::ffff")}); !errors.Is(err, access.ErrRefused) {
			t.Errorf("the 31st attempt of the network: %v", err)
		}
		if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: here}); err != nil {
			t.Errorf("somebody elsewhere: %v", err)
		}
		// An IPv4 address written as IPv6 is the same address.
		mapped := netip.MustParseAddr("::ffff:203.0.113.9")
		for range 30 {
			a.Verify(t.Context(), "x@example.org", "a wrong password", access.Origin{Addr: mapped})
		}
		if _, err := a.Verify(t.Context(), email, password, access.Origin{Addr: mapped.Unmap()}); !errors.Is(err, access.ErrRefused) {
			t.Errorf("the same address in its other form: %v", err)
		}
	})
}

func TestAnUnknownAddressCostsAHashToo(t *testing.T) {
	s := &accesstest.Memory{}
	dear := argon2id.Params{Memory: 16 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	a, err := access.NewAccounts(s, clock.System, quiet(), dear)
	if err != nil {
		t.Fatal(err)
	}
	// 16 MiB for each hash show in what was allocated, whatever the machine does
	// meanwhile; time would not tell as surely.
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := a.Verify(b.Context(), fmt.Sprintf("%d@example.org", b.N), "x", access.Origin{Addr: netip.AddrFrom4([4]byte{10, byte(b.N >> 16), byte(b.N >> 8), byte(b.N)})}); !errors.Is(err, access.ErrRefused) {
				b.Fatal(err)
			}
			if b.N > 5 {
				break
			}
		}
	})
	if allocated.MemBytes < 16<<20 {
		t.Errorf("an unknown address took %d bytes: no hash was computed", allocated.MemBytes)
	}
}

// site is a server with sessions: / tells who is signed in, /in signs in, /out
// signs out.
func site(t *testing.T, s accesstest.Store, log *slog.Logger) (*access.Accounts, *access.Sessions, http.Handler) {
	t.Helper()
	a := accounts(t, s, log)
	if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
		t.Fatal(err)
	}
	ss := access.NewSessions(s, a, clock.System, log)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u, ok, err := ss.User(r.Context())
		if err != nil {
			t.Error(err)
		}
		if still, err := ss.Still(r.Context()); err != nil || still != ok {
			t.Errorf("signed in is %v, still %v, %v", ok, still, err)
		}
		fmt.Fprint(w, u.Email)
	})
	mux.HandleFunc("/in", func(w http.ResponseWriter, r *http.Request) {
		u, err := a.Verify(r.Context(), email, password, access.Origin{Addr: here})
		if err == nil {
			err = ss.SignIn(r.Context(), u)
		}
		if err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/out", func(w http.ResponseWriter, r *http.Request) {
		if err := ss.SignOut(r.Context()); err != nil {
			t.Error(err)
		}
	})
	return a, ss, ss.Wrap(mux)
}

// ask sends one request with a cookie and returns the body and the new cookie.
func ask(h http.Handler, path string, cookie *http.Cookie) (string, *http.Cookie) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		return w.Body.String(), c
	}
	return w.Body.String(), nil
}

func TestTheCookieIsForThisHostOverTLSOnly(t *testing.T) {
	s := &accesstest.Memory{}
	_, _, h := site(t, s, quiet())
	_, c := ask(h, "/in", nil)
	if c == nil {
		t.Fatal("no cookie")
	}
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("got %v", c)
	}
	for _, id := range s.SessionIDs() {
		if id == c.Value || strings.Contains(c.Value, id) {
			t.Error("the database holds the very token")
		}
	}
	if body, _ := ask(h, "/", c); body != email {
		t.Errorf("got %q", body)
	}
}

func TestSigningInGivesANewToken(t *testing.T) {
	_, _, h := site(t, &accesstest.Memory{}, quiet())
	_, planted := ask(h, "/in", nil)
	_, fresh := ask(h, "/in", planted)
	if fresh == nil || fresh.Value == planted.Value {
		t.Fatalf("got %v after %v", fresh, planted)
	}
	if body, _ := ask(h, "/", planted); body != "" {
		t.Errorf("the token from before signs in as %q", body)
	}
	made := &http.Cookie{Name: access.CookieName, Value: "made-up-by-somebody-else"}
	if _, c := ask(h, "/in", made); c.Value == made.Value {
		t.Error("a token made up by somebody else was taken over")
	}
}

func TestASessionEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(t *testing.T, a *access.Accounts, h http.Handler, c *http.Cookie)
		signed bool
	}{
		"not by being used now and then": {func(t *testing.T, _ *access.Accounts, h http.Handler, c *http.Cookie) {
			for range 10 {
				time.Sleep(access.Idle - time.Hour)
				if body, _ := ask(h, "/", c); body != email {
					t.Fatalf("got %q", body)
				}
			}
		}, true},
		"unused": {func(*testing.T, *access.Accounts, http.Handler, *http.Cookie) { time.Sleep(access.Idle) }, false},
		"after its lifetime, however much it is used": {func(t *testing.T, _ *access.Accounts, h http.Handler, c *http.Cookie) {
			for range int(access.Lifetime / (access.Idle / 2)) {
				time.Sleep(access.Idle / 2)
				ask(h, "/", c)
			}
		}, false},
		"by signing out": {func(t *testing.T, _ *access.Accounts, h http.Handler, c *http.Cookie) {
			if _, gone := ask(h, "/out", c); gone == nil || gone.MaxAge >= 0 {
				t.Errorf("the browser keeps its cookie: %v", gone)
			}
		}, false},
		"by another password": {func(t *testing.T, a *access.Accounts, _ http.Handler, _ *http.Cookie) {
			if err := a.SetPassword(t.Context(), email, "another password"); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _, h := site(t, &accesstest.Memory{}, quiet())
				_, c := ask(h, "/in", nil)
				tc.end(t, a, h, c)
				if body, _ := ask(h, "/", c); (body == email) != tc.signed {
					t.Errorf("signed in as %q", body)
				}
			})
		})
	}
}

func TestARequestUnderWayDoesNotUndoASignOut(t *testing.T) {
	s := &accesstest.Memory{}
	_, ss, h := site(t, s, quiet())
	_, c := ask(h, "/in", nil)
	slow := ss.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask(h, "/out", c) // meanwhile, in another tab
		fmt.Fprint(w, "done")
	}))
	ask(slow, "/", c)
	if body, _ := ask(h, "/", c); body != "" {
		t.Errorf("still signed in as %q", body)
	}
	if ids := s.SessionIDs(); len(ids) != 0 {
		t.Errorf("sessions left: %v", ids)
	}
}

func TestPasswordsAreInNoLog(t *testing.T) {
	var log bytes.Buffer
	a := accounts(t, &accesstest.Memory{}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if _, err := a.Add(t.Context(), email, password, access.Viewer); err != nil {
		t.Fatal(err)
	}
	a.Verify(t.Context(), email, password, access.Origin{Addr: here})
	a.Verify(t.Context(), email, "a wrong password", access.Origin{Addr: here})
	a.Verify(t.Context(), "nobody@example.org", "a wrong password", access.Origin{Addr: here})
	if !strings.Contains(log.String(), email) {
		t.Error("nothing was logged")
	}
	if strings.Contains(log.String(), password) || strings.Contains(log.String(), "a wrong password") {
		t.Errorf("a password was logged:\n%s", &log)
	}
}
