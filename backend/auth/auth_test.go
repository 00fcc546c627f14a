package auth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/backend/auth"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
	"penstock/internal/clock"
)

// errFire is met between the handshake and the request.
var errFire = errors.New("the database is on fire")

// registry answers for gateways what a test says.
type registry struct {
	mu       sync.Mutex
	standing map[string]error // by serial number; a gateway that is not in it is unknown
}

func (r *registry) Admit(_ context.Context, serial, _ string, _ []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err, known := r.standing[serial]
	if !known {
		return store.ErrNoGateway
	}
	return err
}

func (r *registry) set(serial string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.standing[serial] = err
}

// site is an auth service behind a real listener.
type site struct {
	*pkitest.Authorities
	*registry
	url     string
	refused chan error
}

func serve(t *testing.T) *site {
	t.Helper()
	s := &site{Authorities: pkitest.New(t), registry: &registry{standing: map[string]error{"GW-0001": nil}}, refused: make(chan error, 100)}
	server := s.Server(t, "localhost")
	config := pki.ForGateways(func() (*tls.Certificate, error) { return &server, nil }, s.CA.Pool(), time.Now, func(serial string, leaf *x509.Certificate) error {
		// As backend does: whoever is unknown is told so over HTTP.
		err := s.Admit(t.Context(), serial, pki.Number(leaf), leaf.Raw)
		if errors.Is(err, store.ErrNoGateway) || errors.Is(err, errFire) {
			return nil
		}
		return err
	})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(plain.Addr().String())
	s.url = "https://localhost:" + port
	quiet := slog.New(slog.DiscardHandler)
	service := auth.New(auth.Config{Store: s.registry, Certificate: func() (*tls.Certificate, error) { return &server, nil }, Endpoint: "mqtts://cloud.example:8883", Roots: s.CA, Clock: clock.System, Log: quiet})
	h := &http.Server{Handler: service, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(quiet.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() {
		ended <- h.Serve(pki.Secure(plain, config, pki.DefaultLimits, func(_ net.Addr, err error) { s.refused <- err }))
	}()
	t.Cleanup(func() {
		h.Close()
		<-ended
	})
	return s
}

// client is an HTTP client with the certificate of a gateway.
func (s *site) client(t *testing.T, serial string) *http.Client {
	t.Helper()
	return s.as(t, s.Enrolled(t, serial))
}

// as is an HTTP client with that certificate.
func (s *site) as(t *testing.T, cert tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: pki.ForServer("localhost", func() (*tls.Certificate, error) { return &cert, nil }, s.CA.Pool(), time.Now, nil)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// problem is RFC 9457's.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (s *site) ask(t *testing.T, c *http.Client, method, path, kind, body string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, text
}

func TestAKnownGatewayIsToldItsEndpoint(t *testing.T) {
	s := serve(t)
	for body, kind := range map[string]string{
		"":                               "",
		"{}":                             "application/json",
		`{"failed":"a.example:8883"}`:    "application/json; charset=utf-8",
		`{"failed":"[2001:db8::1]:443"}`: "application/json",
		`{"failed":"","later":[1,2]}`:    "application/json", // a field of a newer gateway
	} {
		answer, text := s.ask(t, s.client(t, "GW-0001"), "POST", "/v1/assignment", kind, body)
		var got struct {
			Endpoint string
			Expires  time.Time
		}
		if err := json.Unmarshal(text, &got); err != nil || answer.StatusCode != http.StatusOK || got.Endpoint != "mqtts://cloud.example:8883" || !got.Expires.After(time.Now()) {
			t.Errorf("the question %q: %s, %s (%v)", body, answer.Status, text, err)
		}
		if answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("the question %q: header %v", body, answer.Header)
		}
	}
}

// TestTheTimeIsSignedForEitherIdentity: a gateway asks before it knows the time,
// with its factory identity above all, also where assignment takes the other.
func TestTheTimeIsSignedForEitherIdentity(t *testing.T) {
	s := serve(t)
	nonce := []byte("sixteen bytes!!!")
	question, err := json.Marshal(map[string][]byte{"nonce": nonce})
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{"factory": s.Gateway(t, "GW-0001"), "operational": s.Enrolled(t, "GW-0001")} {
		answer, text := s.ask(t, s.as(t, cert), "POST", "/v1/time", "application/json", string(question))
		var a pki.TimeAnswer
		if err := json.Unmarshal(text, &a); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s (%v)", name, answer.Status, text, err)
		}
		got, err := pki.CheckTime(a, nonce, answer.TLS.PeerCertificates, s.CA.Pool())
		if err != nil || time.Since(got).Abs() > time.Minute {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestWhateverIsWrongIsAProblemWithTheRightStatus(t *testing.T) {
	s := serve(t)
	s.set("GW-0003", errFire)
	const json0 = "application/json"
	for _, tc := range []struct {
		what, serial, method, path, kind, body string
		status                                 int
		says                                   string
	}{
		{"an unknown serial number", "GW-0002", "POST", "/v1/assignment", json0, "{}", 403, "GW-0002 is not known"},
		{"a store that fails", "GW-0003", "POST", "/v1/assignment", json0, "{}", 503, "cannot look gateways up"},
		{"a short nonce", "GW-0001", "POST", "/v1/time", json0, `{"nonce":"AAAA"}`, 400, "a nonce of 3 bytes"},
		{"a nonce that is none", "GW-0001", "POST", "/v1/time", json0, `{"nonce":7}`, 400, "question for the time"},
		{"the time for nobody", "GW-0002", "POST", "/v1/time", json0, `{}`, 403, "GW-0002 is not known"},
		{"no JSON", "GW-0001", "POST", "/v1/assignment", json0, "{", 400, "not the JSON of a question"},
		{"JSON of another form", "GW-0001", "POST", "/v1/assignment", json0, `["failed"]`, 400, "not the JSON of a question"},
		{"a field of another type", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":8883}`, 400, "failed"},
		{"null", "GW-0001", "POST", "/v1/assignment", json0, "null", 400, "null"},
		{"two values", "GW-0001", "POST", "/v1/assignment", json0, "{}{}", 400, "not the JSON of a question"},
		{"no port", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":"a.example"}`, 422, "not host:port"},
		{"no host", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":":8883"}`, 422, "there is no host"},
		{"a port out of range", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":"a:65536"}`, 422, "between 1 and 65535"},
		{"port 0", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":"a:0"}`, 422, "between 1 and 65535"},
		{"a host that is too long", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":"` + strings.Repeat("a", 254) + `:1"}`, 422, "253 bytes"},
		{"a body that is too large", "GW-0001", "POST", "/v1/assignment", json0, `{"failed":"` + strings.Repeat("a", 5000) + `:1"}`, 413, "more than 4096 bytes"},
		{"another content type", "GW-0001", "POST", "/v1/assignment", "text/plain", "{}", 415, "application/json"},
		{"no content type", "GW-0001", "POST", "/v1/assignment", "", "{}", 415, "application/json"},
		{"another method", "GW-0001", "GET", "/v1/assignment", "", "", 405, "allowed: POST"},
		{"another method of an unknown gateway", "GW-0002", "PUT", "/v1/assignment", "", "", 405, "allowed: POST"},
		{"another path", "GW-0001", "POST", "/v1/assignments", json0, "{}", 404, "/v1/assignments"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			answer, text := s.ask(t, s.client(t, tc.serial), tc.method, tc.path, tc.kind, tc.body)
			var p problem
			if err := json.Unmarshal(text, &p); err != nil {
				t.Fatalf("no JSON: %s", text)
			}
			if answer.StatusCode != tc.status || p.Status != tc.status || answer.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s, %s, %s; want a problem with status %d", answer.Status, answer.Header.Get("Content-Type"), text, tc.status)
			}
			if !strings.Contains(p.Detail, tc.says) || p.Title == "" {
				t.Errorf("%+v does not say %q", p, tc.says)
			}
			if tc.status == http.StatusMethodNotAllowed && answer.Header.Get("Allow") != http.MethodPost {
				t.Errorf("Allow: %q", answer.Header.Get("Allow"))
			}
			if (answer.Header.Get("Retry-After") != "") != (tc.status == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After: %q", answer.Header.Get("Retry-After"))
			}
			if strings.Contains(string(text), "on fire") {
				t.Error("an error from inside went out")
			}
		})
	}
}

func TestARevokedGatewayIsRefusedInTheHandshake(t *testing.T) {
	s := serve(t)
	c := s.client(t, "GW-0001")
	if answer, text := s.ask(t, c, "POST", "/v1/assignment", "", ""); answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", answer.Status, text)
	}
	revoked := &store.RevokedError{Gateway: "GW-0001", Since: time.Now(), Reason: "stolen"}
	s.set("GW-0001", revoked)
	// On the connection that stands already, HTTP says so.
	if answer, text := s.ask(t, c, "POST", "/v1/assignment", "", ""); answer.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "revoked") {
		t.Errorf("on an old connection: %s: %s", answer.Status, text)
	}
	// A new one does not come about.
	c.CloseIdleConnections()
	answer, err := c.Post(s.url+"/v1/assignment", "application/json", nil)
	if err == nil {
		answer.Body.Close()
		t.Fatalf("a revoked gateway got %s", answer.Status)
	}
	if why := pki.Explain(err); !strings.Contains(why, "revoked") {
		t.Errorf("the gateway is told %q", why)
	}
	var why *store.RevokedError
	if err := <-s.refused; !errors.As(err, &why) || why != revoked {
		t.Errorf("the service's log is told %v", err)
	}
	// Pardoned, it comes in again: nothing but the revocation kept it out.
	s.set("GW-0001", nil)
	if answer, text := s.ask(t, c, "POST", "/v1/assignment", "", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", answer.Status, text)
	}
}

// TestAttackFactoryIdentityOnARouteForTheOperationalOne: TLS lets both in, the route
// does not. Nothing is granted.
func TestAttackFactoryIdentityOnARouteForTheOperationalOne(t *testing.T) {
	s := serve(t)
	factory, operational := s.as(t, s.Gateway(t, "GW-0001")), s.client(t, "GW-0001")
	answer, text := s.ask(t, factory, "POST", "/v1/assignment", "", "")
	if answer.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "an operational one is required for /v1/assignment. POST /.well-known/est/simpleenroll") || strings.Contains(string(text), "mqtts:") {
		t.Errorf("the factory identity: %s: %s", answer.Status, text)
	}
	if answer, text := s.ask(t, operational, "POST", "/v1/assignment", "", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("the operational certificate: %s: %s", answer.Status, text)
	}
}

func TestWithoutTLSNobodyIsAGateway(t *testing.T) {
	s := serve(t)
	h := auth.New(auth.Config{Store: s.registry, Endpoint: "mqtts://cloud.example:8883", Clock: clock.System, Log: slog.New(slog.DiscardHandler)})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go server.Serve(plain) //nolint:errcheck // ends with Close
	defer server.Close()
	answer, err := http.Post("http://"+plain.Addr().String()+"/v1/assignment", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("over plain HTTP: %s", answer.Status)
	}
}

func FuzzAssignment(f *testing.F) {
	for _, body := range []string{"", "{}", "null", `{"failed":"a:1"}`, `{"failed":"[::1]:65535"}`, `{"failed":":"}`, "{", `{"failed":"` + strings.Repeat("a", 5000)} {
		f.Add(body)
	}
	a := pkitest.New(f)
	cert := a.Enrolled(f, "GW-0001")
	h := auth.New(auth.Config{Store: &registry{standing: map[string]error{"GW-0001": nil}}, Endpoint: "mqtts://cloud.example:8883", Clock: clock.System, Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/assignment", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert.Leaf}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 413, 422:
		default:
			t.Errorf("status %d for %q", w.Code, body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("the answer to %q is not JSON: %s", body, w.Body.String())
		}
	})
}
