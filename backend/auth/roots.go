package auth

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"penstock/backend/problem"
	"penstock/certs/pki"
)

// Roots has the roots that gateways shall trust, signed by keys that are not here;
// *pki.CA is one.
type Roots interface {
	// SignedRoots is what a gateway lacks that has these versions: root metadata,
	// oldest first, and the signed roots. The error is pki.ErrNoSigning where nothing
	// is signed.
	SignedRoots(root, roots int64) (chain [][]byte, targets []byte, err error)
}

// roots answers GET /v1/roots?root=1&roots=0: the numbers are the versions that the
// gateway has. Both identities may ask, since a gateway that no longer believes the
// endpoint may have nothing but its factory identity left.
func (s *service) roots(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
	var has [2]int64
	for i, name := range []string{"root", "roots"} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			problem.Write(w, http.StatusBadRequest, name+": "+strconv.Quote(text)+" is not the number of a version.")
			return
		}
		has[i] = int64(n)
	}
	chain, targets, err := s.Roots.SignedRoots(has[0], has[1])
	switch {
	case errors.Is(err, pki.ErrNoSigning):
		problem.Write(w, http.StatusNotFound, "No roots are signed here.")
		return
	case err != nil:
		s.Log.Error("the signed roots cannot be read", "gateway", g.Serial, "err", err)
		problem.Write(w, http.StatusServiceUnavailable, "The service cannot read the signed roots at the moment.")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if len(chain) == 0 && targets == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer := struct {
		Root    []json.RawMessage `json:"root,omitempty"`
		Targets json.RawMessage   `json:"targets,omitempty"`
	}{Targets: targets}
	for _, c := range chain {
		answer.Root = append(answer.Root, c)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the gateway went away
}
