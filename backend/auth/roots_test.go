package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"penstock/certs/pki/tuf"
)

func TestBothIdentitiesLearnOfSignedRoots(t *testing.T) {
	s := serve(t)
	text, err := s.CA.TUFRoot()
	if err != nil {
		t.Fatal(err)
	}
	bench, err := tuf.ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]*http.Client{"factory identity": s.as(t, s.Gateway(t, "GW-0001")), "operational certificate": s.client(t, "GW-0001")}
	stranger := s.client(t, "GW-9999")
	for _, rotate := range []string{"root", "signing"} {
		if err := s.CA.Rotate(rotate); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range clients {
		res, body := s.ask(t, c, http.MethodGet, fmt.Sprintf("/v1/roots?root=%d&roots=0", bench.Version), "", "")
		var answer struct {
			Root    []json.RawMessage
			Targets json.RawMessage
		}
		if err := json.Unmarshal(body, &answer); err != nil || res.StatusCode != http.StatusOK || len(answer.Root) != 1 {
			t.Fatalf("%s: %s, %q, %v", name, res.Status, body, err)
		}
		next, err := bench.Next(answer.Root[0])
		if err != nil {
			t.Fatal(err)
		}
		targets, err := next.Targets(answer.Targets)
		if err != nil {
			t.Fatal(err)
		}
		res, body = s.ask(t, c, http.MethodGet, fmt.Sprintf("/v1/roots?root=%d&roots=%d", next.Version, targets.Version), "", "")
		if res.StatusCode != http.StatusNoContent || len(body) != 0 {
			t.Errorf("%s, who has everything: %s, %q", name, res.Status, body)
		}
	}
	for _, bad := range []string{"root=x", "roots=-1", "roots=1.5", "root=99999999999999999999"} {
		if res, body := s.ask(t, clients["factory identity"], http.MethodGet, "/v1/roots?"+bad, "", ""); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, %q", bad, res.Status, body)
		}
	}
	if res, _ := s.ask(t, stranger, http.MethodGet, "/v1/roots", "", ""); res.StatusCode != http.StatusForbidden {
		t.Errorf("an unknown gateway: %s", res.Status)
	}
}
