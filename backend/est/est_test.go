package est_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"penstock/backend/est"
	client "penstock/certs/est"
	"penstock/certs/pki"
)

func status(err error) int {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

func TestAGatewayEnrolsAndRenews(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	factory := b.as(key, chain)

	attrs, err := b.client.Attributes(t.Context(), factory)
	if err != nil || len(attrs) != 2 || attrs.Check() != nil {
		t.Fatalf("csrattrs: %v, %v", attrs, err)
	}
	authorities, err := b.client.CACerts(t.Context(), factory)
	if err != nil || len(authorities) != len(b.ca.Authorities()) {
		t.Fatalf("cacerts: %d certificates, %v", len(authorities), err)
	}

	own := newKey(t)
	got, err := b.client.Enroll(t.Context(), factory, request(t, "GW-0001", own))
	if err != nil {
		t.Fatal(err)
	}
	g, err := pki.ReadGateway(got[0])
	if err != nil || g.Serial != "GW-0001" || g.Role != pki.Operational || len(got) != 1 {
		t.Fatalf("enrolled as %+v, %d certificates, %v", g, len(got), err)
	}
	if life := got[0].NotAfter.Sub(got[0].NotBefore); life < 90*24*time.Hour || life > 91*24*time.Hour {
		t.Errorf("an operational certificate for %v", life)
	}

	operational := b.as(own, b.chain(got[0]))
	if _, err := b.client.CACerts(t.Context(), operational); err != nil {
		t.Errorf("cacerts with the operational certificate: %v", err)
	}
	next := newKey(t)
	if _, err := b.client.Reenroll(t.Context(), operational, request(t, "GW-0001", next)); err != nil {
		t.Fatal(err)
	}
	certs, err := b.db.Certificates(t.Context(), "GW-0001")
	if err != nil || len(certs) != 3 {
		t.Errorf("%d certificates are registered, %v; there are a factory identity and two operational ones", len(certs), err)
	}
	if alarms, err := b.db.Alarms(t.Context(), "GW-0001"); err != nil || len(alarms) != 0 {
		t.Errorf("renewal raised %v, %v", alarms, err)
	}
}

func TestEachRouteIsForOneRole(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	factory := b.as(key, chain)
	own := newKey(t)
	got, err := b.client.Enroll(t.Context(), factory, request(t, "GW-0001", own))
	if err != nil {
		t.Fatal(err)
	}
	operational := b.as(own, b.chain(got[0]))
	if _, err := b.client.Reenroll(t.Context(), factory, request(t, "GW-0001", newKey(t))); status(err) != http.StatusForbidden {
		t.Errorf("simplereenroll with the factory identity: %v", err)
	}
	if _, err := b.client.Enroll(t.Context(), operational, request(t, "GW-0001", newKey(t))); status(err) != http.StatusForbidden {
		t.Errorf("simpleenroll with the operational certificate: %v", err)
	}
}

func TestARequestForAnotherGatewayIsRefused(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	b.factory("GW-0002")
	if _, err := b.client.Enroll(t.Context(), b.as(key, chain), request(t, "GW-0002", newKey(t))); status(err) != http.StatusForbidden || !strings.Contains(err.Error(), "GW-0002") {
		t.Errorf("GW-0001 asked for GW-0002: %v", err)
	}
	certs, err := b.db.Certificates(t.Context(), "GW-0002")
	if err != nil || len(certs) != 1 {
		t.Errorf("GW-0002 has %d certificates, %v", len(certs), err)
	}
}

func TestARevokedGatewayIsNotEnrolled(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	if err := b.db.Revoke(t.Context(), "GW-0001", "stolen"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Enroll(t.Context(), b.as(key, chain), request(t, "GW-0001", newKey(t))); status(err) != http.StatusForbidden {
		t.Errorf("a revoked gateway enrolled: %v", err)
	}
}

func TestEnrolmentBesideAGoodCertificateRaisesAnAlarm(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	factory := b.as(key, chain)
	own := request(t, "GW-0001", newKey(t))
	for range 2 { // the second time as after a power cut, with the same key
		if _, err := b.client.Enroll(t.Context(), factory, own); err != nil {
			t.Fatal(err)
		}
	}
	if alarms, err := b.db.Alarms(t.Context(), "GW-0001"); err != nil || len(alarms) != 0 {
		t.Fatalf("alarms after the same key twice: %v, %v", alarms, err)
	}
	if _, err := b.client.Enroll(t.Context(), factory, request(t, "GW-0001", newKey(t))); err != nil {
		t.Fatalf("a gateway that lost its disk is not let in: %v", err)
	}
	if alarms, err := b.db.Alarms(t.Context(), "GW-0001"); err != nil || len(alarms) != 1 {
		t.Errorf("alarms after another key: %v, %v", alarms, err)
	}
}

// TestAnAnswerThatWasLostIsNoSignOfAClone: the gateway was renewed, never heard of it,
// and its old certificate serves no more. It may come with either key.
func TestAnAnswerThatWasLostIsNoSignOfAClone(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	factory := b.as(key, chain)
	before, lost := newKey(t), newKey(t)
	got, err := b.client.Enroll(t.Context(), factory, request(t, "GW-0001", before))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Reenroll(t.Context(), b.as(before, b.chain(got[0])), request(t, "GW-0001", lost)); err != nil {
		t.Fatal(err)
	}
	for _, own := range []*ecdsa.PrivateKey{lost, before} {
		if _, err := b.client.Enroll(t.Context(), factory, request(t, "GW-0001", own)); err != nil {
			t.Fatal(err)
		}
	}
	if alarms, err := b.db.Alarms(t.Context(), "GW-0001"); err != nil || len(alarms) != 0 {
		t.Errorf("alarms: %v, %v", alarms, err)
	}
}

// A copy of a gateway's disk renews the very certificate that the gateway has
// renewed, with a key of its own.
func TestAttackACopyOfACertificateThatRenewsItRaisesAnAlarm(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	first, second := newKey(t), newKey(t)
	got, err := b.client.Enroll(t.Context(), b.as(key, chain), request(t, "GW-0001", first))
	if err != nil {
		t.Fatal(err)
	}
	shared := b.as(first, b.chain(got[0]))
	for _, tt := range []struct {
		name   string
		key    *ecdsa.PrivateKey
		alarms int
	}{{"the renewal", second, 0}, {"the renewal again, its answer was lost", second, 0}, {"the copy", newKey(t), 1}} {
		if _, err := b.client.Reenroll(t.Context(), shared, request(t, "GW-0001", tt.key)); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if alarms, err := b.db.Alarms(t.Context(), "GW-0001"); err != nil || len(alarms) != tt.alarms {
			t.Errorf("%s: alarms %v, %v; want %d", tt.name, alarms, err, tt.alarms)
		}
	}
}

func TestAttackAGatewayThatOnlyAsksIsLimitedToo(t *testing.T) {
	for name, ask := range map[string]func(b *bench, as *tls.Config) error{
		"cacerts":  func(b *bench, as *tls.Config) error { _, err := b.client.CACerts(t.Context(), as); return err },
		"csrattrs": func(b *bench, as *tls.Config) error { _, err := b.client.Attributes(t.Context(), as); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			key, chain := b.factory("GW-0001")
			as := b.as(key, chain)
			var err error
			answered := 0
			for ; answered < 100 && err == nil; answered++ {
				err = ask(b, as)
			}
			if status(err) != http.StatusTooManyRequests || answered < 10 {
				t.Errorf("after %d questions: %v", answered, err)
			}
			if _, err := b.client.Enroll(t.Context(), as, request(t, "GW-0001", newKey(t))); err != nil {
				t.Errorf("the questions used up the enrolments: %v", err)
			}
		})
	}
}

func TestEnrolmentsOfOneGatewayAreLimited(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	factory := b.as(key, chain)
	own := request(t, "GW-0001", newKey(t))
	var err error
	granted := 0
	for ; granted < 100 && err == nil; granted++ {
		_, err = b.client.Enroll(t.Context(), factory, own)
	}
	var e *client.Error
	if !errors.As(err, &e) || e.Status != http.StatusTooManyRequests || e.RetryAfter <= 0 || granted < 3 {
		t.Fatalf("after %d enrolments: %v", granted, err)
	}
	other, otherChain := b.factory("GW-0002")
	if _, err := b.client.Enroll(t.Context(), b.as(other, otherChain), request(t, "GW-0002", newKey(t))); err != nil {
		t.Errorf("another gateway is kept waiting: %v", err)
	}
}

func TestMalformedRequestsAreToldWhatIsWrong(t *testing.T) {
	b := newBench(t)
	key, chain := b.factory("GW-0001")
	h := http.Client{Transport: &http.Transport{TLSClientConfig: b.as(key, chain)}}
	defer h.CloseIdleConnections()
	der := request(t, "GW-0001", newKey(t))
	good := base64.StdEncoding.EncodeToString(der)
	der[len(der)-10] ^= 1 // in the signature
	forged := base64.StdEncoding.EncodeToString(der)
	for _, c := range []struct {
		name, kind, body string
		status           int
	}{
		{"a content type of something else", "text/plain", good, http.StatusUnsupportedMediaType},
		{"no base64", "application/pkcs10", "!!!!", http.StatusBadRequest},
		{"no request", "application/pkcs10", "AAAA", http.StatusBadRequest},
		{"an empty body", "application/pkcs10", "", http.StatusBadRequest},
		{"a signature by another key", "application/pkcs10", forged, http.StatusUnprocessableEntity},
		{"a very long body", "application/pkcs10", strings.Repeat("A", 20<<10), http.StatusRequestEntityTooLarge},
	} {
		resp, err := h.Post(b.url+"/.well-known/est/simpleenroll", c.kind, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		// Each try counts against the limit, which comes before the reading.
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s, %s", c.name, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
	resp, err := h.Get(b.url + "/.well-known/est/simpleenroll")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET simpleenroll: %s, Allow: %s", resp.Status, resp.Header.Get("Allow"))
	}
}

func FuzzParseRequest(f *testing.F) {
	key := newKey(f)
	f.Add([]byte(base64.StdEncoding.EncodeToString(request(f, "GW-0001", key))))
	f.Add([]byte("AAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := est.ParseRequest(text)
		if err != nil {
			return
		}
		if serial, _, err := pki.CheckRequest(r); err == nil && pki.CheckSerial(serial) != nil {
			t.Errorf("a request for %q passed", serial)
		}
	})
}
