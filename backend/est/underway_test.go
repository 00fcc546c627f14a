package est_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"penstock/backend/store"
)

// late is the body of a request that has been let in already when the body begins:
// the transport waits for "100 Continue", which the server sends when it reads.
type late struct {
	io.Reader
	once      sync.Once
	meanwhile func()
}

func (l *late) Read(p []byte) (int, error) {
	l.once.Do(l.meanwhile)
	return l.Reader.Read(p)
}

// A stolen board begins a request, and ends it when it has been replaced: it gets
// nothing, by neither of its identities, for a key that nobody has heard of.
func TestAttackEnrolmentUnderWayWhileTheBoardIsReplaced(t *testing.T) {
	for _, route := range []string{"simpleenroll", "simplereenroll"} {
		for _, c := range []struct {
			name     string
			replaced bool
			want     int
		}{{"replaced", true, http.StatusForbidden}, {"left in place", false, http.StatusOK}} {
			t.Run(route+"/"+c.name, func(t *testing.T) {
				b := newBench(t)
				key, chain := b.factory("GW-0001")
				if route == "simplereenroll" {
					own := newKey(t)
					got, err := b.client.Enroll(t.Context(), b.as(key, chain), request(t, "GW-0001", own))
					if err != nil {
						t.Fatal(err)
					}
					key, chain = own, b.chain(got[0])
				}
				transport := &http.Transport{TLSClientConfig: b.as(key, chain), ExpectContinueTimeout: time.Hour}
				defer transport.CloseIdleConnections()
				body := &late{
					Reader: bytes.NewBufferString(base64.StdEncoding.EncodeToString(request(t, "GW-0001", newKey(t)))),
					meanwhile: func() {
						if c.replaced {
							b.replace("GW-0001")
						}
					},
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/.well-known/est/"+route, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/pkcs10")
				r.Header.Set("Expect", "100-continue")
				answer, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != c.want {
					t.Errorf("%s, want %d", answer.Status, c.want)
				}
				// Of a replaced board, the next one's factory identity alone is in force.
				if n := b.inForce("GW-0001"); c.replaced != (n == 1) {
					t.Errorf("%d certificates are in force", n)
				}
			})
		}
	}
}

// A certificate that a stolen authority made waits on a connection that was let in
// while its number was unknown. Then the gateway of that number is registered.
func TestAttackForgedFactoryIdentityEnrolsNothing(t *testing.T) {
	b := newBench(t)
	forged := b.as(b.provision("GW-0001", func(store.Gateway, store.Certificate) error { return nil }))
	if _, err := b.client.Enroll(t.Context(), forged, request(t, "GW-0001", newKey(t))); status(err) != http.StatusForbidden {
		t.Errorf("unknown: %v", err)
	}
	honest := b.as(b.factory("GW-0001"))
	if _, err := b.client.Enroll(t.Context(), forged, request(t, "GW-0001", newKey(t))); status(err) != http.StatusForbidden {
		t.Errorf("registered since, with another certificate: %v", err)
	}
	if _, err := b.client.Enroll(t.Context(), honest, request(t, "GW-0001", newKey(t))); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// replace registers another board under that serial number.
func (b *bench) replace(serial string) {
	b.provision(serial, func(g store.Gateway, c store.Certificate) error {
		return b.db.ReplaceGateway(context.Background(), g, c, "stolen")
	})
}

// inForce counts a gateway's certificates that are not revoked.
func (b *bench) inForce(serial string) (n int) {
	b.t.Helper()
	certs, err := b.db.Certificates(context.Background(), serial)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range certs {
		if c.Revoked.IsZero() {
			n++
		}
	}
	return n
}
