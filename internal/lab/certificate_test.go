package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/backend/store"
	"penstock/certs"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/status"
)

// shortLife is that of certificates which are to be seen renewed: every 13 s or so.
const shortLife = 20 * time.Second

// registry is what the backend knows of the site's gateway, once the backend has
// stopped or while it runs.
func registry(t *testing.T, site *Site) (operational []store.Certificate, alarms []store.Alarm) {
	t.Helper()
	db, err := store.Open(t.Context(), site.Database(), clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := db.Certificates(t.Context(), Serial)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Role == string(pki.Operational) {
			operational = append(operational, c)
		}
	}
	if alarms, err = db.Alarms(t.Context(), Serial); err != nil {
		t.Fatal(err)
	}
	return operational, alarms
}

// TestACertificateIsRenewedWhileReadingsFlow: by a gateway that enrolled by itself,
// again and again, each time beside the one before, and nothing is lost.
func TestACertificateIsRenewedWhileReadingsFlow(t *testing.T) {
	t.Parallel()
	site := up(t, func(s *Site) { s.CertificateLife = shortLife })
	first, err := site.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := first.Identity.NotAfter
	const renewals = 3
	for range renewals {
		shows(t, site, "another certificate in use", func(s status.Snapshot) bool {
			return connected(s) && s.Identity.NotAfter.After(seen) && !s.Identity.Unproven
		})
		s, err := site.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Identity.Problem != "" || s.Identity.LastError != "" || s.Identity.LastAttempt.IsZero() || s.Identity.Issuer != "Penstock Operational Certificates" {
			t.Errorf("%+v", s.Identity)
		}
		seen = s.Identity.NotAfter
	}
	v := settle(t, site, 0)
	if v.Excused > 0 {
		t.Errorf("%d values in gaps", v.Excused)
	}
	issued, alarms := registry(t, site)
	keys := map[string]bool{}
	for _, c := range issued {
		keys[string(c.Key)] = true
	}
	if len(issued) < renewals+1 || len(keys) != len(issued) {
		t.Errorf("%d certificates for %d keys after %d renewals", len(issued), len(keys), renewals)
	}
	if len(alarms) > 0 {
		t.Errorf("alarms: %v", alarms)
	}
	entries, err := filepath.Glob(site.path("gateway", "identity", "next*"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the identity folder: %v, %v", entries, err)
	}
}

// TestAGatewayKilledInTheMiddleOfItsRenewalComesBack: as soon as there is a sign of
// it on disk, time after time.
func TestAGatewayKilledInTheMiddleOfItsRenewalComesBack(t *testing.T) {
	t.Parallel()
	site := up(t, func(s *Site) { s.CertificateLife = shortLife })
	const kills = 4
	signs := []string{certs.NextKeyFile, certs.NextFile + ".new", certs.NextFile, certs.NextKeyFile + ".new"}
	for i := range kills {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		tick := time.NewTicker(time.Millisecond) // the files live for a few
		for ctx.Err() == nil {
			if _, err := os.Stat(site.path("gateway", "identity", signs[i])); err == nil {
				break
			}
			<-tick.C
		}
		site.GatewayProc.Kill()
		tick.Stop()
		cancel()
		left, err := filepath.Glob(site.path("gateway", "identity", "*"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("killed at %s, with %d files in the identity folder", signs[i], len(left))
		if err := site.StartGateway(t.Context()); err != nil {
			t.Fatal(err)
		}
		shows(t, site, "a session after the kill", connected)
	}
	run(t, site, 4*time.Second)
	// No more than the open block of each kill is lost.
	s, err := site.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	perBlock := 0
	for _, b := range s.Buses {
		for _, p := range b.Pumps {
			perBlock += len(p.Values)
		}
	}
	settle(t, site, kills*3*perBlock)
	if _, alarms := registry(t, site); len(alarms) > 0 {
		t.Errorf("alarms: %v", alarms)
	}
}

// TestAttackFactoryIdentityOfARealGateway shows to the services of a real backend the
// factory identity of a gateway that is enrolled: enrolment opens, and nothing else
// does.
func TestAttackFactoryIdentityOfARealGateway(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	dir := site.path("gateway", "identity")
	read := func(file string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read("roots.pem"))
	shown := map[string]func() (*tls.Certificate, error){}
	for name, files := range map[string][2]string{"factory": {"key.pem", "cert.pem"}, "operational": {certs.OperationalFile, certs.OperationalFile}} {
		cert, err := tls.X509KeyPair(read(files[1]), read(files[0]))
		if err != nil {
			t.Fatal(err)
		}
		shown[name] = func() (*tls.Certificate, error) { return &cert, nil }
	}
	status := func(identity, method, path string) int {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: pki.ForServer("127.0.0.1", shown[identity], roots, time.Now, nil), DisableKeepAlives: true}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+site.Addresses().Auth+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := (&http.Client{Transport: tr}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	for _, tc := range []struct {
		method, path         string
		factory, operational int
	}{
		{"GET", "/.well-known/est/cacerts", 200, 200},
		{"GET", "/.well-known/est/csrattrs", 200, 200},
		{"POST", "/.well-known/est/simpleenroll", 415, 403}, // 415: it is let in, and told that this is no request
		{"POST", "/.well-known/est/simplereenroll", 403, 415},
		{"POST", "/v1/assignment", 403, 200},
		{"POST", "/v1/time", 400, 400},
	} {
		if f, o := status("factory", tc.method, tc.path), status("operational", tc.method, tc.path); f != tc.factory || o != tc.operational {
			t.Errorf("%s %s: %d with the factory identity, %d with the operational certificate; want %d and %d", tc.method, tc.path, f, o, tc.factory, tc.operational)
		}
	}

	// The endpoint says so in the handshake, of which a TLS 1.3 client hears when it
	// reads.
	for identity, in := range map[string]bool{"factory": false, "operational": true} {
		d := tls.Dialer{Config: pki.ForServer("127.0.0.1", shown[identity], roots, time.Now, nil)}
		c, err := d.DialContext(t.Context(), "tcp", site.Addresses().Endpoint)
		if err == nil {
			err = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			c.Close()
		}
		refused := err != nil && strings.Contains(err.Error(), "bad certificate")
		if refused == in {
			t.Errorf("the endpoint, shown the %s identity: %v", identity, err)
		}
	}
}

// TestAGatewayThatIsLetInAgainComesBackByItself: revoked while it is connected, let in
// again, and back with a key that it did not have before, nobody having touched it.
func TestAGatewayThatIsLetInAgainComesBackByItself(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	before, _ := registry(t, site)
	if _, err := site.Cloud(t.Context(), "ca revoke", "-reason", "stolen", Serial); err != nil {
		t.Fatal(err)
	}
	shows(t, site, "that it is refused", func(s status.Snapshot) bool {
		return !connected(s) && strings.Contains(s.Identity.Problem, "refuse it") && strings.Contains(s.Identity.LastError, "certificate") && s.Buses[0].OK
	})
	if _, err := site.Cloud(t.Context(), "ca unrevoke", "-reason", "found again", Serial); err != nil {
		t.Fatal(err)
	}
	shows(t, site, "a session with a new certificate", func(s status.Snapshot) bool {
		return connected(s) && s.Identity.Problem == "" && !s.Identity.Unproven
	})
	settle(t, site, 0)
	after, alarms := registry(t, site)
	fresh := 0
	for _, c := range after {
		if c.Revoked.IsZero() {
			fresh++
			if bytes.Equal(c.Key, before[0].Key) {
				t.Error("the key of before is good again")
			}
		}
	}
	if fresh != 1 || len(after) != len(before)+1 {
		t.Errorf("%d certificates, %d before, %d in force", len(after), len(before), fresh)
	}
	if len(alarms) > 0 {
		t.Errorf("alarms: %v", alarms)
	}
}

// TestAGatewayThatCannotEnrolPollsAndStores: it is installed while the backend is
// down. It polls, stores and answers at its socket; a restart of it changes nothing;
// and all is delivered once the backend is there.
func TestAGatewayThatCannotEnrolPollsAndStores(t *testing.T) {
	t.Parallel()
	site := prepare(t, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(site.StartCloud(t.Context(), anywhere))
	must(site.Provision(t.Context()))
	must(site.CloudProc.Stop(t.Context()))
	must(site.StartPumps(t.Context()))
	must(site.StartGateway(t.Context()))
	must(site.AwaitReadings(t.Context()))
	waits := func(s status.Snapshot) bool {
		waiting := uint64(0)
		for _, l := range s.Queue.Lanes {
			waiting += l.Records
		}
		return waiting >= 3 && s.Uplink.State == "enrolling" && s.Identity.NotAfter.IsZero() && !s.Identity.NextAttempt.IsZero() &&
			strings.Contains(s.Identity.Problem, "could not enrol yet") && strings.Contains(s.Identity.LastError, "connection refused")
	}
	shows(t, site, "readings on disk, and why it is not enrolled", waits)
	must(site.GatewayProc.Stop(t.Context()))
	must(site.StartGateway(t.Context()))
	shows(t, site, "the same after a restart", waits)
	must(site.StartCloud(t.Context(), anywhere))
	shows(t, site, "a session", func(s status.Snapshot) bool {
		return connected(s) && s.Identity.Problem == "" && s.Uplink.Acknowledged > 3
	})
	settle(t, site, 0)
	if certs, alarms := registry(t, site); len(certs) != 1 || len(alarms) > 0 {
		t.Errorf("%d certificates, alarms %v", len(certs), alarms)
	}
}
