package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"penstock/backend/access"
	"penstock/backend/store"
)

type signInData struct{ Title, Problem, Next, Email string }

func signInPath(next string) string {
	if next = localPath(next); next == "/" {
		return "/sign-in"
	}
	return "/sign-in?next=" + url.QueryEscape(next)
}

// localPath keeps a path of this server and turns anything else into "/", so
// that a link to the sign-in cannot lead elsewhere ("//evil.example", "/\evil").
func localPath(p string) string {
	u, err := url.Parse(p)
	if err != nil || u.IsAbs() || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") ||
		strings.HasPrefix(u.Path, "//") || strings.ContainsAny(p, "\\\r\n\t") || strings.HasPrefix(u.Path, "/sign-") {
		return "/"
	}
	return u.EscapedPath()
}

func (h *Handler) signInPage(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if _, ok, err := h.sessions.User(r.Context()); err != nil {
		h.failed(w, r, err)
	} else if ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
	} else {
		h.render(w, r, http.StatusOK, "sign-in", signInData{Title: "Sign in", Next: next})
	}
}

func (h *Handler) signIn(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		h.sorry(w, r, http.StatusBadRequest, "Sign-in failed", "The form could not be read.")
		return
	}
	next, email := localPath(r.PostForm.Get("next")), r.PostForm.Get("email")
	u, err := h.accounts.Verify(r.Context(), email, r.PostForm.Get("password"),
		access.Origin{Addr: remoteAddr(r), Device: access.DeviceOf(r)})
	switch {
	case errors.Is(err, access.ErrRefused):
		text := err.Error()
		h.render(w, r, http.StatusUnauthorized, "sign-in", signInData{
			Title: "Sign in", Problem: strings.ToUpper(text[:1]) + text[1:] + ".", Next: next, Email: email,
		})
		return
	case err != nil:
		h.failed(w, r, err)
		return
	}
	if err := h.sessions.SignIn(r.Context(), u); err != nil {
		h.failed(w, r, err)
		return
	}
	http.SetCookie(w, h.accounts.DeviceCookie(u))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // counted together
	}
	return ap.Addr()
}

func (h *Handler) signOut(w http.ResponseWriter, r *http.Request) {
	if err := h.sessions.SignOut(r.Context()); err != nil {
		h.failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

type gatewaysData struct {
	Title    string
	User     access.User
	Count    string
	Gateways []summaryView
}

func (h *Handler) gatewaysPage(w http.ResponseWriter, r *http.Request, u access.User) {
	list, err := h.summaries(r.Context())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	h.render(w, r, http.StatusOK, "gateways", gatewaysData{Title: "Gateways", User: u, Count: count(list), Gateways: list})
}

func count(list []summaryView) string {
	offline := 0
	for _, g := range list {
		if !g.Online {
			offline++
		}
	}
	switch {
	case len(list) == 0:
		return ""
	case offline == 0:
		return fmt.Sprintf("%d, all online", len(list))
	}
	return fmt.Sprintf("%d, of which %d offline", len(list), offline)
}

type gatewayData struct {
	Title   string
	User    access.User
	Gateway gatewayView
}

func (h *Handler) gatewayPage(w http.ResponseWriter, r *http.Request, u access.User) {
	v, err := h.gateway(r)
	switch {
	case errors.Is(err, store.ErrNoGateway):
		h.sorry(w, r, http.StatusNotFound, "Not found", "There is no gateway of this serial number.")
	case err != nil:
		h.failed(w, r, err)
	default:
		h.render(w, r, http.StatusOK, "gateway", gatewayData{Title: v.Serial, User: u, Gateway: v})
	}
}

// gateway is the one that a request names.
func (h *Handler) gateway(r *http.Request) (gatewayView, error) {
	gw, err := h.store.Gateway(r.Context(), r.PathValue("serial"))
	if err != nil {
		return gatewayView{}, err
	}
	return h.view(r.Context(), gw)
}
