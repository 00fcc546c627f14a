// Package est is the backend's side of Enrollment over Secure Transport (RFC
// 7030): gateways ask it for their operational certificates.
//
// It lives below /.well-known/est on the auth service. Whoever reaches it has
// proved by certificate which gateway it is; a request for a certificate must be
// for that same gateway. Of the request the key and the serial number are taken,
// and nothing else: what a certificate says is the authority's business.
//
//	cacerts, csrattrs   factory identity or operational certificate
//	simpleenroll        factory identity only: a gateway without a certificate in force
//	simplereenroll      operational certificate only: renewal
//
// What is issued is in the registry before it is sent, so that it can be revoked.
// An enrolment while another key's certificate is still good is granted, since
// the gateway may have lost its disk, and raises an alarm, since its factory
// identity may have been copied.
package est

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"penstock/backend/problem"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
)

// maxRequest bounds a certificate request in base64; one on P-256 has 500 bytes.
const maxRequest = 16 << 10

// Authority issues; *pki.CA is one.
type Authority interface {
	// Authorities are the certificates of all authorities, the root first.
	Authorities() []*x509.Certificate
	// IssueOperational issues for a request that has been found to come from the
	// gateway that it names.
	IssueOperational(request *x509.CertificateRequest) (*x509.Certificate, error)
}

// Store is the registry; *store.Store is one.
type Store interface {
	// Certificates lists what was issued to a gateway.
	Certificates(ctx context.Context, serial string) ([]store.Certificate, error)
	// AddCertificate adds a certificate that was issued, durably. It refuses where
	// what it was asked for with is revoked by now.
	AddCertificate(ctx context.Context, c store.Certificate) error
	// SuspectClone raises an alarm: the gateway's identity may be in use twice.
	SuspectClone(ctx context.Context, serial, why string) error
}

// Config is what the service is made of.
type Config struct {
	Authority Authority
	Store     Store
	// Life is how long a certificate is good that is issued, where that is so short
	// that the limits must give way to it.
	Life  time.Duration
	Clock clock.Clock
	Log   *slog.Logger
}

// Server answers the four questions of EST.
type Server struct {
	Config
	limits    *limits
	questions *limits
}

// New makes a server.
func New(c Config) *Server { return &Server{c, newLimits(c.Life), newQuestionLimits()} }

// Handler is a handler of requests from a gateway that is known and in force.
type Handler = func(w http.ResponseWriter, r *http.Request, g pki.Gateway)

// Mount adds the routes. guard lets known gateways pass and refuses others.
func (s *Server) Mount(mux *http.ServeMux, guard func(Handler) http.HandlerFunc) {
	const base = "/.well-known/est/"
	mux.HandleFunc("GET "+base+"cacerts", guard(s.asked(s.caCerts)))
	mux.HandleFunc("GET "+base+"csrattrs", guard(s.asked(s.attributes)))
	mux.HandleFunc("POST "+base+"simpleenroll", guard(s.enroll(pki.Factory)))
	mux.HandleFunc("POST "+base+"simplereenroll", guard(s.enroll(pki.Operational)))
	for path, method := range map[string]string{"cacerts": "GET", "csrattrs": "GET", "simpleenroll": "POST", "simplereenroll": "POST"} {
		mux.HandleFunc(base+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			problem.Write(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here; allowed: "+method)
		})
	}
}

// asked answers a question as often as a gateway may ask.
func (s *Server) asked(next Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
		if s.within(s.questions, w, r, g) {
			next(w, r, g)
		}
	}
}

// within tells whether a gateway is within its limits, and answers it if not.
func (s *Server) within(l *limits, w http.ResponseWriter, r *http.Request, g pki.Gateway) bool {
	wait := l.wait(g.Serial, s.Clock.Now())
	if wait <= 0 {
		return true
	}
	s.Log.Warn("a gateway asks too often", "gateway", g.Serial, "path", r.URL.Path, "remote", r.RemoteAddr)
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	problem.Write(w, http.StatusTooManyRequests, "That was asked too often; Retry-After says when to come back.")
	return false
}

func (s *Server) caCerts(w http.ResponseWriter, _ *http.Request, g pki.Gateway) {
	s.bag(w, g, s.Authority.Authorities()...)
}

// wishes is the answer of csrattrs: a key on P-256, signed with SHA-256.
var wishes = must(asn1.Marshal([]any{
	struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.ObjectIdentifier `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, []asn1.ObjectIdentifier{{1, 2, 840, 10045, 3, 1, 7}}},
	asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2},
}))

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // constants
	}
	return b
}

func (s *Server) attributes(w http.ResponseWriter, _ *http.Request, _ pki.Gateway) {
	send(w, "application/csrattrs", wishes)
}

// enroll answers simpleenroll or simplereenroll, to gateways of that role.
func (s *Server) enroll(role pki.Role) Handler {
	return func(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
		if g.Role != role {
			problem.Write(w, http.StatusForbidden, fmt.Sprintf("%s is asked for with %s; this is %s.", r.URL.Path, article[role], article[g.Role]))
			return
		}
		if !s.within(s.limits, w, r, g) {
			return
		}
		request, status, err := readRequest(r)
		if err == nil {
			status, err = belongs(request, g)
		}
		if err != nil {
			s.Log.Warn("a request for a certificate is refused", "gateway", g.Serial, "remote", r.RemoteAddr, "err", err)
			problem.Write(w, status, err.Error())
			return
		}
		leaf, err := s.issue(r.Context(), g, r.TLS.PeerCertificates[0], request)
		var revoked *store.RevokedError
		switch {
		case errors.As(err, &revoked):
			problem.Write(w, http.StatusForbidden, "Gateway "+g.Serial+", or the certificate that it shows, is revoked.")
		case errors.Is(err, store.ErrRevokedKey):
			problem.Write(w, http.StatusForbidden, "That key was revoked; make another.")
		case err != nil:
			s.Log.Error("a certificate could not be issued", "gateway", g.Serial, "err", err)
			w.Header().Set("Retry-After", "60")
			problem.Write(w, http.StatusServiceUnavailable, "The service cannot issue certificates at the moment.")
		default:
			s.bag(w, g, leaf)
		}
	}
}

var article = map[pki.Role]string{pki.Factory: "a factory identity", pki.Operational: "an operational certificate"}

// readRequest reads a PKCS #10 request in base64.
func readRequest(r *http.Request) (_ *x509.CertificateRequest, status int, err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/pkcs10" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("content type %q; a certificate request is application/pkcs10", r.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the body: %w", err)
	}
	if len(text) > maxRequest {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the request has more than %d bytes", maxRequest)
	}
	request, err := ParseRequest(text)
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	return request, 0, nil
}

// ParseRequest reads the body of an enrolment: a PKCS #10 request, DER in base64
// with whatever line breaks.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		return nil, fmt.Errorf("the body is not base64: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the body is not a certificate request (PKCS #10): %w", err)
	}
	return request, nil
}

// belongs tells whether a request is the gateway's own.
func belongs(request *x509.CertificateRequest, g pki.Gateway) (status int, err error) {
	serial, _, err := pki.CheckRequest(request)
	if err != nil {
		return http.StatusUnprocessableEntity, err
	}
	if serial != g.Serial {
		return http.StatusForbidden, fmt.Errorf("the request is for %s, and this is %s", serial, g.Serial)
	}
	return 0, nil
}

// issue makes the certificate and registers it.
func (s *Server) issue(ctx context.Context, g pki.Gateway, shown *x509.Certificate, request *x509.CertificateRequest) (*x509.Certificate, error) {
	key := sha256.Sum256(request.RawSubjectPublicKeyInfo)
	watch := s.watchForClones
	if g.Role == pki.Operational {
		watch = func(ctx context.Context, g pki.Gateway, key []byte) error { return s.watchRenewals(ctx, g, shown, key) }
	}
	if err := watch(ctx, g, key[:]); err != nil {
		return nil, err
	}
	leaf, err := s.Authority.IssueOperational(request)
	if err != nil {
		return nil, err
	}
	err = s.Store.AddCertificate(ctx, store.Certificate{
		Number: pki.Number(leaf), Gateway: g.Serial, Role: string(pki.Operational), Key: key[:], DER: leaf.Raw,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		AskedWith: pki.Number(shown), // it may have been revoked while the request came in
	})
	if err != nil {
		return nil, err
	}
	s.Log.Info("a certificate is issued", "gateway", g.Serial, "with", string(g.Role), "until", leaf.NotAfter)
	return leaf, nil
}

// watchForClones raises an alarm when a gateway enrols with its factory identity
// although it should have a certificate that is still good, and none such is for the
// key that it enrols: two boards may share one identity, or a disk is as old as the
// key. A gateway that lost power while it enrolled or was renewed comes back with a
// key of before, and one that was in a drawer has nothing that is still good.
func (s *Server) watchForClones(ctx context.Context, g pki.Gateway, key []byte) error {
	certs, err := s.Store.Certificates(ctx, g.Serial)
	if err != nil {
		return err
	}
	now := s.Clock.Now()
	var other *store.Certificate
	for i, c := range certs {
		switch {
		case c.Role != string(pki.Operational) || !c.Revoked.IsZero() || !now.Before(c.NotAfter):
		case bytes.Equal(c.Key, key):
			return nil
		default:
			other = &certs[i]
		}
	}
	if other == nil {
		return nil
	}
	why := fmt.Sprintf("it enrolled anew although a certificate for another key is good until %s", other.NotAfter.Format("2006-01-02"))
	s.Log.Warn("an identity may be in use twice", "gateway", g.Serial, "why", why)
	return s.Store.SuspectClone(ctx, g.Serial, why)
}

// watchRenewals raises an alarm when a certificate that was renewed already is
// renewed again with yet another key: somebody has a copy of it. A gateway that did
// not hear the answer to its renewal asks again with the key that it asked with.
func (s *Server) watchRenewals(ctx context.Context, g pki.Gateway, shown *x509.Certificate, key []byte) error {
	certs, err := s.Store.Certificates(ctx, g.Serial)
	if err != nil {
		return err
	}
	own := sha256.Sum256(shown.RawSubjectPublicKeyInfo)
	now, superseded := s.Clock.Now(), false
	for _, c := range certs {
		switch {
		case c.Role != string(pki.Operational) || !c.Revoked.IsZero() || !now.Before(c.NotAfter):
		case bytes.Equal(c.Key, key):
			return nil
		case !bytes.Equal(c.Key, own[:]) && !c.NotBefore.Before(shown.NotBefore):
			superseded = true
		}
	}
	if !superseded {
		return nil
	}
	why := fmt.Sprintf("the certificate of %s was renewed again, with another key than before", shown.NotBefore.UTC().Format("2006-01-02"))
	s.Log.Warn("an identity may be in use twice", "gateway", g.Serial, "why", why)
	return s.Store.SuspectClone(ctx, g.Serial, why)
}

// bag sends certificates as a PKCS #7 message without signers.
func (s *Server) bag(w http.ResponseWriter, g pki.Gateway, certs ...*x509.Certificate) {
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	if err != nil {
		s.Log.Error("certificates could not be packed", "gateway", g.Serial, "err", err)
		problem.Write(w, http.StatusInternalServerError, "The certificates could not be packed.")
		return
	}
	send(w, "application/pkcs7-mime; smime-type=certs-only", der)
}

// send writes DER as base64 in lines that openssl reads, too.
func send(w http.ResponseWriter, kind string, der []byte) {
	text := base64.StdEncoding.EncodeToString(der)
	var b bytes.Buffer
	for len(text) > 0 {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // the gateway went away
}
