// Package auth is the auth service: it tells a gateway which endpoint to use.
//
// A gateway reaches it over HTTPS and shows its certificate, which the handshake
// has verified before a request is read; that a certificate is not revoked is
// checked there, too. What is left for HTTP is to know the gateway and to read its
// question. Whatever is wrong with either is answered with a problem (RFC 9457)
// that says what, so that somebody at a bench with curl can go on.
package auth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"penstock/backend/est"
	"penstock/backend/problem"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
)

// Store knows the gateways.
type Store interface {
	// Admit is nil when the gateway may come in with the certificate of that number
	// and content, store.ErrNoGateway when the gateway is unknown, store.ErrNotIssued
	// when the certificate is, or a *store.RevokedError.
	Admit(ctx context.Context, serial, number string, der []byte) error
}

// Config is what the service is made of.
type Config struct {
	Store    Store
	Endpoint string // that gateways are told, such as mqtts://host:8883
	// Certificate is what the server shows; it signs the time with its key.
	Certificate func() (*tls.Certificate, error)
	Clock       clock.Clock
	Log         *slog.Logger
	EST         *est.Server
	Roots       Roots
	// Guard keeps a clock that is wrong from being signed; nil: every time is signed.
	Guard *TimeGuard
}

// AssignmentLife is how long a gateway uses an answer before it asks again.
const AssignmentLife = 7 * 24 * time.Hour

// maxQuestion bounds what a gateway may send: a host name has 253 bytes at most.
const maxQuestion = 4 << 10

type service struct{ Config }

// New makes the service's handler. It must be reached under pki.ForGateways only.
func New(c Config) http.Handler {
	s := &service{c}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/assignment", s.known(s.only(pki.Operational, s.assign)))
	mux.HandleFunc("POST /v1/time", s.known(s.time))
	if c.Roots != nil {
		mux.HandleFunc("GET /v1/roots", s.known(s.roots))
	}
	mux.HandleFunc("/v1/assignment", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		problem.Write(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here; allowed: POST")
	})
	if c.EST != nil {
		c.EST.Mount(mux, func(next est.Handler) http.HandlerFunc { return s.known(next) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, http.StatusNotFound, "There is nothing at "+r.URL.Path+"; there are /v1/assignment, /v1/time, /v1/roots and /.well-known/est.")
	})
	return mux
}

type gatewayHandler func(w http.ResponseWriter, r *http.Request, g pki.Gateway)

// known lets requests of gateways pass that the backend knows. What has changed since
// the handshake counts: the connection may be an hour old, and a gateway that was
// unknown may be known by now, with another certificate than it shows.
func (s *service) known(next gatewayHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			problem.Write(w, http.StatusForbidden, "This service is for gateways, over TLS.")
			return
		}
		g, err := pki.Peer(*r.TLS)
		if err != nil {
			problem.Write(w, http.StatusForbidden, "The certificate is not a gateway's: "+err.Error())
			return
		}
		leaf := r.TLS.PeerCertificates[0]
		err = s.Store.Admit(r.Context(), g.Serial, pki.Number(leaf), leaf.Raw)
		var revoked *store.RevokedError
		switch {
		case errors.Is(err, store.ErrNoGateway):
			s.Log.Warn("an unknown gateway asked", "gateway", g.Serial, "remote", r.RemoteAddr)
			problem.Write(w, http.StatusForbidden, "Gateway "+g.Serial+" is not known here: its certificate was issued, but it was never registered.")
		case errors.Is(err, store.ErrNotIssued):
			s.Log.Warn("a certificate that the registry has not issued", "gateway", g.Serial, "certificate", pki.Number(leaf), "remote", r.RemoteAddr)
			problem.Write(w, http.StatusForbidden, "Gateway "+g.Serial+" is known here, but the registry has not issued the certificate that it shows.")
		case errors.As(err, &revoked):
			s.Log.Warn("a revoked gateway asked", "gateway", g.Serial, "remote", r.RemoteAddr)
			problem.Write(w, http.StatusForbidden, "Gateway "+g.Serial+" is revoked.")
		case err != nil:
			s.Log.Error("a gateway could not be looked up", "gateway", g.Serial, "err", err)
			w.Header().Set("Retry-After", "30")
			problem.Write(w, http.StatusServiceUnavailable, "The service cannot look gateways up at the moment.")
		default:
			next(w, r, g)
		}
	}
}

// advice is what somebody can do who shows a certificate of another role.
var advice = map[pki.Role]string{
	pki.Operational: " POST /.well-known/est/simpleenroll issues one for a factory identity.",
}

// only lets requests pass that were made with a certificate of that role.
func (s *service) only(role pki.Role, next gatewayHandler) gatewayHandler {
	return func(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
		if err := g.Must(role); err != nil {
			s.Log.Warn("a certificate of the wrong role", "gateway", g.Serial, "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
			problem.Write(w, http.StatusForbidden, err.Error()+" for "+r.URL.Path+"."+advice[role])
			return
		}
		next(w, r, g)
	}
}

func (s *service) assign(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
	failed, status, err := readQuestion(r)
	if err != nil {
		s.Log.Info("a malformed request", "gateway", g.Serial, "remote", r.RemoteAddr, "err", err)
		problem.Write(w, status, err.Error())
		return
	}
	if failed != "" {
		s.Log.Warn("a gateway cannot reach its endpoint", "gateway", g.Serial, "endpoint", failed)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the gateway went away
		"endpoint": s.Endpoint,
		"expires":  s.Clock.Now().Add(AssignmentLife).UTC().Truncate(time.Second),
	})
}

// readQuestion reads {"failed":"host:port"}; the field, and the whole body, may
// be left out. Fields of newer gateways are passed over.
func readQuestion(r *http.Request) (failed string, status int, err error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion+1))
	if err != nil {
		return "", http.StatusBadRequest, fmt.Errorf("reading the body: %w", err)
	}
	if len(body) > maxQuestion {
		return "", http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", maxQuestion)
	}
	if len(body) == 0 {
		return "", 0, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("content type %q; this service reads application/json", r.Header.Get("Content-Type"))
	}
	var question *struct {
		Failed string `json:"failed"`
	}
	if err := json.Unmarshal(body, &question); err != nil {
		return "", http.StatusBadRequest, fmt.Errorf("the body is not the JSON of a question: %w", err)
	}
	if question == nil {
		return "", http.StatusBadRequest, errors.New(`the body is null; a question is an object such as {"failed":"host:8883"}`)
	}
	if question.Failed == "" {
		return "", 0, nil
	}
	if err := checkHostPort(question.Failed); err != nil {
		return "", http.StatusUnprocessableEntity, fmt.Errorf("failed: %q is not host:port: %w", question.Failed, err)
	}
	return question.Failed, 0, nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil:
		return err
	case host == "":
		return errors.New("there is no host")
	case len(host) > 253:
		return errors.New("a host name has 253 bytes at most")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("a port is between 1 and 65535")
	}
	return nil
}
