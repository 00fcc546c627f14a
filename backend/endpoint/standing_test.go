package endpoint_test

import (
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"

	"penstock/certs/pki"
)

// A handshake that was let in before its certificate was revoked gets no further.
func TestStandingIsAskedAgainAtCONNECT(t *testing.T) {
	s := serve(t)
	var revoked atomic.Value
	revoked.Store("")
	s.stands = func(_ string, leaf *x509.Certificate) error {
		if pki.Number(leaf) == revoked.Load() {
			return errors.New("its board was replaced")
		}
		return nil
	}
	stolen := s.dial(t, "GW-0001")
	eventually(t, "a connection", func() bool { return s.endpoint.Stats().Connected == 1 })
	revoked.Store(numberOf(t, stolen))
	_ = connect("GW-0001").Write(stolen)
	stolen.mustBeClosed("a CONNECT with a certificate that was revoked since the handshake")
	s.gateway(t, "GW-0001").mustBeStored("of the new board")
	if n := s.store.all(); n != 1 {
		t.Errorf("%d publishes were stored", n)
	}
}

func TestDropIsOfOneCertificateOnly(t *testing.T) {
	s := serve(t)
	stolen := s.gateway(t, "GW-0001")
	present := s.dial(t, "GW-0001") // the present board, before its CONNECT
	eventually(t, "two connections", func() bool { return s.endpoint.Stats().Connected == 2 })
	s.endpoint.Drop("GW-0001", numberOf(t, stolen))
	stolen.mustBeClosed("Drop")
	present.send(connect("GW-0001"))
	present.receive()
	present.mustServe()
}

// numberOf is the number of the certificate that a client shows.
func numberOf(t *testing.T, c *client) string {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.shown.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return pki.Number(leaf)
}
