package web

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"penstock/backend/access"
	"penstock/backend/problem"
	"penstock/backend/store"
	"penstock/internal/clock"
	"penstock/internal/telemetry"
)

// Store is what the pages read. *store.Store is one.
type Store interface {
	// Gateways lists every gateway, by serial number.
	Gateways(ctx context.Context) ([]store.Gateway, error)
	// Gateway answers store.ErrNoGateway when there is none of that serial number.
	Gateway(ctx context.Context, serial string) (store.Gateway, error)
	// Catalogue is the newest one; an empty one when none has come yet.
	Catalogue(ctx context.Context, serial string) (telemetry.Catalogue, error)
	// Latest is the newest value of each point of that catalogue.
	Latest(ctx context.Context, serial string) ([]store.Value, error)
	// Range is what was read of a point in [from, to], oldest first.
	Range(ctx context.Context, serial, pump, point string, from, to time.Time) ([]store.Sample, error)
	// Gaps are the gap records that touch [from, to], oldest first.
	Gaps(ctx context.Context, serial string, from, to time.Time) ([]telemetry.Gap, error)
	// Alarms are what somebody should look at: two gateways with one identity.
	Alarms(ctx context.Context, serial string) ([]store.Alarm, error)
	// Subscribe tells of every commit and change of state of a gateway. It
	// closes the channel of a reader that is too slow.
	Subscribe(serial string) (updates <-chan store.Update, cancel func())
	// Watch notes that somebody looks at a gateway, for so long from now.
	Watch(ctx context.Context, serial string, lease time.Duration) error
}

var _ Store = (*store.Store)(nil)

// Config is what a Handler is made of.
type Config struct {
	Store    Store
	Accounts *access.Accounts
	Sessions *access.Sessions
	Clock    clock.Clock
	Log      *slog.Logger
}

// Handler serves the web client. It must be reached over TLS only: the cookie
// of a session is sent over nothing else.
type Handler struct {
	store    Store
	accounts *access.Accounts
	sessions *access.Sessions
	clock    clock.Clock
	log      *slog.Logger

	assets *assets
	pages  map[string]*template.Template
	live   *live
	root   http.Handler
}

//go:embed templates
var templateFiles embed.FS

// New makes the handler. Close ends its streams, which an http.Server's
// Shutdown would wait for: hand it to RegisterOnShutdown.
func New(c Config) (*Handler, error) {
	h := &Handler{store: c.Store, accounts: c.Accounts, sessions: c.Sessions, clock: c.Clock, log: c.Log}
	var err error
	if h.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("preparing the pages' files: %w", err)
	}
	h.pages = map[string]*template.Template{}
	layout := template.New("layout.html").Funcs(template.FuncMap{
		"asset":   h.assets.path,
		"instant": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"utc":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" },
	})
	if layout, err = layout.ParseFS(templateFiles, "templates/layout.html"); err != nil {
		return nil, err
	}
	for _, name := range []string{"sign-in", "gateways", "gateway", "problem"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
		}
		if err != nil {
			return nil, err
		}
		h.pages[name] = page
	}
	h.live = newLive(h)
	h.root = h.routes()
	return h, nil
}

// Close ends every live stream and waits for what feeds them.
func (h *Handler) Close() { h.live.close() }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.root.ServeHTTP(w, r) }

func (h *Handler) routes() http.Handler {
	inner := http.NewServeMux() // everything here has its session
	inner.HandleFunc("GET /sign-in", h.signInPage)
	inner.HandleFunc("POST /sign-in", h.signIn)
	inner.HandleFunc("POST /sign-out", h.signOut)
	inner.Handle("GET /{$}", h.page(h.gatewaysPage))
	inner.Handle("GET /gateways/{serial}", h.page(h.gatewayPage))
	inner.Handle("GET /api/gateways", h.api(h.apiGateways))
	inner.Handle("GET /api/gateways/{serial}", h.api(h.apiGateway))
	inner.Handle("GET /api/gateways/{serial}/range", h.api(h.apiRange))
	inner.Handle("GET /api/gateways/{serial}/live", h.api(h.apiLive))
	inner.Handle("/api/", h.api(func(w http.ResponseWriter, r *http.Request, _ access.User) {
		problem.Write(w, http.StatusNotFound, "There is nothing at this address.")
	}))
	inner.Handle("/", h.page(func(w http.ResponseWriter, r *http.Request, _ access.User) {
		h.sorry(w, r, http.StatusNotFound, "Not found", "There is no page at this address.")
	}))

	outer := http.NewServeMux()
	outer.Handle("GET /assets/{name...}", h.assets)
	outer.Handle("/", http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(h.sessions.Wrap(inner), 8<<10)))
	return secure(outer)
}

// policy lets a page load what this server serves and nothing else: no script
// or style within a page, no frame around it, no form to elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY") // for browsers that know no frame-ancestors
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=(), serial=()")
		h.Set("Cache-Control", "no-store") // an asset sets its own
		next.ServeHTTP(w, r)
	})
}

// signedIn is a handler of somebody who is known.
type signedIn func(w http.ResponseWriter, r *http.Request, u access.User)

// page sends whoever is not signed in to the door, and back afterwards.
func (h *Handler) page(next signedIn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok, err := h.sessions.User(r.Context())
		switch {
		case err != nil:
			h.failed(w, r, err)
		case !ok:
			http.Redirect(w, r, signInPath(r.URL.Path), http.StatusSeeOther)
		default:
			next(w, r, u)
		}
	})
}

// api answers whoever is not signed in with a problem.
func (h *Handler) api(next signedIn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok, err := h.sessions.User(r.Context())
		switch {
		case err != nil:
			h.apiFailed(w, r, err)
		case !ok:
			problem.Write(w, http.StatusUnauthorized, "Sign in first.")
		default:
			next(w, r, u)
		}
	})
}

// render writes a page whole or not at all.
func (h *Handler) render(w http.ResponseWriter, r *http.Request, status int, page string, data any) {
	var b bytes.Buffer
	if err := h.pages[page].ExecuteTemplate(&b, page+".html", data); err != nil {
		h.log.ErrorContext(r.Context(), "a page could not be made", "page", page, "err", err)
		http.Error(w, "This page could not be made. The server's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes()) //nolint:errcheck // the browser went away
}

func (h *Handler) sorry(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	h.render(w, r, status, "problem", struct{ Title, Text string }{title, text})
}

// failed is for what is our fault: the log says what, the page that it is.
func (h *Handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	h.logFailure(r, err)
	h.sorry(w, r, http.StatusInternalServerError, "Something went wrong",
		"The page could not be made. The server's log says why. Try again in a minute.")
}

func (h *Handler) logFailure(r *http.Request, err error) {
	if r.Context().Err() == nil { // else the browser went away, which is no failure
		h.log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "err", err)
	}
}
