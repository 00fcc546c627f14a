package auth

import (
	"encoding/json"
	"net/http"

	"penstock/backend/problem"
	"penstock/certs/pki"
)

// time answers POST /v1/time: the time, signed with the server's certificate for
// the nonce of the question. It is the one route that a gateway may use before it
// knows the time, and either identity may.
func (s *service) time(w http.ResponseWriter, r *http.Request, g pki.Gateway) {
	var question struct {
		Nonce []byte `json:"nonce"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(&question); err != nil {
		problem.Write(w, http.StatusBadRequest, "the body is not the JSON of a question for the time: "+err.Error())
		return
	}
	cert, err := s.Certificate()
	if err != nil {
		s.Log.Error("the time cannot be signed", "gateway", g.Serial, "err", err)
		problem.Write(w, http.StatusServiceUnavailable, "The service cannot sign the time at the moment.")
		return
	}
	now := s.Clock.Now()
	if s.Guard != nil {
		if err := s.Guard.check(now); err != nil {
			w.Header().Set("Retry-After", "600")
			problem.Write(w, http.StatusServiceUnavailable, "The service cannot sign the time at the moment: "+err.Error()+".")
			return
		}
	}
	a, err := pki.SignTime(cert, question.Nonce, now)
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(a) //nolint:errcheck // the gateway went away
}
